"""Individuals by their present ids: finding them, and which ids can be given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from flukeprint.catalogue.database import inserted
from flukeprint.catalogue.entities import (
    DecisionRow,
    EncounterStateRow,
    IndividualRow,
    IndividualStateRow,
    PhotoStateRow,
)
from flukeprint.catalogue.kept_state import keep_new_individual
from flukeprint.catalogue.present_state import Known
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable
from flukeprint.retrieval.names import check_ids


def individual_key(connection: Connection, name: str | None, *, merged: bool = False) -> int:
    """Return the key of the individual of an id, of one that was merged that of whom it is.

    `merged` returns the key of a merged individual itself.
    """
    row = _found(connection, name)
    if row is None:
        raise FlukeprintError(
            f"there is no individual {printable(name)}. Check the spelling (`flukeprint catalogue export individuals "
            "FILE.csv` lists all of them); a whale that is not in the catalogue yet is decided with `new`."
        )
    return int(row.key if merged or row.merged_into is None else row.merged_into)


def new_individual(connection: Connection, name: str, display: str | None = None) -> int:
    """Return the key of a new individual; refuse an id that is taken."""
    check_ids([name])
    row = _found(connection, name)
    if row is not None and _is_free(connection, row):
        return int(row.key)
    refuse_taken(connection, name)
    added = connection.execute(insert(IndividualRow).values(first_id=name, first_name=display))
    [key] = added.inserted_primary_key or (0,)
    keep_new_individual(connection, key, Known(name, display))
    return int(key)


def new_individuals(connection: Connection, names: Mapping[str, str | None]) -> dict[str, int]:
    """Return the keys of individuals whose ids nobody has, by these ids; `names` are what they are called besides.

    As many as an import finds are made at once: one by one they took a fifth of its time beside the networks.
    """
    check_ids(names)
    rows = ({"first_id": name, "first_name": display} for name, display in names.items())
    keys = dict(zip(names, inserted(connection, IndividualRow, IndividualRow.key, rows), strict=True))
    states = ({"key": key, "id": name, "name": names[name], "merged_into": None} for name, key in keys.items())
    inserted(connection, IndividualStateRow, None, states)
    return keys


def refuse_taken(connection: Connection, name: str, key: int | None = None) -> None:
    """Refuse an id that cannot be one, or that another individual than `key` has."""
    check_ids([name])
    row = _found(connection, name)
    if row is None or row.key == key:
        return
    if row.merged_into is None:
        raise FlukeprintError(
            f"there is an individual {name} already. If both are one whale: `flukeprint catalogue decide merge`."
        )
    into = connection.execute(select(IndividualStateRow.id).where(IndividualStateRow.key == row.merged_into)).scalar()
    raise FlukeprintError(f"the id {name} is that of an individual that was merged into {into}. Choose another id.")


def _found(connection: Connection, name: str | None) -> Any:
    return connection.execute(select(IndividualStateRow).where(IndividualStateRow.id == name)).one_or_none()


def _is_free(connection: Connection, row: Any) -> bool:
    """Tell whether an individual shows on nothing, as after its `new` was undone, so that its id can be used again."""
    uses = [
        select(PhotoStateRow.photo_id).where(PhotoStateRow.individual == row.key),
        select(EncounterStateRow.encounter_id).where(EncounterStateRow.individual == row.key),
        select(IndividualStateRow.key).where(IndividualStateRow.merged_into == row.key),
    ]
    return row.merged_into is None and not any(connection.execute(use.limit(1)).first() for use in uses)


def root_of(connection: Connection, key: int) -> int:
    """Return the key of whom an individual was merged into, or its own."""
    into = connection.execute(select(IndividualStateRow.merged_into).where(IndividualStateRow.key == key)).scalar_one()
    return key if into is None else into


def ever_called(connection: Connection) -> dict[str, int]:
    """Return the key of every id that there is or was; a present id goes before an old one of somebody else."""
    first = connection.execute(select(IndividualRow.first_id, IndividualRow.key))
    later = connection.execute(
        select(DecisionRow.new_id, DecisionRow.individual)
        .where(DecisionRow.action == "rename")
        .order_by(DecisionRow.id)
    )
    now = connection.execute(select(IndividualStateRow.id, IndividualStateRow.key))
    return {name: key for rows in (first, later, now) for name, key in rows if name is not None and key is not None}


def keys_by_now(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """Return the key of whom each id means by now, also where that individual was renamed or merged since."""
    state = IndividualStateRow
    found = dict(connection.execute(select(state.id, state.key).where(state.id.in_(ids))).all())
    if len(found) < len(set(ids)):
        found |= {name: key for name, key in ever_called(connection).items() if name in ids}
    merged = connection.execute(select(state.key, state.merged_into).where(state.key.in_(found.values())))
    root = {key: into or key for key, into in merged}
    return {name: root[key] for name, key in found.items()}
