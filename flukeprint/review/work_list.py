"""What is to be decided, in order, a page at a time: asked of the database, which holds the order (AnswerRow)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Connection, Select, and_, distinct, exists, func, or_, select
from sqlalchemy.orm import aliased

from flukeprint.catalogue.decision_words import WORTH_TITLES
from flukeprint.catalogue.entities import (
    WORTHS,
    AnswerRow,
    DecisionRow,
    DecisionStateRow,
    EncounterRow,
    EncounterStateRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
)
from flukeprint.catalogue.import_plan import is_of_source, source_of
from flukeprint.catalogue.individual_ids import keys_by_now

# The kinds of answers (WORTHS); decided, and no second reviewer has agreed yet; somebody was unsure; not yet asked.
Kind = Literal["sure", "new", "doubtful", "second", "unsure", "unasked"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TITLES: dict[Kind, str] = {
    "sure": WORTH_TITLES["sure"],
    "new": WORTH_TITLES["new"],
    "doubtful": WORTH_TITLES["doubtful"],
    "second": "Decided by one reviewer: a second opinion is wanted",
    "unsure": "Somebody looked and was unsure",
    "unasked": "Not compared yet",
}
# Counting goes no further: whether 1,000 or 20,000 are left changes nothing for who decides the next one.
COUNTED = 1000
_NAMING = ("new", "confirm", "split")


@dataclass(frozen=True)
class WorkItem:
    """An encounter to be decided about."""

    encounter: int
    name: str
    date: str | None
    place: str | None
    photos: int
    sha256: str | None  # of its first photo
    best: str | None  # the first candidate's id
    probability: float | None  # of the first candidate
    new_probability: float | None


@dataclass(frozen=True)
class WorkList:
    """What is to be decided by somebody; `two` asks for second opinions, `source` leaves all others out."""

    connection: Connection
    who: str
    two: bool
    source: str | None = None

    def counts(self) -> dict[Kind, int]:
        """Return how many encounters of each kind there are, COUNTED at most."""
        found: dict[Kind, int] = {}
        for kind in KINDS:
            few = self._of(kind).with_only_columns(self._encounter(kind)).limit(COUNTED).subquery()
            found[kind] = self.connection.execute(select(func.count()).select_from(few)).scalar_one()
        return found

    def left(self) -> int:
        """Return how many encounters have a photo that nobody decided about, COUNTED at most."""
        own = () if self.source is None else (is_of_source(self.source),)
        few = select(EncounterRow.id).where(*own, _is_open(EncounterRow.id)).limit(COUNTED).subquery()
        return self.connection.execute(select(func.count()).select_from(few)).scalar_one()

    def items(self, kind: Kind, skipped: int, number: int) -> list[WorkItem]:
        """Return some encounters of a kind, in the order in which they are best decided."""
        query = self._ordered(kind).offset(skipped).limit(number)
        return described_items(self.connection, list(self.connection.execute(query).scalars()))

    def following(self, encounter: int, kind: Kind) -> int | None:
        """Return what comes after an encounter: of its kind, else of the next kinds, in a circle; None: no other."""
        place = KINDS.index(kind)
        first = self._ordered(kind).where(self._after(encounter, kind)).limit(1)
        found = self.connection.execute(first).scalar()
        for other in () if found is not None else (*KINDS[place + 1 :], *KINDS[: place + 1]):
            others = self._ordered(other).where(self._encounter(other) != encounter).limit(1)
            found = self.connection.execute(others).scalar()
            if found is not None:
                break
        return found

    def kind_of(self, encounter: int) -> Kind:
        """Return what kind an encounter is; of one that nobody has to decide about, what it was before."""
        for kind in ("second", "unsure"):
            if self.connection.execute(self._of(kind).where(self._encounter(kind) == encounter)).first():
                return kind
        worth = self.connection.execute(select(AnswerRow.worth).where(AnswerRow.encounter_id == encounter)).scalar()
        return "unasked" if worth is None else WORTHS[worth]

    def first(self) -> int | None:
        """Return the encounter to begin with."""
        for kind in KINDS:
            found = self.connection.execute(self._ordered(kind).limit(1)).scalar()
            if found is not None:
                return found
        return None

    def waiting(self, encounters: Collection[int]) -> set[int]:
        """Return which of some encounters wait for a second opinion that this reviewer is still to give."""
        query = self._second().where(AnswerRow.encounter_id.in_(encounters))
        return set(self.connection.execute(query).scalars()) if self.two else set()

    def _of(self, kind: Kind) -> Select[int]:
        query = self._of_all_sources(kind)
        if self.source is None:
            return query
        own = select(EncounterRow.id).where(EncounterRow.id == self._encounter(kind), is_of_source(self.source))
        return query.where(exists(own))

    def _of_all_sources(self, kind: Kind) -> Select[int]:
        if kind == "second":
            return self._second()
        if kind == "unsure":
            of_photos = select(PhotoRow.encounter_id).join(PhotoStateRow, PhotoStateRow.photo_id == PhotoRow.id)
            return of_photos.where(PhotoStateRow.status == "unsure").distinct()
        if kind == "unasked":
            asked = select(EncounterStateRow.encounter_id).outerjoin(
                AnswerRow, AnswerRow.encounter_id == EncounterStateRow.encounter_id
            )
            column = EncounterStateRow.encounter_id
            return asked.where(AnswerRow.encounter_id.is_(None), EncounterStateRow.status == "open", _is_open(column))
        return select(AnswerRow.encounter_id).where(
            AnswerRow.worth == WORTHS.index(kind), _is_open(AnswerRow.encounter_id)
        )

    def _ordered(self, kind: Kind) -> Select[int]:
        query = self._of(kind)
        if kind in WORTHS:
            return query.order_by(AnswerRow.certainty.desc(), AnswerRow.encounter_id)
        return query.order_by(self._encounter(kind))

    def _encounter(self, kind: Kind) -> Any:
        if kind == "unsure":
            return PhotoRow.encounter_id
        return EncounterStateRow.encounter_id if kind == "unasked" else AnswerRow.encounter_id

    def _after(self, encounter: int, kind: Kind) -> ColumnElement[bool]:
        later: ColumnElement[bool] = self._encounter(kind) > encounter
        if kind not in WORTHS:
            return later
        own = self.connection.execute(select(AnswerRow.certainty).where(AnswerRow.encounter_id == encounter)).scalar()
        if own is None:
            return later
        return or_(AnswerRow.certainty < own, and_(AnswerRow.certainty == own, later))

    def _second(self) -> Select[int]:
        """Select decided encounters on which no two people agree, of those that this reviewer did not decide."""
        state = EncounterStateRow
        query = select(AnswerRow.encounter_id).join(state, state.encounter_id == AnswerRow.encounter_id)
        own = exists(_opinions(AnswerRow.encounter_id).where(DecisionRow.who == self.who))
        if not self.two:
            return query.where(AnswerRow.encounter_id.is_(None))
        return query.where(state.status == "confirmed", ~own, _agreeing(AnswerRow.encounter_id) < 2)


def _is_open(encounter: Any) -> ColumnElement[bool]:
    """Tell of an encounter whether nobody has decided yet whom one of its photos shows."""
    of_photos = select(PhotoRow.id).join(PhotoStateRow, PhotoStateRow.photo_id == PhotoRow.id)
    return exists(of_photos.where(PhotoRow.encounter_id == encounter, PhotoStateRow.status == "open"))


def _opinions(encounter: Any) -> Select[int]:
    """Select the decisions of people about whom an encounter shows, those that hold; what an import brought is none."""
    query = select(DecisionRow.id).join(DecisionStateRow, DecisionStateRow.decision_id == DecisionRow.id)
    return query.where(DecisionRow.encounter_id == encounter, DecisionStateRow.holds, DecisionRow.action.in_(_NAMING))


def _agreeing(encounter: Any) -> Any:
    """Count the people whose decisions about an encounter name whom it shows now."""
    named, now = aliased(IndividualStateRow), aliased(IndividualStateRow)
    state = aliased(EncounterStateRow)
    same = func.coalesce(named.merged_into, named.key) == func.coalesce(now.merged_into, now.key)
    query = (
        _opinions(encounter)
        .with_only_columns(func.count(distinct(DecisionRow.who)))
        .join(named, named.key == DecisionRow.individual)
        .join(state, state.encounter_id == DecisionRow.encounter_id)
        .join(now, now.key == state.individual)
    )
    return query.where(same).scalar_subquery()


def newest_source(connection: Connection) -> str | None:
    """Return the source of the newest encounter that was, or is, to be decided; None where it is not known."""
    asked = select(func.max(AnswerRow.encounter_id))
    still = select(func.max(EncounterStateRow.encounter_id)).where(EncounterStateRow.status == "open")
    numbers = [connection.execute(query).scalar() or 0 for query in (asked, still)]
    key = connection.execute(select(EncounterRow.key).where(EncounterRow.id == max(numbers))).scalar()
    return None if key is None else source_of(key)


def is_settled(connection: Connection, encounter: int) -> bool:
    """Tell whether two people agree on whom an encounter shows."""
    return bool(connection.execute(select(_agreeing(encounter))).scalar_one() >= 2)


def deciders(connection: Connection, encounter: int) -> dict[str, str]:
    """Return whom an encounter shows by each person's last decision that holds."""
    query = _opinions(encounter).with_only_columns(DecisionRow.who, IndividualStateRow.id)
    query = query.join(IndividualStateRow, IndividualStateRow.key == DecisionRow.individual).order_by(DecisionRow.id)
    return dict(connection.execute(query).all())


def described_items(connection: Connection, encounters: Sequence[int]) -> list[WorkItem]:
    """Return encounters as a list shows them, in the order given."""
    photos = select(PhotoRow.encounter_id, func.count(), func.min(PhotoRow.id)).group_by(PhotoRow.encounter_id)
    count = {row[0]: row[1:] for row in connection.execute(photos.where(PhotoRow.encounter_id.in_(encounters)))}
    firsts = [first for _, first in count.values()]
    sha256 = dict(connection.execute(select(PhotoRow.id, PhotoRow.sha256).where(PhotoRow.id.in_(firsts))).all())
    query = select(EncounterRow, AnswerRow.content).outerjoin(AnswerRow, AnswerRow.encounter_id == EncounterRow.id)
    rows = {row.id: row for row in connection.execute(query.where(EncounterRow.id.in_(encounters)))}
    answers = {number: json.loads(row.content or "{}") for number, row in rows.items()}
    bests: dict[int, dict[str, Any]] = {
        number: next(iter(answer.get("candidates", ())), {}) for number, answer in answers.items()
    }
    called = _called_now(connection, {best["id"] for best in bests.values() if best})
    found = []
    for number in encounters:
        row, (photo_count, first) = rows[number], count.get(number, (0, None))
        best = bests[number]
        found.append(
            WorkItem(
                number, row.name, row.date, row.place, photo_count, sha256.get(first or 0), called.get(best.get("id")),
                best.get("probability"), answers[number].get("new_probability"),
            )
        )  # fmt: skip
    return found


def _called_now(connection: Connection, ids: set[str]) -> dict[str | None, str]:
    """Return what those are called now whom an answer named by these ids."""
    keys = keys_by_now(connection, ids)
    state = IndividualStateRow
    present = dict(connection.execute(select(state.key, state.id).where(state.key.in_(keys.values()))).all())
    return {name: present[key] for name, key in keys.items()}
