"""An individual with its sightings and who decided what; and finding individuals, encounters and photos by a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import (
    DecisionRow,
    EncounterRow,
    IndividualRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
)
from flukeprint.catalogue.second_names import SecondName, open_second_names
from flukeprint.catalogue.sightings import LoggedDecision, Sighting, read_log, read_sightings
from flukeprint.core.errors import FlukeprintError
from flukeprint.review.pages import Visitor
from flukeprint.review.second_opinions import kept_from, untold
from flukeprint.review.shown_photos import ShownPhoto, shown_photo

_MOST_SIGHTINGS = 300  # photos on a page
_MOST_FOUND = 50  # of each kind
Order = Literal["id", "photos"]  # of individuals: by id, or those with the most photos first


@dataclass(frozen=True)
class SightingsOfEncounter:
    """An encounter's photos of an individual."""

    encounter: int
    name: str
    date: str | None
    place: str | None
    photos: list[ShownPhoto]


@dataclass(frozen=True)
class IndividualView:
    """A whale."""

    key: int
    id: str
    name: str | None
    notes: str | None
    merged: list[str]
    photo_count: int
    encounters: list[SightingsOfEncounter]  # the newest first, those without a date last
    positions: list[tuple[float, float, str]]  # latitude, longitude, what was there
    second_names: list[SecondName]  # questions that name it
    log: list[LoggedDecision]


@dataclass(frozen=True)
class ListedIndividual:
    """A whale in a list."""

    key: int
    id: str
    name: str | None
    photos: int
    sha256: str | None  # of one of its photos


@dataclass(frozen=True)
class FoundThings:
    """What a word finds."""

    individuals: list[ListedIndividual]
    encounters: list[tuple[int, str, str | None, str | None]]  # number, name, date, place
    photos: list[tuple[int, str, int]]  # number, name, encounter


def individual_view(catalogue: Catalogue, key: int, visitor: Visitor) -> IndividualView:
    """Read an individual; of one that was merged, whom it is now. What is kept from the visitor is left out.

    Raises:
        FlukeprintError: there is no such individual.
    """
    state = IndividualStateRow
    with catalogue.database.reading() as connection:
        found = connection.execute(select(state.merged_into).where(state.key == key)).one_or_none()
        if found is None:
            raise FlukeprintError(f"there is no individual with the number {key}. Look for it by its id.")
        root = found.merged_into or key
        query = select(state.id, state.name, IndividualRow.notes).join(IndividualRow, IndividualRow.key == state.key)
        row = connection.execute(query.where(state.key == root)).one()
        others = connection.execute(select(state.key, state.id).where(state.merged_into == root)).all()
        keys = [root, *(other.key for other in others)]
        sightings = read_sightings(catalogue, connection, PhotoStateRow.individual.in_(keys))
        names = open_second_names(connection, individual=root)
        kept = kept_from(connection, visitor, {one.encounter for one in sightings} | {one.encounter for one in names})
        sightings = [one for one in sightings if one.encounter not in kept]
        log = _log(connection, keys, {one.encounter for one in sightings})
        left_out = untold(connection, visitor, log)
        return IndividualView(
            key=root,
            id=row.id,
            name=row.name,
            notes=row.notes,
            merged=[other.id for other in others],
            photo_count=len(sightings),
            encounters=_by_encounter(sightings[:_MOST_SIGHTINGS]),
            positions=[
                (one.latitude, one.longitude, f"e{one.encounter} {one.date or ''}")
                for one in sightings
                if one.latitude is not None and one.longitude is not None
            ],
            second_names=[one for one in names if one.encounter not in kept],
            log=[one for one in log if one.id not in left_out],
        )


def _by_encounter(sightings: Sequence[Sighting]) -> list[SightingsOfEncounter]:
    groups: dict[int, list[Sighting]] = {}
    for one in sightings:
        groups.setdefault(one.encounter, []).append(one)
    found = [
        SightingsOfEncounter(
            number, own[0].encounter_name, own[0].date, own[0].place, [shown_photo(one) for one in own]
        )
        for number, own in groups.items()
    ]
    return sorted(found, key=lambda one: (one.date or "", one.encounter), reverse=True)


def _log(connection: Connection, keys: Sequence[int], encounters: set[int]) -> list[LoggedDecision]:
    """Return the decisions that name the individual or are about its encounters, and their undos; newest first."""
    named = or_(DecisionRow.individual.in_(keys), DecisionRow.other.in_(keys))
    about = or_(named, DecisionRow.encounter_id.in_(sorted(encounters)[:_MOST_SIGHTINGS]))
    undone = DecisionRow.undoes.in_(select(DecisionRow.id).where(about))
    return read_log(connection, or_(about, undone), newest=_MOST_SIGHTINGS)[::-1]


def listed_individuals(
    connection: Connection, word: str, skipped: int = 0, number: int = _MOST_FOUND, order: Order = "id"
) -> list[ListedIndividual]:
    """Return individuals whose id or name holds a word, in an order; merged ones are listed as whom they are."""
    state = IndividualStateRow
    query = select(state.key, state.id, state.name).where(state.merged_into.is_(None))
    if order == "photos":
        # By the index for each individual: grouping all photos first takes seconds with 100,000 of them.
        of_one = select(func.count()).where(PhotoStateRow.individual == state.key).scalar_subquery()
        query = query.order_by(of_one.desc())
    query = query.order_by(state.id)
    if word:
        query = query.where(or_(_holds(state.id, word), _holds(state.name, word), state.key.in_(_merged_holding(word))))
    rows = connection.execute(query.offset(skipped).limit(number)).all()
    photos = select(PhotoStateRow.individual, func.count(), func.min(PhotoStateRow.photo_id))
    photos = photos.where(PhotoStateRow.individual.in_([row.key for row in rows])).group_by(PhotoStateRow.individual)
    counts = {key: (count, first) for key, count, first in connection.execute(photos)}
    firsts = select(PhotoRow.id, PhotoRow.sha256).where(PhotoRow.id.in_([first for _, first in counts.values()]))
    sha256 = dict(connection.execute(firsts).all())
    return [
        ListedIndividual(row.key, row.id, row.name, count, sha256.get(first or 0))
        for row in rows
        for count, first in [counts.get(row.key, (0, None))]
    ]


def _merged_holding(word: str) -> Select[int | None]:
    return select(IndividualStateRow.merged_into).where(
        IndividualStateRow.merged_into.is_not(None), _holds(IndividualStateRow.id, word)
    )


def found_by(connection: Connection, word: str) -> FoundThings:
    """Return what a word finds: parts of ids, names and places; numbers such as e12 and p7; whole names of photos."""
    number = re.fullmatch(r"([ep])(\d{1,9})", word)
    of_encounters = or_(_holds(EncounterRow.name, word), _holds(EncounterRow.place, word), EncounterRow.date == word)
    of_photos: ColumnElement[bool] = PhotoRow.name == word
    if number:
        of_encounters = or_(of_encounters, EncounterRow.id == (int(number[2]) if number[1] == "e" else 0))
        of_photos = or_(of_photos, PhotoRow.id == (int(number[2]) if number[1] == "p" else 0))
    encounters = select(EncounterRow.id, EncounterRow.name, EncounterRow.date, EncounterRow.place)
    photos = select(PhotoRow.id, PhotoRow.name, PhotoRow.encounter_id).where(of_photos).order_by(PhotoRow.id)
    rows = connection.execute(encounters.where(of_encounters).order_by(EncounterRow.id).limit(_MOST_FOUND))
    return FoundThings(
        listed_individuals(connection, word),
        [(row.id, row.name, row.date, row.place) for row in rows],
        [(row.id, row.name, row.encounter_id) for row in connection.execute(photos.limit(_MOST_FOUND))],
    )


def _holds(column: object, word: str) -> ColumnElement[bool]:
    """Tell whether a text holds a word, in whatever case."""
    return func.lower(column).contains(word.lower(), autoescape=True)
