"""An encounter beside its candidates, as the review page shows it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, or_, select

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import (
    AnswerRow,
    DecisionRow,
    EncounterRow,
    EncounterStateRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
    VectorRow,
)
from flukeprint.catalogue.individual_ids import keys_by_now
from flukeprint.catalogue.keypoint_matches import KeypointMatch, read_matches
from flukeprint.catalogue.second_names import SecondName, open_second_names
from flukeprint.catalogue.sightings import LoggedDecision, Sighting, read_log, read_sightings
from flukeprint.core.errors import FlukeprintError
from flukeprint.review.pages import Visitor
from flukeprint.review.second_opinions import kept_from
from flukeprint.review.shown_photos import ShownPhoto, kilometres, shown_photo

CANDIDATES = 9  # as many as there are digits to choose one by
_PHOTOS = 8  # of a candidate, the most similar ones
_PAIRS = 60  # of photos in which keypoints matched: a page stays below a third of a megabyte


@dataclass(frozen=True)
class CandidateView:
    """An individual that the encounter may show."""

    key: int
    id: str
    name: str | None
    probability: float | None
    beyond: str | None  # why the probability is beyond what was calibrated
    similarity: float | None
    photos: list[ShownPhoto]  # the most similar first
    photo_count: int
    encounter_count: int
    last_seen: str | None
    kilometres: float | None  # from the nearest of its positions
    because: str | None  # why it is named, if the model did not name it
    copies: tuple[str, ...]  # what is nearly the same picture
    keypoints: KeypointMatch | None = None  # the pair of shown photos in which most matched


@dataclass(frozen=True)
class EncounterView:
    """An encounter, and whom it may show."""

    id: int
    name: str
    date: str | None
    place: str | None
    notes: str | None
    status: str
    individual: tuple[int, str] | None  # key and id
    version: int
    photos: list[ShownPhoto]
    candidates: list[CandidateView]
    rejected: list[str]
    new_probability: float | None
    beyond: str | None
    asked: bool  # there is an answer
    mates: list[EncounterMate]  # other encounters that probably show the same whale
    one_whale: float | None
    about_percentages: str | None  # what is to be said of all of its probabilities
    second_names: list[SecondName]  # questions about its photos
    log: list[LoggedDecision] = field(default_factory=list)
    matches: list[KeypointMatch] = field(default_factory=list)  # in photos that are shown, those that match best first

    @property
    def likelier_new(self) -> bool:
        """Whether a new whale is likelier than the first candidate; no if people decided why that one comes first."""
        if not self.candidates:
            return True
        first = self.candidates[0]
        if first.because or first.probability is None or self.new_probability is None:
            return False
        return self.new_probability > first.probability


@dataclass(frozen=True)
class EncounterMate:
    """An encounter that was answered together with this one."""

    id: int
    name: str
    status: str
    individual: int | None  # the present key
    version: int


def encounter_view(catalogue: Catalogue, number: int, visitor: Visitor) -> EncounterView:
    """Read what there is to see of an encounter; of others nothing that is kept from the visitor.

    Raises:
        FlukeprintError: there is no such encounter.
    """
    with catalogue.database.reading() as connection:
        return _Reader(catalogue, connection, number, visitor).view()


class _Reader:
    """What is read about one encounter, on one connection."""

    def __init__(self, catalogue: Catalogue, connection: Connection, number: int, visitor: Visitor) -> None:
        self.catalogue, self.connection, self.number = catalogue, connection, number
        self.kept_from = partial(kept_from, connection, visitor)
        query = select(EncounterRow, EncounterStateRow.status, EncounterStateRow.individual)
        query = query.add_columns(EncounterStateRow.rejected, EncounterStateRow.version)
        query = query.join(EncounterStateRow, EncounterStateRow.encounter_id == EncounterRow.id)
        self.row: Any = connection.execute(query.where(EncounterRow.id == number)).one_or_none()
        if self.row is None:
            raise FlukeprintError(f"there is no encounter e{number}. Look for it by its name.")
        answer = connection.execute(
            select(AnswerRow.content, AnswerRow.model_id).where(AnswerRow.encounter_id == number)
        ).one_or_none()
        self.answer: dict[str, Any] = {} if answer is None else json.loads(answer.content)
        self.model_id = 0 if answer is None else answer.model_id
        self.own = read_sightings(catalogue, connection, PhotoRow.encounter_id == number)

    def view(self) -> EncounterView:
        row, mates = self.row, self._mates()
        decided = self._roots([row.individual] if row.individual is not None else [])
        rejected = self._roots(json.loads(row.rejected))
        # Without an answer nobody else is named: whom it shows is compared with it.
        candidates = self._candidates(mates, rejected, [] if self.answer else list(decided))
        shown = [photo.number for one in candidates for photo in one.photos]
        matches = read_matches(self.connection, [one.photo for one in self.own], shown, _PAIRS)
        return EncounterView(
            id=row.id,
            name=row.name,
            date=row.date or next((one.date for one in self.own if one.date), None),
            place=row.place,
            notes=row.notes,
            status=row.status,
            individual=next(((key, name) for key, (name, _) in decided.items()), None),
            version=row.version,
            photos=[shown_photo(one) for one in self.own],
            candidates=[_with_keypoints(one, matches) for one in candidates],
            rejected=[name for name, _ in rejected.values()],
            new_probability=self.answer.get("new_probability"),
            beyond=self.answer.get("beyond_calibration"),
            asked=bool(self.answer),
            mates=mates,
            one_whale=self.answer.get("one_whale"),
            about_percentages=about_percentages(self.answer),
            second_names=open_second_names(self.connection, encounter=self.number),
            log=log_about(self.connection, self.number),
            matches=matches,
        )

    def _mates(self) -> list[EncounterMate]:
        """Return the other encounters that were answered together with this one."""
        others = [number for number in self.answer.get("encounters", ()) if number != self.number]
        state, individual = EncounterStateRow, IndividualStateRow
        query = select(state.encounter_id, EncounterRow.name, state.status, state.version)
        query = query.add_columns(individual.key, individual.merged_into)
        query = query.join(EncounterRow, EncounterRow.id == state.encounter_id)
        query = query.outerjoin(individual, individual.key == state.individual).order_by(state.encounter_id)
        rows = self.connection.execute(query.where(state.encounter_id.in_(others)))
        return [
            EncounterMate(row.encounter_id, row.name, row.status, row.merged_into or row.key, row.version)
            for row in rows
        ]

    def _roots(self, keys: Collection[int]) -> dict[int, tuple[str, str | None]]:
        """Return the present individuals of keys, by their own keys: id and name."""
        state = IndividualStateRow
        merged = self.connection.execute(select(state.key, state.merged_into).where(state.key.in_(keys)))
        roots = {into or key for key, into in merged}
        rows = self.connection.execute(select(state.key, state.id, state.name).where(state.key.in_(roots)))
        return {row.key: (row.id, row.name) for row in rows}

    # --- candidates --------------------------------------------------------------------------------------------

    def _candidates(
        self, mates: Sequence[EncounterMate], rejected: Collection[int], decided: Sequence[int]
    ) -> list[CandidateView]:
        """Return whom it may show: `decided`, whom those answered with it show by now, then those of the answer."""
        named = {one["id"]: one for one in self.answer.get("candidates", ())}
        now = keys_by_now(self.connection, named)
        keys = {name: now[name] for name in named if name in now}
        kept = self.kept_from([mate.id for mate in mates])
        because = dict.fromkeys(decided, "as it was decided") | {
            mate.individual: f"decided for e{mate.id}, which probably shows the same whale"
            for mate in mates
            if mate.individual is not None and mate.id not in kept
        }
        of_answer = {key: named[name] for name, key in reversed(keys.items())}
        ordered = [*because, *keys.values()]
        wanted = [key for key in dict.fromkeys(ordered) if key not in rejected][:CANDIDATES]
        present = self._roots(wanted)
        photos = self._photos_of(wanted)
        likeness = self._likeness([one.photo for own in photos.values() for one in own])
        return [
            self._candidate(key, present[key], of_answer.get(key, {}), photos[key], likeness, because.get(key))
            for key in wanted
            if photos[key]
        ]

    def _photos_of(self, roots: Sequence[int]) -> dict[int, list[Sighting]]:
        """Return the photos of individuals, but for those of this encounter and of what is kept from the visitor."""
        state = IndividualStateRow
        own = or_(state.key.in_(roots), state.merged_into.in_(roots))
        root = {row.key: row.merged_into or row.key for row in self.connection.execute(select(state).where(own))}
        states = select(PhotoStateRow.photo_id, PhotoStateRow.individual)
        rows = self.connection.execute(states.where(PhotoStateRow.individual.in_(root)))
        key_of = {photo: root[key] for photo, key in rows if key is not None}
        found: dict[int, list[Sighting]] = {key: [] for key in roots}
        sightings = read_sightings(self.catalogue, self.connection, PhotoStateRow.individual.in_(root))
        left_out = {self.number, *self.kept_from({one.encounter for one in sightings})}
        for sighting in sightings:
            if sighting.encounter not in left_out:
                found[key_of[sighting.photo]].append(sighting)
        return found

    def _candidate(
        self,
        key: int,
        called: tuple[str, str | None],
        answer: Mapping[str, Any],
        photos: list[Sighting],
        likeness: Mapping[int, float],
        because: str | None,
    ) -> CandidateView:
        ordered = sorted(photos, key=lambda one: (-likeness.get(one.photo, -2.0), one.photo))
        numbers = {one.photo for one in photos}
        pairs = [pair for pair in self.answer.get("near_duplicates", ()) if pair["of"] in numbers]
        return CandidateView(
            key=key,
            id=called[0],
            name=called[1],
            probability=answer.get("probability"),
            beyond=answer.get("beyond_calibration"),
            similarity=answer.get("similarity", max((likeness[n] for n in numbers & likeness.keys()), default=None)),
            photos=[shown_photo(one, likeness.get(one.photo)) for one in ordered[:_PHOTOS]],
            photo_count=len(photos),
            encounter_count=len({one.encounter for one in photos}),
            last_seen=max((one.date for one in photos if one.date), default=None),
            kilometres=kilometres(self.own, photos),
            because=because,
            copies=tuple(f"p{pair['photo']} is nearly the same picture as p{pair['of']}" for pair in pairs),
        )

    def _likeness(self, photos: Sequence[int]) -> dict[int, float]:
        """Return the cosine of photos and the most similar photo in question, where there are vectors."""
        asked = self._vectors([one.photo for one in self.own])
        found = self._vectors(photos)
        if not asked or not found:
            return {}
        nearest = (np.stack(list(found.values())) @ np.stack(list(asked.values())).T).max(axis=1)
        return dict(zip(found, nearest.tolist(), strict=True))

    def _vectors(self, photos: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        query = select(VectorRow.photo_id, VectorRow.vector).where(VectorRow.model_id == self.model_id)
        rows = self.connection.execute(query.where(VectorRow.photo_id.in_(photos)))
        return {photo: np.frombuffer(vector, "<f4") for photo, vector in rows}


def _with_keypoints(candidate: CandidateView, matches: Sequence[KeypointMatch]) -> CandidateView:
    own = {photo.number for photo in candidate.photos}
    return replace(candidate, keypoints=next((one for one in matches if one.other in own), None))


def about_percentages(answer: Mapping[str, Any]) -> str | None:
    """Say of a kept answer why it has no probabilities, or that those are of an earlier run."""
    if answer.get("uncalibrated"):
        return f"There are no percentages ({answer['uncalibrated']}): candidates stand in order of similarity."
    note = answer.get("calibration_note")
    return f"The percentages are {note}." if note else None


def log_about(connection: Connection, encounter: int) -> list[LoggedDecision]:
    """Return the decisions about an encounter and its photos, and what was undone of them, the newest last."""
    photos = select(PhotoRow.id).where(PhotoRow.encounter_id == encounter)
    about = or_(DecisionRow.encounter_id == encounter, DecisionRow.photo_id.in_(photos))
    undone = DecisionRow.undoes.in_(select(DecisionRow.id).where(about))
    return read_log(connection, or_(about, undone))
