"""What a catalogue holds at present, to be read: sightings, encounters, individuals, and the log. Nothing is changed.

This is what queues, exports, snapshots and pages are made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select
from sqlalchemy.orm import aliased

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import (
    IMPORT_NOTE,
    DecisionRow,
    DecisionStateRow,
    EncounterRow,
    EncounterStateRow,
    IndividualRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
)


@dataclass(frozen=True)
class Sighting:
    """A photo, the encounter that it belongs to, and whom it shows."""

    photo: int
    sha256: str
    name: str  # of the file that was imported
    file: Path  # where the photo is now
    taken_at: str | None  # ISO 8601, as exact as it is known
    latitude: float | None  # degrees, WGS 84
    longitude: float | None
    photographer: str | None
    viewpoint: str | None
    quality: str | None
    flags: tuple[str, ...]  # rules of quality/rules.py
    encounter: int
    encounter_name: str
    date: str | None  # of the encounter, else of the photo
    place: str | None
    notes: str | None  # on the encounter
    individual: str | None  # present id, after merges and renames
    individual_name: str | None
    status: str  # open, confirmed or unsure


@dataclass(frozen=True)
class Individual:
    """A whale, and how often it was seen."""

    key: int
    id: str
    name: str | None
    notes: str | None
    merged: tuple[str, ...]  # ids of those that turned out to be this one
    photos: int
    encounters: int


@dataclass(frozen=True)
class Encounter:
    """An encounter as a whole. Single photos of it may have been decided otherwise."""

    id: int
    name: str
    date: str | None
    place: str | None
    notes: str | None
    status: str
    individual: str | None
    rejected: frozenset[str]  # ids of individuals that it does not show
    version: int  # the last decision about it or one of its photos; 0: none
    photos: tuple[int, ...]


@dataclass(frozen=True)
class LoggedDecision:
    """A decision, as people read it."""

    id: int
    at: str
    who: str
    action: str
    encounter: int | None
    photo: int | None
    individual: str | None  # its own present id, also of one that was merged
    other: str | None
    undoes: int | None
    seen: int | None
    new_id: str | None
    new_name: str | None
    model: str | None
    shown: Any
    note: str | None
    holds: bool

    @property
    def imported(self) -> bool:
        """Tell whether it is what an import said of an encounter."""
        return self.note == IMPORT_NOTE


@dataclass(frozen=True)
class Holdings:
    """All that a catalogue holds as of one moment."""

    sightings: list[Sighting]
    encounters: list[Encounter]
    individuals: list[Individual]


def holdings_of(catalogue: Catalogue) -> Holdings:
    """Read everything but the log, the vectors and the thumbnails."""
    with catalogue.database.reading() as connection:
        return read_holdings(catalogue, connection)


def read_holdings(catalogue: Catalogue, connection: Connection) -> Holdings:
    """Do it on a connection, as of its moment."""
    called = present_ids(connection)
    sightings = read_sightings(catalogue, connection)
    photos: dict[int, list[int]] = {}
    for one in sightings:
        photos.setdefault(one.encounter, []).append(one.photo)
    encounters = [_encounter(row, called, photos) for row in connection.execute(_encounters())]
    return Holdings(sightings, encounters, _individuals(connection, sightings))


def read_sightings(catalogue: Catalogue, connection: Connection, *conditions: ColumnElement[bool]) -> list[Sighting]:
    """Read the photos that meet conditions on PhotoRow, EncounterRow or PhotoStateRow, in order of their numbers."""
    return [_sighting(catalogue, row) for row in connection.execute(_sightings().where(*conditions))]


def _sightings() -> Select[*tuple[Any, ...]]:
    """Select photos with their encounters and, of whom they show, the individual that it was merged into."""
    decided, present = aliased(IndividualStateRow), aliased(IndividualStateRow)
    return (
        select(
            *(PhotoRow.id, PhotoRow.sha256, PhotoRow.name, PhotoRow.path, PhotoRow.stored, PhotoRow.taken_at),
            *(PhotoRow.latitude, PhotoRow.longitude, PhotoRow.photographer, PhotoRow.viewpoint, PhotoRow.quality),
            *(PhotoRow.flags, PhotoRow.encounter_id),
            EncounterRow.name.label("encounter_name"),
            func.coalesce(EncounterRow.date, func.substr(PhotoRow.taken_at, 1, 10)).label("seen_on"),
            EncounterRow.place,
            EncounterRow.notes,
            PhotoStateRow.status,
            present.id.label("individual"),
            present.name.label("individual_name"),
        )
        .join(EncounterRow, EncounterRow.id == PhotoRow.encounter_id)
        .join(PhotoStateRow, PhotoStateRow.photo_id == PhotoRow.id)
        .outerjoin(decided, decided.key == PhotoStateRow.individual)
        .outerjoin(present, present.key == func.coalesce(decided.merged_into, decided.key))
        .order_by(PhotoRow.id)
    )


def _sighting(catalogue: Catalogue, row: Any) -> Sighting:
    return Sighting(
        photo=row.id,
        sha256=row.sha256,
        name=row.name,
        file=catalogue.file_of(row.stored, row.path),
        taken_at=row.taken_at,
        latitude=row.latitude,
        longitude=row.longitude,
        photographer=row.photographer,
        viewpoint=row.viewpoint,
        quality=row.quality,
        flags=tuple(row.flags.split()),
        encounter=row.encounter_id,
        encounter_name=row.encounter_name,
        date=row.seen_on,
        place=row.place,
        notes=row.notes,
        individual=row.individual,
        individual_name=row.individual_name,
        status=row.status,
    )


def _encounters() -> Select[*tuple[Any, ...]]:
    return (
        select(EncounterRow, EncounterStateRow)
        .join(EncounterStateRow, EncounterStateRow.encounter_id == EncounterRow.id)
        .order_by(EncounterRow.id)
    )


def _encounter(row: Any, called: Mapping[int, str], photos: Mapping[int, list[int]]) -> Encounter:
    return Encounter(
        id=row.id,
        name=row.name,
        date=row.date,
        place=row.place,
        notes=row.notes,
        status=row.status,
        individual=None if row.individual is None else called[row.individual],
        rejected=frozenset(called[key] for key in json.loads(row.rejected)),
        version=row.version,
        photos=tuple(photos.get(row.id, ())),
    )


def own_ids(connection: Connection) -> dict[int, str]:
    """Return the present id of every individual by its key; merged ones keep an id of their own."""
    rows = connection.execute(select(IndividualStateRow.key, IndividualStateRow.id))
    return dict(rows.all())


def present_ids(connection: Connection) -> dict[int, str]:
    """Return the present id of every individual by its key, of merged ones that of whom they were merged into."""
    own = own_ids(connection)
    merges = connection.execute(
        select(IndividualStateRow.key, IndividualStateRow.merged_into).where(
            IndividualStateRow.merged_into.is_not(None)
        )
    )
    return own | {key: own[into] for key, into in merges if into is not None}


def _individuals(connection: Connection, sightings: list[Sighting]) -> list[Individual]:
    """Return the individuals that were not merged into others, sorted by id; one of no photo is there as well."""
    rows = connection.execute(
        select(IndividualStateRow, IndividualRow.notes)
        .join(IndividualRow, IndividualRow.key == IndividualStateRow.key)
        .order_by(IndividualStateRow.key)
    ).all()
    merged: dict[int, list[str]] = {}
    for row in rows:
        if row.merged_into is not None:
            merged.setdefault(row.merged_into, []).append(row.id)
    photos: dict[str | None, int] = {}
    encounters: dict[str | None, set[int]] = {}
    for one in sightings:
        photos[one.individual] = photos.get(one.individual, 0) + 1
        encounters.setdefault(one.individual, set()).add(one.encounter)
    return sorted(
        (
            Individual(
                row.key, row.id, row.name, row.notes, tuple(merged.get(row.key, ())), photos.get(row.id, 0),
                len(encounters.get(row.id, ())),
            )
            for row in rows
            if row.merged_into is None
        ),
        key=lambda one: one.id,
    )  # fmt: skip


def decisions_of(catalogue: Catalogue) -> list[LoggedDecision]:
    """Read the log, oldest decision first."""
    with catalogue.database.reading() as connection:
        return read_log(connection)


def read_log(
    connection: Connection, *conditions: ColumnElement[bool], newest: int | None = None
) -> list[LoggedDecision]:
    """Read the decisions that meet conditions on DecisionRow, oldest first; `newest` so many of the newest alone."""
    individual, other = aliased(IndividualStateRow), aliased(IndividualStateRow)
    query = (
        select(DecisionRow, DecisionStateRow.holds, individual.id.label("whom"), other.id.label("whom_else"))
        .join(DecisionStateRow, DecisionStateRow.decision_id == DecisionRow.id)
        .outerjoin(individual, individual.key == DecisionRow.individual)
        .outerjoin(other, other.key == DecisionRow.other)
        .where(*conditions)
        .order_by(DecisionRow.id.desc())
    )
    return [_logged(row) for row in connection.execute(query.limit(newest))][::-1]


def _logged(row: Any) -> LoggedDecision:
    return LoggedDecision(
        id=row.id,
        at=row.at,
        who=row.who,
        action=row.action,
        encounter=row.encounter_id,
        photo=row.photo_id,
        individual=row.whom,
        other=row.whom_else,
        undoes=row.undoes,
        seen=row.seen,
        new_id=row.new_id,
        new_name=row.new_name,
        model=row.model,
        shown=None if row.shown is None else json.loads(row.shown),
        note=row.note,
        holds=row.holds,
    )
