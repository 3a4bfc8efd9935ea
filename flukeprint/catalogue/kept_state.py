"""The present state in tables, kept in step with the log: a decision changes the rows that depend on it, and no others.

What decisions mean stands in present_state.py alone. Every function here is called in the transaction that adds to
the log. `recomputed` is the same state, worked out from the whole log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from flukeprint.catalogue.entities import (
    ABOUT_SIGHTINGS,
    DecisionRow,
    DecisionStateRow,
    EncounterRow,
    EncounterStateRow,
    IndividualRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
)
from flukeprint.catalogue.present_state import (
    Decision,
    Known,
    Standing,
    State,
    merged,
    renamed,
    standing,
    standing_of_photo,
    state_of,
)
from flukeprint.core.errors import FlukeprintError


def keep(connection: Connection, decision: Decision) -> None:
    """Bring the state up to date with a decision that was just added to the log."""
    connection.execute(insert(DecisionStateRow).values(decision_id=decision.id, holds=True))
    base = decision
    while base.undoes is not None:
        base = _decision(connection, base.undoes)
        _set_holds(connection, base.id)
    if base.action in ABOUT_SIGHTINGS:
        _keep_encounter(connection, _encounter_of(connection, base), decision.id)
    elif base.action == "merge":
        _keep_merges(connection)
    elif base.individual is not None:
        _keep_called(connection, base.individual)


def keep_new_individual(connection: Connection, key: int, first: Known) -> None:
    """Give a new individual its state."""
    connection.execute(insert(IndividualStateRow).values(key=key, id=first.id, name=first.name, merged_into=None))


def columns_of(standing_: Standing) -> dict[str, object]:
    """Return a standing as the columns of encounter_states and photo_states."""
    return standing_._asdict() | {"rejected": json.dumps(sorted(standing_.rejected))}


def read_standing(connection: Connection, encounter: int) -> Standing:
    """Return whom an encounter shows."""
    row = connection.execute(select(EncounterStateRow).where(EncounterStateRow.encounter_id == encounter)).one()
    return Standing(row.status, row.individual, keys_of(row.rejected))


# --- what depends on a decision ------------------------------------------------------------------------------


def _set_holds(connection: Connection, decision: int) -> None:
    """Look again whether a decision holds: if no undo of it does."""
    undos = select(DecisionStateRow.holds).join(DecisionRow, DecisionRow.id == DecisionStateRow.decision_id)
    holds = not any(connection.execute(undos.where(DecisionRow.undoes == decision)).scalars())
    connection.execute(update(DecisionStateRow).where(DecisionStateRow.decision_id == decision).values(holds=holds))


def _encounter_of(connection: Connection, decision: Decision) -> int:
    if decision.encounter is not None:
        return decision.encounter
    return connection.execute(select(PhotoRow.encounter_id).where(PhotoRow.id == decision.photo)).scalar_one()


def _keep_encounter(connection: Connection, encounter: int, version: int) -> None:
    """Work an encounter's state and that of its photos out anew, from the decisions about them."""
    now = standing(_those_that_hold(connection, DecisionRow.encounter_id == encounter))
    connection.execute(
        update(EncounterStateRow)
        .where(EncounterStateRow.encounter_id == encounter)
        .values(version=version, **columns_of(now))
    )
    photos = connection.execute(select(PhotoRow.id).where(PhotoRow.encounter_id == encounter)).scalars().all()
    about: dict[int, list[Decision]] = {photo: [] for photo in photos}
    for one in _those_that_hold(
        connection, DecisionRow.photo_id.in_(select(PhotoRow.id).where(PhotoRow.encounter_id == encounter))
    ):
        about[one.photo or 0].append(one)
    for photo in photos:
        own = standing_of_photo(about[photo], now)
        connection.execute(update(PhotoStateRow).where(PhotoStateRow.photo_id == photo).values(**columns_of(own)))


def _keep_merges(connection: Connection) -> None:
    """Work out anew who was merged into whom; merges are few."""
    roots = merged(_those_that_hold(connection, DecisionRow.action == "merge"))
    before = connection.execute(select(IndividualStateRow.key, IndividualStateRow.merged_into)).all()
    for key, into in before:
        if roots.get(key) != into:
            connection.execute(
                update(IndividualStateRow).where(IndividualStateRow.key == key).values(merged_into=roots.get(key))
            )


def _keep_called(connection: Connection, key: int) -> None:
    """Work out anew what an individual is called."""
    about = DecisionRow.individual == key
    now = renamed(_those_that_hold(connection, about, DecisionRow.action == "rename"), key, _first(connection)[key])
    values = {"id": now.id, "name": now.name}
    others = select(IndividualStateRow.key).where(IndividualStateRow.id == now.id, IndividualStateRow.key != key)
    if connection.execute(others).first():
        raise FlukeprintError(
            f"two individuals would be called {now.id}, because another one got this id. Rename that one first."
        )
    connection.execute(update(IndividualStateRow).where(IndividualStateRow.key == key).values(**values))


# --- the log -------------------------------------------------------------------------------------------------

_DECISION = (
    DecisionRow.id,
    DecisionRow.action,
    DecisionRow.encounter_id,
    DecisionRow.photo_id,
    DecisionRow.individual,
    DecisionRow.other,
    DecisionRow.undoes,
    DecisionRow.new_id,
    DecisionRow.new_name,
)


def _read(row: Any) -> Decision:
    return Decision(*row)


def _decision(connection: Connection, number: int) -> Decision:
    return _read(connection.execute(select(*_DECISION).where(DecisionRow.id == number)).one())


def _those_that_hold(connection: Connection, *conditions: ColumnElement[bool]) -> list[Decision]:
    query = select(*_DECISION).join(DecisionStateRow, DecisionStateRow.decision_id == DecisionRow.id)
    rows = connection.execute(query.where(DecisionStateRow.holds, *conditions).order_by(DecisionRow.id))
    return [_read(row) for row in rows]


def _first(connection: Connection) -> dict[int, Known]:
    rows = connection.execute(select(IndividualRow.key, IndividualRow.first_id, IndividualRow.first_name))
    return {key: Known(name, further) for key, name, further in rows}


# --- the whole state -----------------------------------------------------------------------------------------


def recomputed(connection: Connection) -> State:
    """Return the state as it follows from the whole log."""
    log = [_read(row) for row in connection.execute(select(*_DECISION).order_by(DecisionRow.id))]
    encounter_of = dict(connection.execute(select(PhotoRow.id, PhotoRow.encounter_id)).all())
    encounters: Iterable[int] = connection.execute(select(EncounterRow.id)).scalars().all()
    return state_of(log, encounter_of, encounters, _first(connection))


def kept(connection: Connection) -> State:
    """Return the state as it stands in the tables."""
    holds = connection.execute(select(DecisionStateRow.decision_id, DecisionStateRow.holds)).all()
    encounters = connection.execute(select(EncounterStateRow)).all()
    photos = connection.execute(select(PhotoStateRow)).all()
    individuals = connection.execute(select(IndividualStateRow)).all()
    return State(
        dict(holds),
        {row.encounter_id: Standing(row.status, row.individual, keys_of(row.rejected)) for row in encounters},
        {row.photo_id: Standing(row.status, row.individual, keys_of(row.rejected)) for row in photos},
        {row.key: Known(row.id, row.name, row.merged_into) for row in individuals},
        {row.encounter_id: row.version for row in encounters},
    )


def keys_of(text: str) -> frozenset[int]:
    """Return the individuals of a column `rejected`."""
    return frozenset(json.loads(text))


def disagreements(connection: Connection) -> Sequence[str]:
    """Say what of the kept state is not what follows from the log; nothing, unless somebody wrote past this program."""
    now, right = kept(connection), recomputed(connection)
    return [
        f"{part} {key} is {own.get(key)}, the log says {wanted.get(key)}"
        for part in ("holds", "encounters", "photos", "individuals", "versions")
        for own, wanted in [(getattr(now, part), getattr(right, part))]
        for key in sorted(own.keys() | wanted.keys())
        if own.get(key) != wanted.get(key)
    ]
