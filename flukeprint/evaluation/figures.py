"""The figures of every result: metrics/evaluation.json and metrics/members.json."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from flukeprint.evaluation.leaderboard import HELD_OUT, UNNAMED, Leaderboard, Queries, ScorerResult
from flukeprint.metrics.arrays import new_share_weights, weighted_mean
from flukeprint.metrics.detection import (
    auroc,
    average_precisions,
    equal_error_rate,
    fpr_at_tpr,
    roc_curve,
    tar_at_far,
)
from flukeprint.metrics.intervals import Resampling
from flukeprint.metrics.rankings import balanced_accuracy, top_k_accuracy
from flukeprint.metrics.reliability import ReliabilityBins, expected_calibration_error, reliability_bins
from flukeprint.scoring.candidates import Scored
from flukeprint.scoring.registry import BEST, DUPLICATES

# The result that the others are compared with: what copying labels from near-duplicates reaches, without learning.
REFERENCE = DUPLICATES
# Bins of equal width in which a probability is compared with how often it was right.
BINS = 10


def evaluate(leaderboard: Leaderboard, resamples: int) -> dict[str, dict[str, float]]:
    """Return the figures of every result by name, rounded to 6 digits.

    `map5` is weighted to the declared share of new whales, `map5_low` and `map5_high` bound its 95 % bootstrap
    interval over individuals; `map5_plain` has no weights, and `map5_plain_without_copies` is that of the scorer
    that `best` uses, without the labels of near-duplicates. `gain` is the difference in map5 to the result `duplicates`
    on the same queries, with its paired interval and the p-value of the permutation test. The others:
    docs/evaluation.md. A figure that the queries or the scorer cannot give is left out.
    """
    results = list(leaderboard.results.values())
    found = {
        result.name: _ranking(result) | _open_set(result) | {"ece": expected_calibration_error(reliability(result))}
        for result in results
    }
    if leaderboard.best:
        found[BEST]["map5_plain_without_copies"] = found[leaderboard.best]["map5_plain"]
    if leaderboard.queries.both_kinds:
        for name, row in _resampled(leaderboard, resamples).items():
            found[name] |= row
    return {name: rounded(row) for name, row in found.items()}


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Keep six digits, which do not depend on the order of a machine's sums."""
    return {key: round(value, 6) for key, value in figures.items()}


def counts(queries: Queries) -> dict[str, int]:
    """Return how many queries there are, of every kind, and of how many individuals (known, and held-out ones)."""
    new = int(queries.is_new.sum())
    of_kind = {kind: queries.new_kinds.get(kind, np.zeros(len(queries.images), bool)) for kind in (HELD_OUT, UNNAMED)}
    known = {label for label, is_new in zip(queries.ids, queries.is_new, strict=True) if not is_new}
    return {
        "queries": len(queries.images),
        "known_queries": len(queries.images) - new,
        "new_queries": new,
        "known_individuals": len(known),
        **{f"{kind}_queries": int(rows.sum()) for kind, rows in of_kind.items()},
        "held_out_individuals": len(np.unique(queries.groups[of_kind[HELD_OUT]])),
    }


def accuracies(
    points: NDArray[np.float64], is_new: NDArray[np.bool_], new_kinds: Mapping[str, NDArray[np.bool_]]
) -> dict[str, float]:
    """Return the shares of right answers by kind of query, from what each scores in MAP@5.

    `known_top1` is the accuracy on known whales, `new_top1` that on new ones and `new_top1_<kind>` that on one kind of
    them; `known_top5` is the share with the individual among the five.
    """
    found: dict[str, float] = {}
    if not is_new.all():
        known = points[~is_new]
        found |= {"known_top1": float((known == 1).mean()), "known_top5": float((known > 0).mean())}
    if is_new.any():
        found["new_top1"] = float((points[is_new] == 1).mean())
    return found | {f"new_top1_{kind}": float((points[rows] == 1).mean()) for kind, rows in new_kinds.items()}


def _ranking(result: ScorerResult) -> dict[str, float]:
    is_new = result.queries.is_new
    found = {"map5_plain": float(result.points.mean()), "top1": top_k_accuracy(result.ranks, 1)}
    found |= accuracies(result.points, is_new, result.queries.new_kinds)
    if result.candidates is not None and not is_new.all():
        identified = result.candidate_ranks[~is_new]
        found |= {f"cmc{k}": top_k_accuracy(identified, k) for k in (1, 5, 10)}
        found["class_map"] = class_map(result, result.candidates)
    return found


def class_map(result: ScorerResult, scored: Scored) -> float:
    """Return the mean, over the individuals that known queries show, of the AP of each against the rest.

    For an individual, all known queries are sorted by the score that each gives it as a candidate (at most 20 of a
    query; all others come last); those that show it should come first. AP: the area under the interpolated curve.
    """
    known = ~result.queries.is_new
    individuals, shown = np.unique(np.array(result.queries.truth)[known], return_inverse=True)
    found = scored[known]
    place = found.places_of(individuals)
    class_of = np.full(len(found.names) + 1, -1)  # the last is for "no further candidate"
    class_of[place[place >= 0]] = np.flatnonzero(place >= 0)
    classes = class_of[found.label]
    kept = classes >= 0
    right = (classes == shown[:, None])[kept]
    return float(average_precisions(classes[kept], right, found.scores[kept], np.bincount(shown)).mean())


def _open_set(result: ScorerResult) -> dict[str, float]:
    """Return how well known and new whales are told apart: all new ones, and `<figure>_<kind>` one kind of them."""
    queries = result.queries
    if not queries.both_kinds:
        return {}
    known = ~queries.is_new
    found = _told_apart(result, known, queries.is_new)
    for kind, rows in queries.new_kinds.items():
        own = _told_apart(result, known, rows) | {"map5": _map5(result, known | rows)}
        found |= {f"{name}_{kind}": value for name, value in own.items() if name != "baks"}
    return found


def _map5(result: ScorerResult, rows: NDArray[np.bool_]) -> float:
    """Return MAP@5 of some queries, new whales among them weighted to the declared share."""
    weights = new_share_weights(result.queries.is_new[rows], result.queries.new_share)
    return weighted_mean(result.points[rows], weights)


def _told_apart(result: ScorerResult, known: NDArray[np.bool_], new: NDArray[np.bool_]) -> dict[str, float]:
    """Return how well known whales and some new ones are told apart, by the first label and the probability of new."""
    queries, right = result.queries, result.ranks == 1
    baks, baus = (balanced_accuracy(queries.groups[rows], right[rows]) for rows in (known, new))
    found = {"baks": baks, "baus": baus, "geometric_mean": float(np.sqrt(baks * baus))}
    if result.candidates is None:
        return found
    asked = known | new
    curve = roc_curve(known[asked], -result.answers.new_probability[asked])
    return found | {
        "auroc": auroc(curve),
        "eer": equal_error_rate(curve),
        "fpr_at_95_tpr": fpr_at_tpr(curve, 0.95),
        "tar_at_1e-2_far": tar_at_far(curve, 1e-2),
        "tar_at_1e-3_far": tar_at_far(curve, 1e-3),
    }


def reliability(result: ScorerResult) -> ReliabilityBins:
    """Compare the probability of each first label with how often it is right, under the weights of map5."""
    weights = result.queries.weights if result.queries.both_kinds else None
    return reliability_bins(result.confidence, result.ranks == 1, BINS, weights)


def _resampled(leaderboard: Leaderboard, resamples: int) -> dict[str, dict[str, float]]:
    """Return map5 and gain with their intervals. All results share the resamples, so that differences are paired."""
    queries, results = leaderboard.queries, leaderboard.results
    points = {("map5", name): result.points for name, result in results.items()}
    if REFERENCE in results:
        others = (name for name in results if name != REFERENCE)
        points |= {("gain", name): results[name].points - results[REFERENCE].points for name in others}
    draws = Resampling(queries.groups, queries.weights, queries.is_new, resamples)
    found: dict[str, dict[str, float]] = {name: {} for name in results}
    for (figure, name), interval in zip(points, draws.intervals(np.column_stack(list(points.values()))), strict=True):
        found[name] |= interval.figures(figure)
        if figure == "gain":
            found[name]["gain_p"] = draws.p_value(points[figure, name])
    return found
