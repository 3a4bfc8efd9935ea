"""Accepting and refusing by a score: ROC and its operating points, precision, recall, average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flukeprint.core.errors import FlukeprintError
from flukeprint.metrics.arrays import Bools, Floats, bools, floats, require_length


@dataclass(frozen=True)
class Curve:
    """What is accepted at each threshold, from the highest down. All arrays have one entry per threshold.

    "Is it a known whale": positives are known queries. "Do these two show the same whale": positives are pairs of
    the same whale, and far and tar are the false and the true accept rate.
    """

    thresholds: Floats  # descending; what scores at least this is accepted
    true_positives: Floats  # accepted positives; ascending
    false_positives: Floats  # accepted negatives; ascending
    positives: int  # all of them, also any without a score
    negatives: int

    @property
    def recall(self) -> Floats:
        """True positives / positives; ascending."""
        return self.true_positives / self.positives

    tar = recall

    @property
    def far(self) -> Floats:
        """False positives / negatives; ascending."""
        return self.false_positives / self.negatives

    @property
    def precision(self) -> Floats:
        """True positives / all that is accepted."""
        return np.asarray(self.true_positives / (self.true_positives + self.false_positives))

    @property
    def envelope(self) -> Floats:
        """Interpolated precision: the best one at this recall or a higher one (Everingham et al., PASCAL VOC 2010)."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]


def roc_curve(is_positive: ArrayLike, scores: ArrayLike) -> Curve:
    """Return the receiver operating characteristic: a point per distinct score, after one that accepts nothing.

    Higher scores are more positive. That all are positive, or none is, is a FlukeprintError.
    """
    positive = bools(is_positive)
    total = int(positive.sum())
    _require_both_kinds(total, len(positive) - total)
    thresholds, true, false = _counts(positive, scores)
    return Curve(np.append(np.inf, thresholds), np.append(0, true), np.append(0, false), total, len(positive) - total)


def roc_curve_of_few(positives: ArrayLike, negatives: ArrayLike, numbers: ArrayLike) -> Curve:
    """Return the curve of few positives among many negatives, with the points at its corners only.

    The figures of this module are those of `roc_curve`, up to the thresholds' place between two scores: between two
    positive scores the curve is a level line. `negatives` are distinct scores, ascending, and `numbers` how many
    negatives have each of them: however many there are, they need not be held, nor sorted.
    """
    values, counts = np.unique(np.asarray(positives, dtype=np.float64), return_counts=True)
    others, below = floats(negatives), np.append(0, np.cumsum(np.asarray(numbers, np.int64)))
    total, negative = int(counts.sum()), int(below[-1])
    _require_both_kinds(total, negative)
    values, accepted = values[::-1], np.cumsum(counts[::-1])
    above, from_here = (negative - below[np.searchsorted(others, values, side=side)] for side in ("right", "left"))
    false = np.column_stack([above, from_here]).ravel()
    true = np.column_stack([accepted - counts[::-1], accepted]).ravel()
    thresholds = np.column_stack([np.nextafter(values, np.inf), values]).ravel()
    return Curve(
        np.concatenate([[np.inf], thresholds, [min(values[-1], float(others[0]))]]),
        np.concatenate([[0], true, [total]]),
        np.concatenate([[0], false, [negative]]),
        total,
        negative,
    )


def _require_both_kinds(positives: int, negatives: int) -> None:
    if not (positives and negatives):
        raise FlukeprintError(
            f"there are {positives} positive and {negatives} negative samples (known and new whales, or same and "
            "different pairs): at least one of either kind is needed to tell them apart."
        )


def _counts(positive: Bools, scores: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return (thresholds, true positives, false positives), one of each per distinct score, descending."""
    from sklearn.metrics import confusion_matrix_at_thresholds

    values = floats(scores)
    require_length(len(positive), scores=values)
    if not len(values):
        return values, values, values
    _, false, _, true, thresholds = confusion_matrix_at_thresholds(y_true=positive, y_score=values)
    return thresholds, true, false


def auroc(curve: Curve) -> float:
    """Return the area under a ROC curve: the chance that a positive outscores a negative, ties counting half."""
    return float(np.trapezoid(curve.tar, curve.far))


def fpr_at_tpr(curve: Curve, tpr: float = 0.95) -> float:
    """Return the lowest false positive rate at which at least `tpr` of the positives are accepted."""
    return float(curve.far[np.searchsorted(curve.tar, _fraction(tpr))])


def tar_at_far(curve: Curve, far: float) -> float:
    """Return the highest true accept rate with a false accept rate of at most `far`.

    A `far` below one over the number of negatives allows no false accept at all.
    """
    return float(curve.tar[np.searchsorted(curve.far, _fraction(far), side="right") - 1])


def threshold_at_far(curve: Curve, far: float) -> float:
    """Return the threshold of `tar_at_far`: what scores at least this is accepted; infinite if nothing may be."""
    return float(curve.thresholds[np.searchsorted(curve.far, _fraction(far), side="right") - 1])


def threshold_at_eer(curve: Curve) -> float:
    """Return the highest threshold at which false accepts are at least as frequent as false rejects."""
    return float(curve.thresholds[int(np.argmax(curve.far >= 1 - curve.tar))])


def equal_error_rate(curve: Curve) -> float:
    """Return the rate at which false accepts and false rejects are equally frequent, between points linearly."""
    gap = curve.far - (1 - curve.tar)  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    step = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(curve.far[after - 1] + step * (curve.far[after] - curve.far[after - 1]))


def _fraction(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"a rate is {value}, expected 0..1")
    return value


def precision_recall_curve(is_positive: ArrayLike, scores: ArrayLike, positives: int | None = None) -> Curve:
    """Return precision against recall: a point per distinct score, higher ones more positive.

    `positives` is the number of all positives, where some have no score (an object that no box was proposed for).
    """
    positive = bools(is_positive)
    found = int(positive.sum())
    total = found if positives is None else positives
    if total < max(found, 1):
        raise FlukeprintError(f"there are {total} positives, {found} with a score: recall needs at least that, and 1.")
    return Curve(*_counts(positive, scores), total, len(positive) - found)


def average_precision(curve: Curve) -> float:
    """Return AP, the area under the interpolated curve: sum of (recall_i - recall_(i-1)) x envelope_i."""
    return float(np.diff(curve.recall, prepend=0.0) @ curve.envelope)


def average_precisions(classes: ArrayLike, is_positive: ArrayLike, scores: ArrayLike, positives: ArrayLike) -> Floats:
    """Return the AP of each of C classes against the rest, shape (C,); their mean is mAP.

    M scores, each of one sample for one class, with whether it shows that class; what has no score for a class comes
    after all that have one. `positives` are all samples of each class, at least 1. As `average_precision` of the scores
    of each class, but of all at once: a thousand individuals take milliseconds.
    """
    group, right, values, total = np.asarray(classes, np.int64), bools(is_positive), floats(scores), floats(positives)
    require_length(len(group), is_positive=right, scores=values)
    order = np.lexsort((-values, group))
    group, right, values = group[order], right[order], values[order]
    start = np.searchsorted(group, group)  # where the class begins
    true = np.append(0, np.cumsum(right))
    true = true[1:] - true[start]
    # Equal scores of a class are one threshold.
    last = np.append((group[1:] != group[:-1]) | (values[1:] != values[:-1]), True)[: len(group)]
    precision = (true / (np.arange(len(group)) - start + 1))[last]
    group, true = group[last], true[last]
    # Precision is at most 1: two less for each class before keeps the running maximum within a class.
    envelope = np.maximum.accumulate((precision - 2.0 * group)[::-1])[::-1] + 2.0 * group
    gained = np.where(np.diff(group, prepend=-1) > 0, true, np.diff(true, prepend=0))
    return np.asarray(np.bincount(group, weights=gained * envelope, minlength=len(total)) / total)
