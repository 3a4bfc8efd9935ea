"""What is passed in: its types, checks that it fits together, weights of queries, and means under them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flukeprint.core.errors import FlukeprintError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


def floats(values: ArrayLike) -> Floats:
    """Return numbers as float64."""
    return np.asarray(values, dtype=np.float64)


def bools(values: ArrayLike) -> Bools:
    """Return booleans; numbers are refused, because a score in place of a truth would pass as true."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype != np.bool_ and array.size):
        raise ValueError(f"expected one boolean per sample, got {array.dtype} of the shape {array.shape}")
    return array.astype(np.bool_)


def require_length(length: int, **arrays: Any) -> None:
    """Require so many entries of every array; ValueError names the one that has others."""
    for name, array in arrays.items():
        if len(array) != length:
            raise ValueError(f"{name} has {len(array)} entries, expected {length}")


def new_share_weights(is_new: ArrayLike, share: float) -> Floats:
    """Return weights, shape (N,), under which new queries make up `share` of the total; their mean is 1.

    A kind of query of which there is none, though the share needs it, is a FlukeprintError.
    """
    new = bools(is_new)
    if not 0 <= share <= 1:
        raise FlukeprintError(f"the share of new whales is {share}, expected 0..1. Repair evaluate.new_share.")
    total, of_new = len(new), int(new.sum())
    for kind, number, part in (("new", of_new, share), ("known", total - of_new, 1 - share)):
        if number == 0 and (part > 0 or total == 0):
            raise FlukeprintError(
                f"none of the {total} queries shows a {kind} whale, but {part:.1%} of the score is to come from "
                "them. Set more photos aside (select.holdout in params.yaml), or choose another share."
            )
    return np.where(new, share * total / max(of_new, 1), (1 - share) * total / max(total - of_new, 1))


def weighted_mean(values: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the mean of N values under N weights (equal by default)."""
    numbers = floats(values)
    portions = as_portions(len(numbers), weights)
    return float(numbers.mean() if weights is None else np.average(numbers, weights=portions))


def as_portions(length: int, weights: ArrayLike | None) -> Floats:
    """Return the weights scaled to a sum of 1."""
    if length == 0:
        raise FlukeprintError("there are no queries to score. Set photos aside with select.holdout in params.yaml.")
    if weights is None:
        return np.full(length, 1.0 / length)
    given = floats(weights)
    if given.shape != (length,) or not np.isfinite(given).all() or given.min() < 0 or given.sum() <= 0:
        raise ValueError(f"weights must be {length} finite numbers >= 0, not all 0")
    return np.asarray(given / given.sum())
