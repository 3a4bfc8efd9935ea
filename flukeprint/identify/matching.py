"""From vectors to candidates, the pipeline's way: search in the gallery, score fusion, calibrated probabilities.

A photo that is nearly the same picture as one of the gallery is answered as in a submission (scoring/copies.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.provenance import Provenance
from flukeprint.retrieval.search import Candidates, Searcher
from flukeprint.scoring.calibration import Calibration, OpenSetCalibration
from flukeprint.scoring.candidates import gallery_candidates
from flukeprint.scoring.registry import GALLERY

if TYPE_CHECKING:
    from flukeprint.retrieval.local_matching import MatchedKeypoints
    from flukeprint.scoring.local_calibration import LocalCalibration

UNCALIBRATED = "this model was never calibrated (it has no decision.json)"
OTHER_WEIGHTS = "decision.json was fitted to other weights; run `dvc repro`"


@dataclass(frozen=True)
class RankedCandidate:
    """An individual that a photo may show."""

    id: str
    probability: float | None  # calibrated; None where the gallery has no calibration
    similarity: float  # cosine, -1 to 1, to the most similar photo
    centre: float  # cosine to the individual's centre
    photo: str  # name of the most similar photo
    photos: int  # that the gallery has of the individual
    copy: bool = False  # whether one of them is nearly the same picture
    beyond: str | None = None  # why its probability is beyond what was calibrated
    local: MatchedKeypoints | None = None  # where its photos were looked at keypoint by keypoint

    @property
    def keypoints(self) -> int | None:
        """How many keypoints match in the photo that matches best; None where none was looked at."""
        return None if self.local is None else len(self.local.lines)


@dataclass(frozen=True)
class Match:
    """The candidates of a photo, best first, and the probability that it shows none of the gallery's individuals."""

    candidates: list[RankedCandidate]
    new_probability: float | None
    beyond: str | None = None  # why all of its probabilities are beyond what was calibrated

    def first(self, top: int) -> Match:
        """Return the answer with its `top` best candidates."""
        return replace(self, candidates=self.candidates[:top])


def why_uncalibrated(calibration: Calibration | None, provenance: Provenance) -> str | None:
    """Say why the scores of a gallery of that provenance become no probabilities, or return None."""
    if calibration is None:
        return UNCALIBRATED
    if calibration.provenance != provenance:
        return OTHER_WEIGHTS
    if GALLERY in calibration.scorers and GALLERY in calibration.fusions:
        return None
    return calibration.without.get(GALLERY) or "decision.json has no calibration of the gallery"


def note_of(*fitted: Calibration | LocalCalibration | None) -> str | None:
    """Return what is to be said of probabilities that these gave, or None."""
    return next((one.note for one in fitted if one and one.note), None)


def match(
    gallery: Gallery,
    vectors: NDArray[np.float32],
    calibration: Calibration | None,
    top: int,
    copies: Sequence[Counter[str]] | None = None,
) -> list[Match]:
    """Search photos in a gallery.

    Candidates stand in the order of their probabilities; where nothing was fitted, individuals with a near-duplicate
    first, then in the order of their nearest similarity. Probabilities are over as many candidates as the fit had,
    whatever `top` is, and assume the declared share of new whales in a gallery of any size. Vectors are n x D, of
    length 1; `copies` are the individuals of each photo's near-duplicates in the gallery, and how many there are.
    """
    copies = [Counter[str]()] * len(vectors) if copies is None else copies
    searcher = Searcher.of(gallery)
    place = {name: number for number, name in enumerate(gallery.individuals)}
    found = searcher.search(vectors)
    named = [np.array([[place[label] for label in own]], np.int64) for own in copies]
    missed = [row for row, wanted in enumerate(named) if not np.isin(wanted, found.individual[row]).all()]
    in_found = [Counter[str]() if row in missed else own for row, own in enumerate(copies)]
    matches = _matches(gallery, found, calibration, top, in_found)
    for row in missed:
        # Alone: the last bits of a photo's probabilities must not depend on the others.
        again = searcher.search(vectors[row : row + 1], named=named[row])
        [matches[row]] = _matches(gallery, again, calibration, top, [copies[row]])
    return matches


def _matches(
    gallery: Gallery, found: Candidates, calibration: Calibration | None, top: int, copies: Sequence[Counter[str]]
) -> list[Match]:
    counts = np.bincount(gallery.individual, minlength=len(gallery.individuals))
    described = [
        {one.id: one for one in _described(gallery, found, row, counts, own)} for row, own in enumerate(copies)
    ]
    if calibration is None:
        return [
            Match(_copies_first(by_id.values(), own)[:top], None) for by_id, own in zip(described, copies, strict=True)
        ]
    from flukeprint.scoring.copies import decided, scored_copies
    from flukeprint.scoring.fusion import fuse

    fitted, number = calibration.of(GALLERY), len(gallery.individuals)
    fused = fuse(gallery_candidates(found, gallery.individuals), GALLERY, calibration.fusions[GALLERY])
    duplicates = scored_copies(copies)
    answers = decided(fused, fitted, duplicates, calibration.named_duplicates, 1 + fused.label.shape[1], number)
    chances = [dict(zip(*one, strict=True)) for one in zip(answers.labels, answers.probabilities, strict=True)]
    return [
        _answered(by_id, of_labels, new, top, fitted, number)
        for by_id, of_labels, new in zip(described, chances, answers.new_probability.tolist(), strict=True)
    ]


def _copies_first(candidates: Iterable[RankedCandidate], copies: Counter[str]) -> list[RankedCandidate]:
    """Put individuals with most near-duplicates first; equal ones, as all without, stay as they were found."""
    return sorted(candidates, key=lambda one: -copies[one.id])


def _answered(
    by_id: Mapping[str, RankedCandidate],
    chances: Mapping[str, float],
    new: float,
    top: int,
    fitted: OpenSetCalibration,
    individuals: int,
) -> Match:
    """Return the `top` candidates in the order of their probabilities, each with what is to be said of it."""
    beyond = fitted.beyond(individuals)
    candidates = [
        replace(by_id[label], probability=chance, beyond=beyond or fitted.beyond_photos(by_id[label].photos))
        for label, chance in chances.items()
        if label != NEW_WHALE
    ]
    return Match(candidates[:top], new, beyond)


def _described(
    gallery: Gallery, found: Candidates, row: int, counts: NDArray[np.int64], copies: Counter[str]
) -> Iterator[RankedCandidate]:
    """Yield the individuals that were found for one photo, nearest first, without probabilities."""
    columns = np.flatnonzero(found.filled[row])
    for column, photo in zip(columns, gallery.photos.taken(found.photo[row, columns]), strict=True):
        place = found.individual[row, column]
        name = gallery.individuals[place]
        yield RankedCandidate(
            name,
            None,
            float(found.nearest[row, column]),
            float(found.centre[row, column]),
            photo.image,
            int(counts[place]),
            name in copies,
        )
