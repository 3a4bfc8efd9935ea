"""How sure a figure is: resampling individuals, and the paired test of two runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from flukeprint.metrics.arrays import Bools, Floats, as_portions, floats, require_length, weighted_mean

# Elements of the largest array that the bootstrap makes at a time (32 MB).
_BLOCK = 1 << 22
# A difference with a larger p-value is not called one.
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval."""

    low: float
    estimate: float
    high: float

    def figures(self, key: str) -> dict[str, float]:
        """Return the estimate under a key, and the bounds under `<key>_low` and `<key>_high`."""
        return {key: self.estimate, f"{key}_low": self.low, f"{key}_high": self.high}


@dataclass(frozen=True)
class Comparison:
    """How much higher one run scores than another on the same queries."""

    difference: float
    low: float
    high: float
    p_value: float  # two-sided; the chance of a difference at least this large if the runs were alike

    @property
    def verdict(self) -> int:
        """1 where the first is better by more than chance, -1 where it is worse, else 0.

        Few individuals make the bootstrap too sure of itself: both the interval and the test must agree.
        """
        return (int(self.low > 0) - int(self.high < 0)) * int(self.p_value <= LEVEL)


@dataclass(frozen=True)
class Resampling:
    """The bootstrap and the permutation test over groups of N queries.

    Photos of one individual are alike, so individuals are drawn, not photos: as many groups as there are, each
    with all its queries (the cluster bootstrap; Davison & Hinkley 1997, section 3.8). With `strata`, groups are drawn
    within each stratum, whose portion of the total weight stays what it is: a declared share of new whales is
    then no source of chance. The same seed, groups and strata draw the same resamples, whatever the values.
    `scipy.stats.bootstrap` knows neither strata nor weights.
    """

    groups: ArrayLike  # N names (ids); a group in two strata counts as two groups
    weights: ArrayLike | None = None  # N
    strata: ArrayLike | None = None  # N names (such as is_new)
    resamples: int = 2000
    seed: int = 0

    def means(self, values: ArrayLike) -> Floats:
        """Return the weighted mean of each resample: (R,) for N values, (R, M) for N x M."""
        generator = np.random.default_rng(self.seed)
        sums = [self._sums(values, rows) for rows in self._strata]
        means = np.zeros((self.resamples, sums[0].shape[1] - 1))
        for part in sums:
            portion = part[:, -1].sum()
            for block in self._blocks(len(part)):
                totals = _draws(generator, block.stop - block.start, len(part)) @ part
                means[block] += portion * totals[:, :-1] / totals[:, -1:]
        return means[:, 0] if np.ndim(values) == 1 else means

    def intervals(self, values: ArrayLike, level: float = 0.95) -> list[Interval]:
        """Return the mean of each column of N x M values with its percentile interval, all on the same resamples.

        With one group per stratum an interval has no width: there is nothing to learn its spread from.
        """
        if not 0 < level < 1:
            raise ValueError(f"the level is {level}, expected between 0 and 1, such as 0.95")
        table = floats(values)
        low, high = np.quantile(self.means(table), [(1 - level) / 2, (1 + level) / 2], axis=0)
        estimates = [weighted_mean(column, self.weights) for column in table.T]
        return [Interval(*bounds) for bounds in zip(low.tolist(), estimates, high.tolist(), strict=True)]

    def interval(self, values: ArrayLike, level: float = 0.95) -> Interval:
        """Return the mean of N values with its percentile interval."""
        return self.intervals(floats(values)[:, None], level)[0]

    def p_value(self, gain: ArrayLike) -> float:
        """Return the two-sided p-value of the paired permutation test over groups, from N differences of two runs.

        If the runs were alike, which of them got which score of a group would be chance: the two are swapped at
        random, group by group. p = (1 + swaps with a difference at least as large) / (1 + resamples), so never 0
        (Phipson & Smyth 2010).
        """
        effects = np.concatenate([self._sums(gain, rows)[:, 0] for rows in self._strata])
        effects = effects[effects != 0]  # swapping what is equal changes nothing
        observed = abs(float(effects.sum()))
        generator = np.random.default_rng(self.seed)
        extreme = 0
        for block in self._blocks(len(effects)):
            signs = generator.integers(2, size=(block.stop - block.start, len(effects)), dtype=np.int8) * 2.0 - 1.0
            # A rounding error must not tell apart what is equal.
            extreme += int((np.abs(signs @ effects) >= observed * (1 - 1e-9)).sum())
        return (1 + extreme) / (1 + self.resamples)

    def compare(self, first: ArrayLike, second: ArrayLike) -> Comparison:
        """Compare two runs' scores of the same N queries: the mean of first - second, its interval, and a p-value."""
        one, other = floats(first), floats(second)
        if one.ndim != 1 or one.shape != other.shape:
            raise ValueError(f"the runs' scores have the shapes {one.shape} and {other.shape}, expected the same N")
        found = self.interval(one - other)
        return Comparison(found.estimate, found.low, found.high, self.p_value(one - other))

    @cached_property
    def _portions(self) -> Floats:
        return as_portions(len(np.asarray(self.groups)), self.weights)

    @cached_property
    def _strata(self) -> list[Bools]:
        """The rows of each stratum. One without weight is left out: it adds nothing."""
        layers = np.zeros(len(self._portions), dtype=bool) if self.strata is None else np.asarray(self.strata)
        require_length(len(self._portions), strata=layers)
        parts = [(layers == layer) & (self._portions > 0) for layer in np.unique(layers)]
        return [rows for rows in parts if rows.any()]

    def _sums(self, values: ArrayLike, rows: Bools) -> Floats:
        """Return for each group of some rows the sums of weight x value, and last that of the weights: G x (M + 1)."""
        table = floats(values)
        require_length(len(rows), values=table)
        columns = np.column_stack([table.reshape(len(table), -1), np.ones(len(table))])[rows]
        _, place = np.unique(np.asarray(self.groups)[rows], return_inverse=True)
        return np.column_stack([np.bincount(place, weights=self._portions[rows] * column) for column in columns.T])

    def _blocks(self, size: int) -> Iterator[slice]:
        """Cut the resamples into blocks, so that memory is bounded whatever the number of groups."""
        step = max(1, _BLOCK // max(size, 1))
        for start in range(0, self.resamples, step):
            yield slice(start, min(start + step, self.resamples))


def _draws(generator: np.random.Generator, resamples: int, size: int) -> Floats:
    """Return how often each of `size` groups is drawn in each resample, R x G."""
    drawn = generator.integers(size, size=(resamples, size)) + np.arange(resamples)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=resamples * size).reshape(resamples, size).astype(np.float64)
