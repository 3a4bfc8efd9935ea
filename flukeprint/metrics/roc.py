"""Accepting and refusing by a score: the receiver operating characteristic and its operating points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flukeprint.core.errors import FlukeprintError
from flukeprint.metrics.arrays import Floats
from flukeprint.metrics.thresholds import counts_by_threshold


@dataclass(frozen=True)
class RocCurve:
    """One point per distinct score, after the point (0, 0) where nothing is accepted; same length all.

    "Is it a known whale": positives are known queries. "Do these two show the same whale": positives are
    genuine pairs, and far and tar are the false and the true accept rate.
    """

    far: Floats  # false positives / negatives; ascending, 0 to 1
    tar: Floats  # true positives / positives; ascending, 0 to 1
    thresholds: Floats  # descending from infinity; what scores at least this is accepted


def roc_curve(is_positive: ArrayLike, scores: ArrayLike) -> RocCurve:
    """Return the receiver operating characteristic.

    Args:
        is_positive: N booleans.
        scores: N scores, higher is more positive.

    Raises:
        FlukeprintError: all are positive, or none is.

    """
    true_positives, false_positives, thresholds = counts_by_threshold(is_positive, scores)
    totals = (int(true_positives[-1]), int(false_positives[-1])) if len(thresholds) else (0, 0)
    if 0 in totals:
        raise FlukeprintError(
            f"there are {totals[0]} positive and {totals[1]} negative samples (known and new whales, or same and "
            "different pairs): at least one of either kind is needed to tell them apart."
        )
    return RocCurve(
        np.append(0.0, false_positives / totals[1]),
        np.append(0.0, true_positives / totals[0]),
        np.append(np.inf, thresholds),
    )


def roc_curve_of_few(positives: ArrayLike, negatives: ArrayLike) -> RocCurve:
    """Return the curve of few positives among many negatives, with the points at its corners only.

    The figures of this module are those of `roc_curve`, up to the thresholds' place between two scores, in a fraction
    of time and memory: between two positive scores the curve is a level line.

    Args:
        positives: their scores.
        negatives: theirs; float32 is sorted as such.

    """
    values, counts = np.unique(np.asarray(positives, dtype=np.float64), return_counts=True)
    others = np.sort(np.asarray(negatives).ravel())
    if not len(values) or not len(others):
        raise FlukeprintError(
            f"there are {len(values)} positive and {len(others)} negative scores: at least one of either is needed."
        )
    values, accepted = values[::-1], np.cumsum(counts[::-1])
    # In the negatives' own type: else the whole array is converted.
    at = others.dtype.type(values) if others.dtype == np.float32 else values
    above, from_here = (len(others) - np.searchsorted(others, at, side=side) for side in ("right", "left"))
    far = np.column_stack([above, from_here]).ravel() / len(others)
    tar = np.column_stack([accepted - counts[::-1], accepted]).ravel() / accepted[-1]
    thresholds = np.column_stack([np.nextafter(values, np.inf), values]).ravel()
    lowest = min(values[-1], float(others[0]))
    return RocCurve(
        np.concatenate([[0.0], far, [1.0]]),
        np.concatenate([[0.0], tar, [1.0]]),
        np.concatenate([[np.inf], thresholds, [lowest]]),
    )


def auroc(curve: RocCurve) -> float:
    """Return the area under the curve: the chance that a positive outscores a negative, ties counting half."""
    return float(np.trapezoid(curve.tar, curve.far))


def fpr_at_tpr(curve: RocCurve, tpr: float = 0.95) -> float:
    """Return the lowest false positive rate at which at least `tpr` of the positives are accepted."""
    return float(curve.far[np.searchsorted(curve.tar, _fraction(tpr))])


def tar_at_far(curve: RocCurve, far: float) -> float:
    """Return the highest true accept rate with a false accept rate of at most `far`.

    A `far` below one over the number of negatives allows no false accept at all.
    """
    return float(curve.tar[np.searchsorted(curve.far, _fraction(far), side="right") - 1])


def threshold_at_far(curve: RocCurve, far: float) -> float:
    """Return the threshold of `tar_at_far`: what scores at least this is accepted; infinite if nothing may be."""
    return float(curve.thresholds[np.searchsorted(curve.far, _fraction(far), side="right") - 1])


def threshold_at_eer(curve: RocCurve) -> float:
    """Return the highest threshold at which false accepts are at least as frequent as false rejects."""
    return float(curve.thresholds[int(np.argmax(curve.far >= 1 - curve.tar))])


def equal_error_rate(curve: RocCurve) -> float:
    """Return the rate at which false accepts and false rejects are equally frequent, between points linearly."""
    gap = curve.far - (1 - curve.tar)  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    step = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(curve.far[after - 1] + step * (curve.far[after] - curve.far[after - 1]))


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"a rate is {value}, expected 0..1")
    return value
