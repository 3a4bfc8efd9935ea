"""Whether probabilities stay true in galleries of other sizes: the scored queries search some of the individuals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.evaluation.curves import Points, curves_of
from flukeprint.evaluation.figures import BINS, accuracies, reliability, rounded
from flukeprint.evaluation.leaderboard import TOP, Leaderboard, Queries, ScorerResult
from flukeprint.metrics.arrays import weighted_mean
from flukeprint.metrics.reliability import calibration_error_by_chance, expected_calibration_error
from flukeprint.scoring.calibrated_answers import Answers, calibrated
from flukeprint.scoring.calibration import Calibration
from flukeprint.scoring.fusion import fuse
from flukeprint.scoring.registry import GALLERY
from flukeprint.scoring.small_galleries import FullGallery, GalleryQueries

# Individuals of the galleries that are shown, beside the whole one; those that it does not have are left out.
SIZES = (10, 100, 1000)
WHOLE = "all"
# Galleries of each size that every query searches.
_DRAWS = 10


def at_sizes(full: FullGallery, calibration: Calibration, leaderboard: Leaderboard) -> dict[str, ScorerResult]:
    """Let the queries search galleries of several sizes, and return the results by size: "10", ..., "all".

    Nothing is returned where there is no calibration of galleries. `full` is of the leaderboard's queries.
    """
    whole = leaderboard.results.get(GALLERY)
    if whole is None or GALLERY not in calibration.scorers:
        return {}
    if full.truth != leaderboard.queries.truth:
        raise FlukeprintError(
            "data/selected/full.parquet and data/predictions/query.parquet are not of the same queries. "
            "Run `dvc repro ensemble`."
        )
    asked: dict[int, list[GalleryQueries]] = {}
    for one in full.asked(SIZES, _DRAWS):
        asked.setdefault(one.individuals, []).append(one)
    found = {str(size): _result(some, calibration, leaderboard.queries) for size, some in asked.items()}
    return found | {WHOLE: whole}


def _result(asked: Sequence[GalleryQueries], calibration: Calibration, queries: Queries) -> ScorerResult:
    """Answer queries in galleries of one size; they stand as often as there are galleries."""
    fitted, fusion = calibration.of(GALLERY), calibration.fusions[GALLERY]
    parts = [calibrated(fuse(one.scored, GALLERY, fusion), fitted, TOP, one.individuals) for one in asked]
    answers = Answers(
        [labels for part in parts for labels in part.labels],
        [values for part in parts for values in part.probabilities],
        np.concatenate([part.new_probability for part in parts]),
    )
    number = len(parts)
    again = Queries(queries.images * number, queries.ids * number, queries.truth * number, queries.new_share)
    return ScorerResult(GALLERY, again, answers, None)


def size_figures(results: dict[str, ScorerResult], full: FullGallery) -> dict[str, dict[str, float]]:
    """Return metrics/gallery_sizes.json: by size how far probabilities are off, and how well whales are told apart.

    `ece` is that of the first label, `ece_by_chance` what it would be on average if every probability were true and
    a query's answers in all galleries were right or wrong together; `new_probability` is the mean probability of a
    new whale, which the declared share should meet. Queries are weighted to that share.
    """
    return {name: _figures(result, len(full) if name == WHOLE else int(name)) for name, result in results.items()}


def _figures(result: ScorerResult, individuals: int) -> dict[str, Any]:
    queries = result.queries
    weights = queries.weights if queries.both_kinds else None
    by_chance = calibration_error_by_chance(result.confidence, queries.images, BINS, weights)
    found = {"ece": expected_calibration_error(reliability(result)), "ece_by_chance": by_chance}
    found |= accuracies(result.points, queries.is_new, queries.new_kinds)
    found["new_probability"] = weighted_mean(result.answers.new_probability, weights)
    return {"individuals": individuals, "answers": len(queries.images)} | rounded(found)


def size_curves(results: dict[str, ScorerResult]) -> dict[str, Points]:
    """Return the reliability of the first label by size."""
    return {name: curves_of(result)["reliability"] for name, result in results.items()}
