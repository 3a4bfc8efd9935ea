"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flukeprint.metrics.arrays import Floats, Ints, as_portions, bools, floats, require_length


@dataclass(frozen=True)
class ReliabilityBins:
    """Bins of equal width over 0..1, for a reliability diagram; the arrays have one entry per bin that is not empty."""

    count: Ints  # samples in the bin
    portion: Floats  # of the total weight; sums to 1
    confidence: Floats  # mean confidence of the samples in the bin, not the bin's centre
    accuracy: Floats  # share of them that is correct


def reliability_bins(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15, weights: ArrayLike | None = None
) -> ReliabilityBins:
    """Group samples by confidence into intervals (lower, upper], 0 in the first (Guo et al. 2017, arXiv:1706.04599).

    scikit-learn's `calibration_curve` has no weights.
    """
    given, right = floats(confidence), floats(bools(correct))
    portions = as_portions(len(given), weights)
    require_length(len(given), correct=right)
    if bins < 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError("confidences must be in 0..1, and there must be at least one bin")
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], given, side="left")
    columns = np.ones(len(given)), given, right
    weight, sure, hits = (floats(np.bincount(place, weights=portions * part, minlength=bins)) for part in columns)
    used = np.flatnonzero(weight > 0)
    count = np.bincount(place, minlength=bins)[used].astype(np.int64)
    return ReliabilityBins(count, weight[used], sure[used] / weight[used], hits[used] / weight[used])


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Return ECE = sum over bins of their portion x |accuracy - mean confidence| (Guo et al. 2017)."""
    return float(bins.portion @ np.abs(bins.accuracy - bins.confidence))


def calibration_error_by_chance(
    confidence: ArrayLike, groups: ArrayLike, bins: int = 15, weights: ArrayLike | None = None, draws: int = 200
) -> float:
    """Return the mean ECE of samples whose probabilities are all true: what so few samples show by chance alone.

    Samples of one group (N labels) share a random number, as answers to one question do that are right or wrong
    together; that is the most that chance can do.
    """
    given = floats(confidence)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    require_length(len(given), groups=group)
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(draws):
        right = generator.random(group.max(initial=0) + 1)[group] < given
        errors.append(expected_calibration_error(reliability_bins(given, right, bins, weights)))
    return float(np.mean(errors))
