"""Ranked labels: MAP@k, top-k accuracy, the cumulative match characteristic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flukeprint.metrics.arrays import Floats, Ints, floats, require_length, zeros
from flukeprint.metrics.weights import as_portions, new_share_weights, weighted_mean

Ranked: TypeAlias = Sequence[Sequence[str]] | NDArray[Any]


def first_ranks(truth: Sequence[str] | NDArray[Any], ranked: Ranked) -> Ints:
    """Return the rank (1-based) at which each query's true label first stands in its list, 0 where it does not.

    A repeated label is not skipped: it uses up a rank, as in Kaggle's scoring. Lists may be short or empty.

    Args:
        truth: N labels.
        ranked: N lists of labels, or an array N x K of strings or objects.

    Raises:
        ValueError: other numbers of labels and lists, or a list that is one string.

    """
    require_length(len(truth), ranked=ranked)
    if isinstance(ranked, np.ndarray) and ranked.ndim == 2:
        # dtype=str, not ranked.dtype: that could cut a longer true label down to one that matches.
        wanted = np.asarray(truth, dtype=str if ranked.dtype.kind == "U" else object)
        hits = np.asarray(ranked == wanted[:, None], dtype=bool)
        return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0) if hits.size else zeros(len(truth))
    if any(isinstance(labels, str) for labels in ranked):
        raise ValueError("a list of ranked labels is one string; split it first")
    ranks = (_place(list(labels), label) for label, labels in zip(truth, ranked, strict=True))
    return np.fromiter(ranks, dtype=np.int64, count=len(truth))


def _place(labels: list[str], label: str) -> int:
    return labels.index(label) + 1 if label in labels else 0


def score_ranks(scores: ArrayLike, target: ArrayLike) -> Ints:
    """Return the rank of each query's true class by score, without sorting; 0 where it has none.

    Equal scores are ranked by ascending class index, as a stable sort by descending score does.

    Args:
        scores: N x C, higher is better, without NaN.
        target: N indices of the true class, -1 for a query whose individual is not among the classes.

    Raises:
        ValueError: shapes that do not fit, NaN, an index out of range.

    """
    table, wanted = np.asarray(scores), np.asarray(target, dtype=np.int64)
    if table.ndim != 2 or wanted.shape != table.shape[:1] or np.isnan(table).any():
        raise ValueError(f"scores {table.shape} must be N x C without NaN, target {wanted.shape} its N classes")
    if wanted.size and (wanted.min() < -1 or wanted.max() >= table.shape[1]):
        raise ValueError(f"target has indices outside -1..{table.shape[1] - 1}")
    present = wanted >= 0
    true_score = np.take_along_axis(table, np.where(present, wanted, 0)[:, None], axis=1)
    earlier = np.arange(table.shape[1]) < wanted[:, None]
    ahead = (table > true_score) | ((table == true_score) & earlier)
    return np.where(present, ahead.sum(axis=1) + 1, 0)


def reciprocal_ranks(truth: Sequence[str] | NDArray[Any], ranked: Ranked, k: int = 5) -> Floats:
    """Return each query's score in MAP@k, shape (N,): 1/rank of the first occurrence within the first k, else 0.

    With one true label per query the average precision at k is just this. Source: openai/mle-bench,
    `mlebench/metrics.py` and the competition's `grade.py`; the competition text's formula lacks rel(k) and is wrong.
    """
    return _reciprocal(first_ranks(truth, ranked), k)


def _reciprocal(ranks: Ints, k: int) -> Floats:
    counted = (ranks > 0) & (ranks <= k)
    return np.where(counted, 1.0 / np.where(counted, ranks, 1), 0.0)


def map_at_k(
    truth: Sequence[str] | NDArray[Any], ranked: Ranked, k: int = 5, weights: ArrayLike | None = None
) -> float:
    """Return MAP@k, the (weighted) mean of `reciprocal_ranks`; k = 5 without weights is Kaggle's score."""
    return weighted_mean(reciprocal_ranks(truth, ranked, k), weights)


def map_over_share(reciprocal: ArrayLike, is_new: ArrayLike, shares: ArrayLike) -> Floats:
    """Return MAP@k for each assumed share of new whales: share x mean(new) + (1 - share) x mean(known).

    Args:
        reciprocal: N scores from `reciprocal_ranks`.
        is_new: N booleans.
        shares: M shares in 0..1.

    Raises:
        FlukeprintError: a kind of query is missing that a share needs.

    """
    return np.array([weighted_mean(reciprocal, new_share_weights(is_new, share)) for share in floats(shares)])


def top_k_accuracy(ranks: ArrayLike, k: int, weights: ArrayLike | None = None) -> float:
    """Return the (weighted) share of queries whose true label is within the first k.

    Args:
        ranks: N ranks, from `first_ranks` or `score_ranks`.
        k: length of the list that is looked at.
        weights: N weights.

    """
    found = np.asarray(ranks, dtype=np.int64)
    return weighted_mean((found > 0) & (found <= k), weights)


def cmc(ranks: ArrayLike, depth: int, weights: ArrayLike | None = None) -> Floats:
    """Return the cumulative match characteristic: top-1, top-2, ... top-depth accuracy, shape (depth,).

    Source: ISO/IEC 19795-1, the identification rate at rank k. Arguments as for `top_k_accuracy`.
    """
    found = np.asarray(ranks, dtype=np.int64)
    portions = as_portions(len(found), weights)
    within = (found > 0) & (found <= depth)
    return np.cumsum(np.bincount(found[within] - 1, weights=portions[within], minlength=depth)[:depth])
