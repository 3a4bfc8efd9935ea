"""Pairs of photos for verification ("do these two show the same whale?"), and the calibration of their similarity.

Protocol: every query of a known individual, with every photo of an individual in the gallery. A pair is of the same
individual if both labels are, else of different ones. Photos of new_whale make no pairs: nobody knows whom they show.
Where near-duplicates stay together (select.protocol: grouped) a query has none in the gallery, so no pair is nearly the
same picture twice. MLE-bench's split does not see to that.

Similarities are rounded to millionths, the digits of a threshold in models/decision.json. So the pairs of different
individuals, of which there are as many as queries times photos, are counted, not kept: rates and curves are exactly
those of the rounded similarities, and no threshold is further than half a millionth from where it would be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flukeprint.metrics.detection import Curve, roc_curve_of_few, threshold_at_eer, threshold_at_far
from flukeprint.scoring.calibration import NoVerification, Verification
from flukeprint.scoring.labelled_photos import ComparedQueries

Places = NDArray[np.int64]

# Steps of a rounded similarity between 0 and 1.
STEPS = 1_000_000
# Weight of half the squared slope (of standardised similarities) beside the mean log-loss: it only keeps it finite.
_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class QueryPairs:
    """The pairs of Q queries with the photos of the gallery; similarities are whole numbers of 1 / STEPS."""

    queries: int
    same: Places  # P: the similarity of each pair of one individual
    individuals: NDArray[np.str_]  # P: whom it shows
    different: Places  # the similarities that pairs of different individuals have, ascending
    numbers: Places  # and how many pairs have each of them

    @property
    def both_kinds(self) -> bool:
        """Whether there are pairs of the same and of different individuals."""
        return bool(len(self.same) and len(self.different))

    def counts(self) -> dict[str, int]:
        """Return how many queries, individuals among them, and pairs of either kind there are."""
        return {
            "queries": self.queries,
            "individuals": len(np.unique(self.individuals)),
            "same_pairs": len(self.same),
            "different_pairs": int(self.numbers.sum()),
        }

    def curve(self) -> Curve:
        """Return the ROC curve; its thresholds are in steps."""
        return roc_curve_of_few(self.same, self.different, self.numbers)


def pairs_of(compared: ComparedQueries) -> QueryPairs:
    """Return the pairs of the queries of individuals that were trained on; every one of them has a photo there."""
    starts, known = compared.photos.individuals.starts, np.flatnonzero(compared.place >= 0)
    numbers = np.zeros(2 * STEPS + 1, np.int64)
    same = [np.zeros(0, np.int64)]
    for rows, block in compared.similarities(known):
        steps = np.rint(np.clip(block, -1, 1) * np.float64(STEPS)).astype(np.int64)
        numbers += np.bincount(steps.ravel() + STEPS, minlength=len(numbers))
        # The photos of an individual stand together.
        places = zip(steps, starts[compared.place[rows]], starts[compared.place[rows] + 1], strict=True)
        same += [one[start:end] for one, start, end in places]
    together = np.concatenate(same)
    numbers -= np.bincount(together + STEPS, minlength=len(numbers))
    there = np.flatnonzero(numbers)
    individuals = np.repeat(compared.labels[known], np.diff(starts)[compared.place[known]])
    return QueryPairs(len(known), together, individuals, there - STEPS, numbers[there])


def fit_verification(pairs: QueryPairs) -> Verification | NoVerification:
    """Return `verification` of models/decision.json: thresholds, the logistic calibration, counts of pairs.

    The calibration weighs pairs of the same and of different whales alike in total (even odds).
    """
    if not pairs.both_kinds:
        reason = "there are no calibration pairs of the same and of different whales"
        return NoVerification(**pairs.counts(), without=reason)
    curve = pairs.curve()
    found = {"far_1e-2": threshold_at_far(curve, 1e-2), "far_1e-3": threshold_at_far(curve, 1e-3)}
    found["eer"] = threshold_at_eer(curve)
    slope, intercept = logistic(pairs)
    return Verification(
        **pairs.counts(),
        # The first step that is accepted: the curve's thresholds may lie between two.
        thresholds={name: round(np.ceil(value) / STEPS, 6) for name, value in found.items() if np.isfinite(value)},
        slope=float(f"{slope:.6g}"),
        intercept=float(f"{intercept:.6g}"),
    )


def logistic(pairs: QueryPairs) -> tuple[float, float]:
    """Fit P(same) = 1 / (1 + exp(-(slope x cosine + intercept))); both kinds weigh alike in total (even odds)."""
    values = np.concatenate([pairs.same, pairs.different]) / STEPS
    numbers = np.concatenate([np.ones(len(pairs.same)), pairs.numbers])
    is_same = np.arange(len(values)) < len(pairs.same)
    weights = np.where(is_same, 0.5 / len(pairs.same), 0.5 * numbers / pairs.numbers.sum())
    return fit_logistic(values, is_same, weights, numbers)


def fit_logistic(
    values: NDArray[np.floating],
    is_positive: NDArray[np.bool_],
    weights: NDArray[np.float64],
    numbers: NDArray[np.floating] | None = None,
) -> tuple[float, float]:
    """Return slope and intercept of P(positive) = 1 / (1 + exp(-(slope x value + intercept))), by maximum likelihood.

    `weights` are what each value counts, of any sum; `numbers` how often it is there, one each by default: by them
    values are brought to mean 0 and deviation 1 before the fit.
    """
    from sklearn.linear_model import LogisticRegression

    x = values.astype(np.float64)
    mean = np.average(x, weights=numbers)
    deviation = np.sqrt(np.average((x - mean) ** 2, weights=numbers)) or 1.0
    model = LogisticRegression(C=1 / _RIDGE, solver="newton-cholesky", tol=1e-10)
    model.fit(((x - mean) / deviation)[:, None], is_positive, sample_weight=weights / weights.sum())
    slope = float(model.coef_[0, 0] / deviation)
    return slope, float(model.intercept_[0] - slope * mean)
