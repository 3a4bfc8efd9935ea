"""Matching encounters that nobody has decided yet: against the catalogue's individuals, and among themselves.

Encounters that probably show one whale are answered together: if it is new, they are a proposed individual.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, insert

from flukeprint.bundle.album import Box, FolderAlbum
from flukeprint.bundle.model import Model
from flukeprint.catalogue.asked import Asked, described
from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.decision_queue import certainty, worth
from flukeprint.catalogue.entities import WORTHS, AnswerRow
from flukeprint.catalogue.evidence import PairEvidence, together, with_prior
from flukeprint.catalogue.keypoint_matches import keep_matches, matches_in
from flukeprint.catalogue.restriction import Restriction
from flukeprint.catalogue.same_pictures import same_pictures
from flukeprint.catalogue.sightings import Holdings, Sighting, read_holdings
from flukeprint.catalogue.vector_cache import read_vectors
from flukeprint.identify.matching import Match, match, note_of, why_uncalibrated
from flukeprint.identify.pair import thresholds_of
from flukeprint.metrics.spread import COLLAPSED
from flukeprint.retrieval.gallery import Gallery, Photo, build_gallery
from flukeprint.retrieval.search import DEPTH
from flukeprint.retrieval.vectors import Vectors
from flukeprint.scoring.calibration import Calibration, Verification

if TYPE_CHECKING:
    from flukeprint.identify.reranking import LocalMatching, Reranker
    from flukeprint.scoring.local_calibration import LocalCalibration

# How many other encounters of a season, declared, show the same unknown whale as one does, on average.
_SEEN_AGAIN = 0.5
# Encounters that are compared among themselves: memory grows with the square of their number (here 0.5 GiB).
_MOST_COMPARED = 5000


@dataclass(frozen=True)
class Season:
    """What was asked, and answered."""

    asked: list[Asked]
    photos: int  # that were compared with
    individuals: int
    uncalibrated: str | None  # why there are no probabilities
    ungrouped: str | None  # why encounters were not compared among themselves
    collapsed: str | None  # why nobody is named
    without: list[Sighting]  # photos that have no vector, and were left out
    note: str | None = None  # what is to be said of the calibration
    local: LocalCalibration | None = None  # how candidates were re-ranked, if they were


@dataclass(frozen=True)
class Photos:
    """The photos of a catalogue that have vectors."""

    holdings: Holdings
    row: Mapping[int, int]  # of each photo in the vectors
    vectors: Vectors
    same_pictures: Callable[[Collection[int]], list[tuple[int, int]]]  # same_pictures.py, for this model

    @classmethod
    def read(cls, catalogue: Catalogue, model: Model, model_id: int) -> Photos:
        """Read them as of one moment."""
        with catalogue.database.reading() as connection:
            holdings, vectors = read_holdings(catalogue, connection), read_vectors(connection, model_id)
        return cls(holdings, *vectors, partial(same_pictures, catalogue, limits=model.limits))

    def of(self, photos: Iterable[int]) -> Vectors:
        """Return the vectors of some photos."""
        return self.vectors[np.array([self.row[photo] for photo in photos], np.int64)]

    def gallery(self, model: Model, sightings: Iterable[Sighting]) -> Gallery:
        """Return photos of known individuals as a gallery. They are called by their SHA-256."""
        known = list(sightings)
        names = [one.sha256 for one in known]
        ids = [one.individual or "" for one in known]
        return build_gallery(self.of(one.photo for one in known), names, ids, model.provenance, names)


def ask(
    catalogue: Catalogue,
    model: Model,
    model_id: int,
    asked: Restriction,
    against: Restriction,
    *,
    local: LocalMatching | None = None,
) -> Season:
    """Match the photos that show nobody yet, of those that meet `asked`, and keep what was answered.

    They are compared with the photos of known individuals that meet `against`. `local` re-ranks the first candidates of
    each photo by matched keypoints.
    """
    photos = Photos.read(catalogue, model, model_id)
    sightings = photos.holdings.sightings
    known = [one for one in sightings if one.individual is not None and one.photo in photos.row and against(one)]
    wanted = [one for one in sightings if one.individual is None and asked(one)]
    gallery = photos.gallery(model, known)
    uncalibrated = why_uncalibrated(model.calibration, model.provenance)
    spread = gallery.spread
    collapsed = COLLAPSED.format(spread) if spread is not None and spread.collapsed else None
    question = _Question.of(photos, wanted, known, None if uncalibrated else model.calibration)
    verification, ungrouped = thresholds_of(model.calibration, model.provenance)
    if len(question.own) > _MOST_COMPARED:
        verification, ungrouped = None, f"more than {_MOST_COMPARED} encounters are open; ask for fewer (--only)"
    reranker = _reranker(local, gallery, sightings) if local else None
    answers = [] if collapsed else question.answers(gallery, verification, reranker)
    fitted = local.fitted if local else None
    note = note_of(None if uncalibrated else model.calibration, fitted)
    with catalogue.database.writing() as connection:
        _keep(connection, model_id, answers, {"uncalibrated": uncalibrated, "calibration_note": note})
    return Season(
        answers, len(gallery), len(gallery.individuals), uncalibrated, ungrouped, collapsed,
        [one for one in wanted if one.photo not in photos.row], note, fitted,
    )  # fmt: skip


# --- answers -------------------------------------------------------------------------------------------------


def matches_of(
    gallery: Gallery, vectors: Vectors, calibration: Calibration | None, copies: Sequence[Counter[str]]
) -> list[Match]:
    """Return all candidates of each photo: the one place where the catalogue asks the pipeline's own search.

    `copies` are the individuals of each photo's near-duplicates in the gallery, and how many there are.
    """
    if not len(gallery):
        return [Match([], None if calibration is None else 1.0) for _ in vectors]
    return match(gallery, vectors, calibration, 2 * DEPTH, copies)


def _reranker(local: LocalMatching, gallery: Gallery, sightings: Iterable[Sighting]) -> Reranker:
    """Return what re-ranks candidates by the catalogue's own photos, which a gallery calls by their SHA-256."""
    from flukeprint.identify.reranking import Reranker

    file_of = {one.sha256: one.file for one in sightings}

    def picture(photo: Photo, box: Box) -> bytes | None:
        file = file_of[photo.image]
        return FolderAlbum(file.parent, {}).picture(photo._replace(image=file.name), box)

    return Reranker(local, gallery, picture)


@dataclass(frozen=True)
class _Question:
    """The photos that show nobody yet, by their encounters."""

    photos: Photos
    own: dict[int, list[int]]  # encounter -> its photos in question
    copies: dict[int, list[Sighting]]  # photo in question -> known photos that are nearly the same picture
    calibration: Calibration | None

    @classmethod
    def of(
        cls, photos: Photos, wanted: list[Sighting], known: list[Sighting], calibration: Calibration | None
    ) -> _Question:
        own: dict[int, list[int]] = {}
        for one in wanted:
            if one.photo in photos.row:
                own.setdefault(one.encounter, []).append(one.photo)
        asked, by_number = {one.photo for one in wanted}, {one.photo: one for one in known}
        copies: dict[int, list[Sighting]] = {}
        for pair in photos.same_pictures({*asked, *by_number}):
            for photo, other in (pair, pair[::-1]):
                if photo in asked and other in by_number:
                    copies.setdefault(photo, []).append(by_number[other])
        return cls(photos, own, copies, calibration)

    def answers(
        self, gallery: Gallery, verification: Verification | None, reranker: Reranker | None = None
    ) -> list[Asked]:
        """Answer every group of encounters as one."""
        matches = self._matches(gallery, reranker)
        share = 0.0 if self.calibration is None else self.calibration.share
        encounters = {one.id: one for one in self.photos.holdings.encounters}
        number_of = {one.sha256: one.photo for one in self.photos.holdings.sightings}
        found = []
        for numbers, one_whale in self._grouped(verification):
            of_group = [photo for number in numbers for photo in self.own[number]]
            members = [encounters[number] for number in numbers]
            rejected = frozenset[str]().union(*(one.rejected for one in members))
            answer = together([matches[photo] for photo in of_group], share, len(gallery.individuals), rejected)
            copies = [(photo, copy) for photo in of_group for copy in self.copies.get(photo, ())]
            keypoints = [one for photo in of_group for one in matches_in(photo, matches[photo], number_of)]
            found.append(Asked(members, of_group, answer, one_whale, copies, keypoints))
        return found

    def _matches(self, gallery: Gallery, reranker: Reranker | None) -> dict[int, Match]:
        asked = [photo for encounter in self.own for photo in self.own[encounter]]
        copies = [Counter(copy.individual or "" for copy in self.copies.get(photo, ())) for photo in asked]
        vectors = self.photos.of(asked)
        found = matches_of(gallery, vectors, self.calibration, copies)
        if reranker:
            named = {one.photo: Photo("", one.sha256, one.sha256) for one in self.photos.holdings.sightings}
            pictures = [partial(reranker.search.pictures, named[photo]) for photo in asked]
            found = [reranker(*one) for one in zip(found, pictures, vectors, strict=True)]
        return dict(zip(asked, found, strict=True))

    def _grouped(self, verification: Verification | None) -> list[tuple[list[int], float | None]]:
        """Put encounters together that probably show one whale; return each group, and how probable that is."""
        numbers = list(self.own)
        if verification is None or len(numbers) < 2:
            return [([number], None) for number in numbers]
        odds = encounter_log_odds(PairEvidence.of(verification), self.photos, list(self.own.values()))
        prior = min(_SEEN_AGAIN / (len(numbers) - 1), 0.5)
        group = clusters(odds + np.log(prior / (1 - prior)))
        found = []
        for number in range(group.max() + 1):
            places = np.flatnonzero(group == number)
            inner = odds[np.ix_(places, places)][np.triu_indices(len(places), 1)]
            one_whale = float(with_prior(inner.mean(), prior)) if len(inner) else None
            found.append(([numbers[place] for place in places], one_whale))
        return found


# --- among themselves ----------------------------------------------------------------------------------------


def encounter_log_odds(evidence: PairEvidence, photos: Photos, sets: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return the log-likelihood ratio of one whale to two for each pair of sets of photos, n x n."""
    sizes = np.array([len(one) for one in sets])
    starts = np.cumsum(sizes) - sizes
    vectors = photos.of(photo for one in sets for photo in one).astype(np.float64)
    # The mean similarity of all pairs of photos is the product of the sets' mean vectors.
    means = np.add.reduceat(vectors, starts, axis=0) / sizes[:, None]
    return evidence.log_odds(means @ means.T, np.minimum(sizes[:, None], sizes))


def clusters(log_odds: NDArray[np.float64], number: int | None = None) -> NDArray[np.int64]:
    """Put together what is more likely one than two, on average over all pairs of a cluster; or cut in a `number`.

    `log_odds` are n x n, n at least 2, prior included. Returned are n numbers of clusters, from 0.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distance = -(log_odds + log_odds.T) / 2
    np.fill_diagonal(distance, np.inf)
    least = min(float(distance.min()), 0.0)
    np.fill_diagonal(distance, least)
    tree = linkage(squareform(distance - least, checks=False), "average")
    label = fcluster(tree, -least, "distance") if number is None else fcluster(tree, number, "maxclust")
    return np.asarray(np.unique(label, return_inverse=True)[1], np.int64)


# --- what was shown ------------------------------------------------------------------------------------------


def _keep(connection: Connection, model_id: int, answers: Sequence[Asked], of_all: Mapping[str, str | None]) -> None:
    """Keep each encounter's answer, with what is to be said of all: a decision takes it into the log.

    Matched keypoints are kept beside it, and do not go into the log: they would be most of it.
    """
    rows: list[dict[str, Any]] = [
        {
            "encounter_id": one.id,
            "model_id": model_id,
            "content": json.dumps({**described(asked), **of_all}, sort_keys=True),
            "worth": WORTHS.index(worth(asked)),
            "certainty": certainty(asked),
        }
        for asked in answers
        for one in asked.encounters
    ]
    if rows:
        old = delete(AnswerRow).where(AnswerRow.encounter_id == bindparam("encounter"))
        connection.execute(old, [{"encounter": row["encounter_id"]} for row in rows])
        connection.execute(insert(AnswerRow), rows)
        keypoints = [one for asked in answers for one in asked.keypoints]
        keep_matches(connection, [row["encounter_id"] for row in rows], keypoints)
