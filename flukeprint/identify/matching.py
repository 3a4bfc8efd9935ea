"""From vectors to candidates: the gallery is searched, and scores become probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.files import read_json
from flukeprint.scoring.candidates import DEPTH, Scored, candidate_rows
from flukeprint.scoring.registry import GALLERY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flukeprint.retrieval.gallery import Gallery
    from flukeprint.retrieval.provenance import Provenance
    from flukeprint.retrieval.search import Candidate as Found
    from flukeprint.retrieval.search import Searcher
    from flukeprint.scoring.calibration import Answers

# Individuals that the gallery is asked for, the nearest: enough to hold the best DEPTH by centre as well.
_ASKED = 2 * DEPTH


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


def why_uncalibrated(decision: Path, provenance: Provenance) -> str | None:
    """Say why models/decision.json turns the scores of a gallery of that make into no probabilities, or return None."""
    if not decision.is_file():
        return f"there is no {decision.name}"
    content = read_json(decision)
    if not fitted_to(content, provenance):
        return f"{decision.name} was fitted to other weights; run `dvc repro`"
    if GALLERY in content.get("scorers", {}) and GALLERY in content.get("mixtures", {}):
        return None
    reason = content.get("without", {}).get(GALLERY)
    return str(reason) if reason else f"{decision.name} has no decision for the gallery"


def fitted_to(decision: Mapping[str, Any], provenance: Provenance) -> bool:
    """Tell whether the content of models/decision.json was fitted to what these weights and preprocessing give."""
    return bool(decision.get("provenance") == provenance.model_dump())


def find(searcher: Searcher, vectors: NDArray[np.float32]) -> list[list[Found]]:
    """Return the candidates of photos (vectors n x D, of length 1): the same as the decision's queries had."""
    return [_best(candidates, DEPTH) for candidates in searcher.search(vectors, _ASKED)]


def match(gallery: Gallery, found: Sequence[Sequence[Found]], decision: Path, top: int) -> list[Match]:
    """Turn the candidates of photos into ranked ones with probabilities.

    Candidates stand in the order of their scores: nearest and centre similarity in the fitted mixture, or the nearest
    similarity alone where nothing was fitted. Probabilities are over as many candidates as the fit had, whatever `top`
    is. The fit asked a gallery of the photos that were trained on; in another one they are an estimate.

    Args:
        gallery: that was searched.
        found: for each photo what `find` returned.
        decision: models/decision.json, or the bundle's; it may be missing.
        top: most candidates to return, at most DEPTH.

    """
    if not found:
        return []
    sizes = np.bincount(gallery.individual, minlength=len(gallery.individuals)).tolist()
    photos = dict(zip(gallery.individuals, sizes, strict=True))
    if why_uncalibrated(decision, gallery.provenance):
        return [
            Match([_candidate(one, None, photos[one.id]) for one in candidates[:top]], None) for candidates in found
        ]
    order, answers = _calibrated(found, decision, all_found=len(photos) <= DEPTH)
    matches = []
    for row, candidates in enumerate(found):
        chances = dict(zip(answers.labels[row], answers.probabilities[row], strict=True))
        by_id = {one.id: one for one in candidates}
        best = [_candidate(by_id[label], chances[label], photos[label]) for label in order[row][:top]]
        matches.append(Match(best, float(answers.new_probability[row])))
    return matches


def _best(candidates: Sequence[Found], depth: int) -> list[Found]:
    """Keep those that are among the best by either similarity, as the queries had that the decision was fitted to."""
    by_centre = {one.id for one in sorted(candidates, key=lambda one: -one.centre)[:depth]}
    return [one for place, one in enumerate(candidates) if place < depth or one.id in by_centre]


def _candidate(found: Found, probability: float | None, photos: int) -> RankedCandidate:
    return RankedCandidate(found.id, probability, found.nearest, found.centre, found.image, photos)


def _calibrated(
    found: Sequence[Sequence[Found]], decision: Path, *, all_found: bool
) -> tuple[list[list[str]], Answers]:
    """Return the ids of each photo's candidates in order of their scores, and the calibrated answers.

    With `all_found` every individual is a candidate, so that there is no other one to be likely.
    """
    import pandas as pd

    from flukeprint.scoring.calibration import calibrated, decision_of
    from flukeprint.scoring.fusion import mix, read_mixtures

    scored = Scored(
        [[one.id for one in candidates] for candidates in found],
        [np.array([one.nearest for one in candidates], np.float32) for candidates in found],
        np.full(len(found), np.nan, np.float32),
        [np.array([[one.nearest, one.centre] for one in candidates], np.float32).ravel() for candidates in found],
        [np.full(1, np.nan, np.float32) for _ in found],
    )
    rows = candidate_rows(pd.DataFrame(index=range(len(found))), GALLERY, scored)
    rows = mix(rows, GALLERY, read_mixtures(decision)[GALLERY])
    order: list[list[str]] = rows["candidates"].tolist()
    most = 1 + max(map(len, order))
    fitted = decision_of(GALLERY, decision)
    return order, calibrated(rows, replace(fitted, other=-np.inf) if all_found else fitted, most)
