"""How sure a figure is: resampling individuals, and the paired test of two runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flukeprint.metrics.arrays import Bools, Floats, floats, require_length
from flukeprint.metrics.weights import as_portions, weighted_mean

# Elements of the largest array that the bootstrap makes at a time (32 MB).
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval."""

    low: float
    estimate: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How much higher one run scores than another on the same queries."""

    difference: float
    low: float
    high: float
    p_value: float  # two-sided; the chance of a difference at least this large if the runs were alike


@dataclass(frozen=True)
class _Stratum:
    """The groups of one stratum, and what each adds to its weighted mean."""

    portion: float  # of the total weight
    sums: Floats  # G x M: sum of weight x value
    weights: Floats  # G: sum of weight


def bootstrap_means(
    values: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Floats:
    """Return the weighted mean of each bootstrap resample, drawing whole groups with replacement.

    Photos of one individual are alike, so individuals are drawn, not photos: as many groups as there are, each
    with all its queries (the cluster bootstrap; Davison & Hinkley 1997, section 3.8). With `strata`, groups are drawn
    within each stratum, whose portion of the total weight stays what it is: a declared share of new whales is
    then no source of chance. The same seed, groups and strata draw the same resamples, whatever the values.

    Args:
        values: N, or N x M for M figures at once on the same resamples.
        groups: N group names (ids); a group in two strata counts as two groups.
        weights: N weights.
        strata: N stratum names (such as is_new).
        resamples: R.
        seed: of the draw.

    Returns:
        Array (R,), or (R, M) for N x M values.

    """
    parts = _strata(values, groups, weights, strata)
    generator = np.random.default_rng(seed)
    means = np.zeros((resamples, parts[0].sums.shape[1]))
    for part in parts:
        size = len(part.weights)
        both = np.column_stack([part.sums, part.weights])
        for block in _blocks(resamples, size):
            totals = _draws(generator, block.stop - block.start, size) @ both
            means[block] += part.portion * totals[:, :-1] / totals[:, -1:]
    return means[:, 0] if np.ndim(values) == 1 else means


def _blocks(resamples: int, size: int) -> Iterator[slice]:
    """Cut the resamples into blocks, so that memory is bounded whatever the number of groups."""
    step = max(1, _BLOCK // max(size, 1))
    for start in range(0, resamples, step):
        yield slice(start, min(start + step, resamples))


def _draws(generator: np.random.Generator, resamples: int, size: int) -> Floats:
    """Return how often each of `size` groups is drawn in each resample, R x G."""
    drawn = generator.integers(size, size=(resamples, size)) + np.arange(resamples)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the weighted mean of N values with its percentile interval over `bootstrap_means`.

    With one group per stratum the interval has no width: there is nothing to learn its spread from.
    """
    means = bootstrap_means(floats(values).ravel(), groups, weights, strata, resamples=resamples, seed=seed)
    low, high = _percentiles(means, level)
    return Interval(low, weighted_mean(values, weights), high)


def bootstrap_intervals(
    values: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Interval]:
    """Return the `bootstrap_interval` of each column of N x M values, all on the same resamples."""
    table = floats(values)
    means = bootstrap_means(table, groups, weights, strata, resamples=resamples, seed=seed)
    bounds = [_percentiles(column, level) for column in means.T]
    return [
        Interval(low, weighted_mean(column, weights), high) for column, (low, high) in zip(table.T, bounds, strict=True)
    ]


def compare_runs(
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs' scores of the same N queries: mean of first - second, its interval, and a p-value.

    The interval is the paired bootstrap over groups, the p-value that of `permutation_p_value`.
    """
    gain = _gain(first, second)
    found = bootstrap_interval(gain, groups, weights, strata, level=level, resamples=resamples, seed=seed)
    p_value = permutation_p_value(first, second, groups, weights, strata, resamples=resamples, seed=seed)
    return Comparison(found.estimate, found.low, found.high, p_value)


def permutation_p_value(
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> float:
    """Return the two-sided p-value of the paired permutation test over groups.

    If the runs were alike, which of them got which score of a group would be chance: the two are swapped at
    random, group by group. p = (1 + swaps with a difference at least as large) / (1 + resamples), so never 0
    (Phipson & Smyth 2010). Arguments as for `compare_runs`.
    """
    parts = _strata(_gain(first, second), groups, weights, strata)
    effects = np.concatenate([part.portion * part.sums[:, 0] / part.weights.sum() for part in parts])
    effects = effects[effects != 0]  # swapping what is equal changes nothing
    observed = abs(float(effects.sum()))
    generator = np.random.default_rng(seed)
    extreme = 0
    for block in _blocks(resamples, len(effects)):
        signs = generator.integers(2, size=(block.stop - block.start, len(effects)), dtype=np.int8) * 2.0 - 1.0
        # A rounding error must not tell apart what is equal.
        extreme += int((np.abs(signs @ effects) >= observed * (1 - 1e-9)).sum())
    return (1 + extreme) / (1 + resamples)


def _gain(first: ArrayLike, second: ArrayLike) -> Floats:
    one, other = floats(first), floats(second)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"the runs' scores have the shapes {one.shape} and {other.shape}, expected the same N queries")
    return np.asarray(one - other)


def _strata(
    values: ArrayLike, groups: ArrayLike, weights: ArrayLike | None, strata: ArrayLike | None
) -> list[_Stratum]:
    """Sum values and weights by stratum and group. A stratum without weight is left out: it adds nothing."""
    table = floats(values)
    portions = as_portions(len(table), weights)
    table = table.reshape(len(table), -1)
    names = np.asarray(groups)
    layers = np.zeros(len(table), dtype=bool) if strata is None else np.asarray(strata)
    require_length(len(table), groups=names, strata=layers)
    parts = [_stratum(table, names, portions, np.asarray(layers == layer)) for layer in np.unique(layers)]
    return [part for part in parts if part.portion > 0]


def _stratum(table: Floats, names: NDArray[Any], portions: Floats, rows: Bools) -> _Stratum:
    rows = rows & (portions > 0)
    _, place = np.unique(names[rows], return_inverse=True)
    chosen = portions[rows]
    sums = [np.bincount(place, weights=chosen * column) for column in table[rows].T]
    weights = np.bincount(place, weights=chosen)
    return _Stratum(float(chosen.sum()), np.column_stack(sums), np.asarray(weights, dtype=np.float64))


def _percentiles(means: Floats, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}, expected between 0 and 1, such as 0.95")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
