"""Adding to the log of decisions: what may be decided, by whom who has seen what, and what is refused.

Several decisions at once are saved all or none. A decision about a photo or an encounter names the last decision about
the encounter that its author had seen: if there is a younger one by now, somebody else decided meanwhile, and the
second one is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from flukeprint.catalogue.catalogues import Catalogue, command
from flukeprint.catalogue.entities import (
    ABOUT_SIGHTINGS,
    IMPORT_NOTE,
    Action,
    AnswerRow,
    DecisionRow,
    DecisionStateRow,
    EncounterStateRow,
    ModelRow,
    PhotoRow,
    PhotoStateRow,
)
from flukeprint.catalogue.individual_ids import individual_key, new_individual, refuse_taken, root_of
from flukeprint.catalogue.kept_state import keep
from flukeprint.catalogue.present_state import Decision
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable


class ConflictError(FlukeprintError):
    """Somebody else decided about the encounter meanwhile."""


@dataclass(frozen=True)
class Wish:
    """A decision that somebody wants to be saved. Individuals are named by their ids."""

    action: Action
    encounter: int | None = None
    photo: int | None = None
    individual: str | None = None
    other: str | None = None  # split: whom it was taken for, if that is to be compared; merge: into whom
    undoes: int | None = None
    new_id: str | None = None
    new_name: str | None = None
    note: str | None = None
    seen: int | None = 0  # the last decision about the encounter that its author saw; 0: none; None: don't compare


def decide(catalogue: Catalogue, wishes: Sequence[Wish], who: str) -> list[int]:
    """Save decisions, all or none; return their numbers in the log.

    Raises:
        ConflictError: somebody decided about the encounter after what the author had seen.
        FlukeprintError: a decision makes no sense: what it names is not there, or an id is taken.
    """
    with catalogue.database.writing() as connection:
        return save(connection, wishes, who)


def save(connection: Connection, wishes: Sequence[Wish], who: str) -> list[int]:
    """Do what `decide` does, in a transaction of the caller."""
    if not who.strip() or not who.isprintable():
        raise FlukeprintError(f"who decides is {who!r}, expected a name: every decision says whose it is (--who NAME).")
    for wish in wishes:
        if wish.note == IMPORT_NOTE:
            raise FlukeprintError(f"the note {IMPORT_NOTE!r} is what imports leave in the log. Say it in other words.")
        _refuse_what_was_not_seen(connection, wish)
    created: set[str] = set()
    return [_save(connection, wish, who, created) for wish in wishes]


def _save(connection: Connection, wish: Wish, who: str, created: set[str]) -> int:
    individual, other = _CHECKS[wish.action](connection, wish, created)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    content: dict[str, Any] = {
        "action": wish.action,
        "encounter_id": wish.encounter,
        "photo_id": wish.photo,
        "individual": individual,
        "other": other,
        "undoes": wish.undoes,
        "new_id": wish.new_id,
        "new_name": wish.new_name,
    }
    shown = _shown(connection, wish) if wish.action in ABOUT_SIGHTINGS else {}
    seen = wish.seen if wish.action in ABOUT_SIGHTINGS else None
    further = {"at": now, "who": who, "seen": seen, "note": wish.note, **shown}
    [number] = connection.execute(insert(DecisionRow).values(**content, **further)).inserted_primary_key or (0,)
    keep(connection, Decision(number, *content.values()))
    return int(number)


def encounter_of(connection: Connection, wish: Wish) -> int:
    """Return the encounter that a decision about a photo or an encounter is about; refuse one that is not there."""
    if (wish.encounter is None) == (wish.photo is None):
        raise FlukeprintError(f"{wish.action} is about an encounter or a photo. Name one.")
    if wish.photo is not None:
        found = connection.execute(select(PhotoRow.encounter_id).where(PhotoRow.id == wish.photo)).scalar()
    else:
        found = connection.execute(
            select(EncounterStateRow.encounter_id).where(EncounterStateRow.encounter_id == wish.encounter)
        ).scalar()
    if found is None:
        name = f"encounter e{wish.encounter}" if wish.photo is None else f"photo p{wish.photo}"
        raise FlukeprintError(
            f"there is no {name}. `flukeprint catalogue export sightings FILE.csv` lists all of them."
        )
    return found


def _refuse_what_was_not_seen(connection: Connection, wish: Wish) -> None:
    if wish.action not in ABOUT_SIGHTINGS or wish.seen is None:
        return
    encounter = encounter_of(connection, wish)
    version = connection.execute(
        select(EncounterStateRow.version).where(EncounterStateRow.encounter_id == encounter)
    ).scalar_one()
    if version == wish.seen:
        return
    if not version:
        raise FlukeprintError(f"decision {wish.seen} is not about encounter e{encounter}: nothing was decided yet.")
    last = connection.execute(select(DecisionRow).where(DecisionRow.id == version)).one()
    raise ConflictError(
        f"encounter e{encounter} was decided by {printable(last.who)} at {last.at}, after what you saw (decision "
        f"{version}: {last.action}). Look again (`flukeprint catalogue show e{encounter}`), then decide with "
        f"--seen {version}."
    )


def _shown(connection: Connection, wish: Wish) -> dict[str, str]:
    """Return the candidates that were last shown of the encounter, and the model that named them."""
    found = connection.execute(
        select(AnswerRow.content, ModelRow.fingerprint)
        .join(ModelRow, ModelRow.id == AnswerRow.model_id)
        .where(AnswerRow.encounter_id == encounter_of(connection, wish))
    ).one_or_none()
    return {} if found is None else {"shown": found.content, "model": found.fingerprint}


# --- what each action needs: a function from a wish to the keys of its individuals ------------------------------

_Keys = tuple[int | None, int | None]


def _check_new(connection: Connection, wish: Wish, created: set[str]) -> _Keys:
    return _individual_made(connection, wish, created), None


def _individual_made(connection: Connection, wish: Wish, created: set[str]) -> int:
    """Return the key of a new individual, which may be that of another decision saved at once with this one."""
    encounter_of(connection, wish)
    name = wish.individual or ""
    if name in created:
        return individual_key(connection, name)
    created.add(name)
    return new_individual(connection, name, wish.new_name)


def _check_confirm(connection: Connection, wish: Wish, _created: set[str]) -> _Keys:
    encounter_of(connection, wish)
    return individual_key(connection, wish.individual), None


def _check_unsure(connection: Connection, wish: Wish, _created: set[str]) -> _Keys:
    encounter_of(connection, wish)
    return None, None


def _check_reject(connection: Connection, wish: Wish, _created: set[str]) -> _Keys:
    key, decided = individual_key(connection, wish.individual), _decided(connection, wish)
    # Of individuals that were merged, the one that was decided: the rejection holds after the merge is undone as well.
    return (decided if decided is not None and root_of(connection, decided) == key else key), None


def _check_split(connection: Connection, wish: Wish, created: set[str]) -> _Keys:
    decided = _decided(connection, wish)
    if decided is None:
        name = f"photo p{wish.photo}" if wish.encounter is None else f"encounter e{wish.encounter}"
        raise FlukeprintError(f"{name} shows no individual at present that it could be split from. Use `new`.")
    if wish.other is not None and root_of(connection, decided) != individual_key(connection, wish.other):
        raise FlukeprintError(f"it does not show {printable(wish.other)} at present, so it cannot be split from it.")
    return _individual_made(connection, wish, created), decided


def _decided(connection: Connection, wish: Wish) -> int | None:
    """Return the individual that a photo or encounter shows, as decided, or None."""
    encounter = encounter_of(connection, wish)
    if wish.photo is not None:
        return connection.execute(
            select(PhotoStateRow.individual).where(PhotoStateRow.photo_id == wish.photo)
        ).scalar_one()
    return connection.execute(
        select(EncounterStateRow.individual).where(EncounterStateRow.encounter_id == encounter)
    ).scalar_one()


def _check_merge(connection: Connection, wish: Wish, _created: set[str]) -> _Keys:
    key, into = individual_key(connection, wish.individual, merged=True), individual_key(connection, wish.other)
    root = root_of(connection, key)
    if root == into:
        raise FlukeprintError(f"{wish.individual} and {wish.other} are one individual already.")
    if root != key:
        raise FlukeprintError(f"{wish.individual} was merged before. Merge the individual that it is part of.")
    return key, into


def _check_rename(connection: Connection, wish: Wish, _created: set[str]) -> _Keys:
    if wish.new_id is None and wish.new_name is None:
        raise FlukeprintError("nothing to rename: name a new id (--to ID) or a new name (--name NAME).")
    key = individual_key(connection, wish.individual, merged=True)
    if wish.new_id is not None:
        refuse_taken(connection, wish.new_id, key)
    return key, None


def _check_undo(connection: Connection, wish: Wish, _created: set[str]) -> _Keys:
    holds = connection.execute(
        select(DecisionStateRow.holds).where(DecisionStateRow.decision_id == wish.undoes)
    ).scalar()
    if holds is None:
        raise FlukeprintError(f"there is no decision {wish.undoes}. `flukeprint catalogue log` lists them.")
    if not holds:
        undo = connection.execute(_undos(wish.undoes)).scalars().first()
        raise FlukeprintError(
            f"decision {wish.undoes} was undone already, by decision {undo}. To have it back: undo {undo}."
        )
    return None, None


def _undos(number: int | None) -> Any:
    holds = select(DecisionRow.id).join(DecisionStateRow, DecisionStateRow.decision_id == DecisionRow.id)
    return holds.where(DecisionRow.undoes == number, DecisionStateRow.holds)


_CHECKS = {
    "new": _check_new,
    "confirm": _check_confirm,
    "reject": _check_reject,
    "unsure": _check_unsure,
    "split": _check_split,
    "merge": _check_merge,
    "rename": _check_rename,
    "undo": _check_undo,
}


def undone_by(numbers: Iterable[int], place: str) -> str:
    """Return the command that takes decisions back."""
    return command(place, "decide", "undo", *map(str, sorted(numbers, reverse=True)))
