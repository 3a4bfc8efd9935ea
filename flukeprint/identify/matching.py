"""From vectors to candidates, the pipeline's way: search in the gallery, score fusion, calibrated probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.provenance import Provenance
from flukeprint.retrieval.search import DEPTH, Candidates, Searcher
from flukeprint.scoring.calibration import Calibration
from flukeprint.scoring.candidates import gallery_candidates
from flukeprint.scoring.registry import GALLERY

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


@dataclass(frozen=True)
class Match:
    """The candidates of a photo, best first, and the probability that it shows none of the gallery's individuals."""

    candidates: list[RankedCandidate]
    new_probability: float | None


def why_uncalibrated(calibration: Calibration | None, provenance: Provenance) -> str | None:
    """Say why the scores of a gallery of that provenance become no probabilities, or return None."""
    if calibration is None:
        return "there is no decision.json"
    if calibration.provenance != provenance:
        return OTHER_WEIGHTS
    if GALLERY in calibration.scorers and GALLERY in calibration.fusions:
        return None
    return calibration.without.get(GALLERY) or "decision.json has no calibration of the gallery"


def match(gallery: Gallery, vectors: NDArray[np.float32], calibration: Calibration | None, top: int) -> list[Match]:
    """Search photos in a gallery.

    Candidates stand in the order of their fused scores, or of their nearest similarity where nothing was fitted.
    Probabilities are over as many candidates as the fit had, whatever `top` is. The fit asked a gallery of the photos
    that were trained on (`why_uncalibrated` tells whether there is one); in another gallery they are an estimate.
    Vectors are n x D, of length 1.
    """
    found = Searcher.of(gallery).search(vectors)
    places, chances, new = found.individual, None, None
    if calibration is not None:
        from flukeprint.scoring.calibrated_answers import probabilities
        from flukeprint.scoring.fusion import fuse

        fused = fuse(gallery_candidates(found, gallery.individuals), GALLERY, calibration.fusions[GALLERY])
        # Where every individual is a candidate, there is no other one to be likely.
        all_found = len(gallery.individuals) <= DEPTH
        places = fused.label
        chances, new = probabilities(fused, calibration.of(GALLERY), all_found=all_found)
    counts = np.bincount(gallery.individual, minlength=len(gallery.individuals))
    return [
        Match(
            [
                _candidate(gallery, found, row, place, counts, None if chances is None else float(chances[row, rank]))
                for rank, place in enumerate(places[row, :top])
                if place >= 0
            ],
            None if new is None else float(new[row]),
        )
        for row in range(len(vectors))
    ]


def _candidate(
    gallery: Gallery, found: Candidates, row: int, place: int, counts: NDArray[np.int64], probability: float | None
) -> RankedCandidate:
    [column] = np.flatnonzero(found.individual[row] == place)
    return RankedCandidate(
        gallery.individuals[place],
        probability,
        float(found.nearest[row, column]),
        float(found.centre[row, column]),
        gallery.photos[found.photo[row, column]].image,
        int(counts[place]),
    )
