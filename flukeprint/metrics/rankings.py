"""Ranked labels: MAP@k, top-k accuracy, the cumulative match characteristic, every individual counted alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flukeprint.metrics.arrays import Floats, Ints, floats, new_share_weights, require_length, weighted_mean

Ranked: TypeAlias = Sequence[Sequence[str]] | NDArray[Any]


def first_ranks(truth: Sequence[str] | NDArray[Any], ranked: Ranked) -> Ints:
    """Return the rank (1-based) at which each query's true label first stands in its list, 0 where it does not.

    A repeated label is not skipped: it uses up a rank, as in Kaggle's scoring. Lists may be short or empty.
    """
    require_length(len(truth), ranked=ranked)
    if any(isinstance(labels, str) for labels in ranked):
        raise ValueError("a list of ranked labels is one string; split it first")
    pairs = zip(truth, map(list, ranked), strict=True)
    return np.array([labels.index(label) + 1 if label in labels else 0 for label, labels in pairs], dtype=np.int64)


def reciprocal_ranks(truth: Sequence[str] | NDArray[Any], ranked: Ranked, k: int = 5) -> Floats:
    """Return each query's score in MAP@k, shape (N,): 1/rank of the first occurrence within the first k, else 0.

    With one true label per query the average precision at k is just this, and MAP@k the mean. Source:
    openai/mle-bench, `mlebench/metrics.py` and the competition's `grade.py`; the competition text's formula lacks
    rel(k) and is wrong.
    """
    ranks = first_ranks(truth, ranked)
    counted = (ranks > 0) & (ranks <= k)
    return np.where(counted, 1.0 / np.where(counted, ranks, 1), 0.0)


def map_over_share(reciprocal: ArrayLike, is_new: ArrayLike, shares: ArrayLike) -> Floats:
    """Return MAP@k for each of M assumed shares of new whales: share x mean(new) + (1 - share) x mean(known)."""
    return np.array([weighted_mean(reciprocal, new_share_weights(is_new, share)) for share in floats(shares)])


def top_k_accuracy(ranks: ArrayLike, k: int) -> float:
    """Return the share of queries whose true label is within the first k, from N ranks."""
    found = np.asarray(ranks, dtype=np.int64)
    return weighted_mean((found > 0) & (found <= k))


def cmc(ranks: ArrayLike, depth: int) -> Floats:
    """Return the cumulative match characteristic: top-1, top-2, ... top-depth accuracy, shape (depth,), from N ranks.

    Source: ISO/IEC 19795-1, the identification rate at rank k.
    """
    return np.array([top_k_accuracy(ranks, k) for k in range(1, depth + 1)])


def balanced_accuracy(individuals: ArrayLike, correct: ArrayLike) -> float:
    """Return the mean over individuals of the share of their queries that is answered right.

    On known queries this is BAKS, on new ones BAUS (`metrics/metrics.py` of wildlife-datasets). Photos that share a
    label and show different individuals need names of their own.
    """
    names, right = np.asarray(individuals, dtype=str), floats(correct)
    require_length(len(names), correct=right)
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    return weighted_mean(np.bincount(place, weights=right) / counts)
