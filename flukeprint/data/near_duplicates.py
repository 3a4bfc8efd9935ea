"""Near-duplicate photos by perceptual hash, confirmed on thumbnails, in linear memory.

Two photos are duplicates if their hashes are equal, or at most 6 bits apart with a normalised mean squared
difference (MSE) of their 32 x 32 thumbnails of at most 0.07. A cluster is a connected component of that relation.

This is Martin Piotte's rule for this competition, but for two things, both settled on 23,719 real photos:

- He takes the MSE of whole photos and accepts 0.1. Thumbnails are smoother, so theirs is lower. Of the 4,093
  candidate pairs, 0.07 on thumbnails accepts the 231 that 0.1 on whole photos accepts; 0.1 on thumbnails accepts
  seven more, five of which show two different dark flukes.
- He asks for equal size and mode as well (`same_size=True`). That misses copies that were resized or turned grey.
  Among 1,500 photos with 14 altered copies each (resized, recompressed, cropped, grey, brighter; see
  bench/alterations.py) neither rule accepts a pair of different photos; the recall is 0.88 without the condition
  and 0.76 with it. On the real photos, which all have one size, dropping it adds one pair, a true one.

Copies cropped by 1 % a side are found (0.97), by 2 % seldom (0.34), by 4 % hardly ever.

Candidates come without comparing all pairs. Hashes that differ in at most b bits agree on at least two of any
b + 2 bands that the 64 bits are cut into (pigeonhole), so it is enough to compare hashes within the buckets of
each pair of bands; crowded buckets are cut again, by the bits that still vary inside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE

Int = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Labels = Sequence[str] | NDArray[np.str_]
PairChunk = tuple[Int, Int]

MAX_BITS = 6
MAX_MSE = 0.07

_HASH_BITS = 64
# Below this many hashes comparing all pairs is quicker than sorting them into buckets.
_SMALL = 2048
_SAMPLE = 2048
_CHUNK_PAIRS = 1 << 20
_BLOCK_PAIRS = 1 << 12
_NO_PAIRS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))


class Pairs(NamedTuple):
    """Duplicate pairs: rows i < j, ordered by (i, j)."""

    i: Int
    j: Int
    bits: Int  # differing bits of the two hashes
    mse: NDArray[np.float64]  # normalised mean squared difference of the two thumbnails


def near_duplicate_clusters(
    phash: Hashes,
    width: Int,
    height: Int,
    mode: Labels,
    thumbnails: NDArray[np.uint8],
    max_bits: int = MAX_BITS,
    max_mse: float = MAX_MSE,
    same_size: bool = False,
) -> Int:
    """Return each photo's cluster, numbered 0..k-1 in order of first appearance (N).

    Args:
        phash: perceptual hashes (N).
        width: px (N).
        height: px (N).
        mode: Pillow's modes (N).
        thumbnails: grey thumbnails (N x 32 x 32; any side will do; may be memory-mapped).
        max_bits: hashes further apart are never duplicates.
        max_mse: upper bound on the mean squared difference of thumbnails standardised to mean 0, variance 1.
        same_size: unequal hashes count only between photos of the same size and mode.

    """
    phash = np.asarray(phash, dtype=np.uint64)
    component = np.unique(phash, return_inverse=True)[1].astype(np.int64)
    if max_bits > 0:
        kind = _kinds(width, height, mode) if same_size else np.zeros(len(phash), dtype=np.int64)
        pictures = _Pictures.of(thumbnails)
        for i, j in _photo_pairs(phash, kind, max_bits):
            # What is joined already needs no confirmation: a crowd of copies costs one comparison each.
            apart = component[i] != component[j]
            a, b = i[apart], j[apart]
            same = pictures.differences(a, b) <= max_mse
            component = _joined(component, a[same], b[same])
    return _by_first_appearance(component)


def duplicate_pairs(
    phash: Hashes,
    width: Int,
    height: Int,
    mode: Labels,
    thumbnails: NDArray[np.uint8],
    max_bits: int = MAX_BITS,
    max_mse: float = MAX_MSE,
    same_size: bool = False,
) -> Pairs:
    """Return every pair that the rule calls duplicates; arguments as in `near_duplicate_clusters`.

    The result grows with the square of a cluster's size: 10,000 copies of one photo are 50 million pairs.
    """
    phash = np.asarray(phash, dtype=np.uint64)
    kind = _kinds(width, height, mode) if same_size else np.zeros(len(phash), dtype=np.int64)
    pictures = _Pictures.of(thumbnails)
    chunks = [(i, j, pictures.differences(i, j)) for i, j in _equal_pairs(phash)]
    for i, j in _photo_pairs(phash, kind, max_bits):
        mse = pictures.differences(i, j)
        same = mse <= max_mse
        chunks.append((i[same], j[same], mse[same]))
    a, b, mse = (np.concatenate(column) for column in zip(_NO_PAIRS, *chunks, strict=True))
    i, j = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((j, i))
    i, j = i[order], j[order]
    return Pairs(i, j, np.bitwise_count(phash[i] ^ phash[j]).astype(np.int64), mse[order])


def conflicting_clusters(cluster: Int, labels: Labels) -> list[int]:
    """Return the clusters (ascending) that hold more than one label. `new_whale` counts as a label."""
    return sorted(number for number, held in _labels_held(cluster, labels).items() if len(held) > 1)


def conflicting_labels(cluster: Int, labels: Labels) -> list[tuple[str, str, int]]:
    """Return pairs of labels that share clusters, as (label, label, number of clusters), most clusters first.

    Pairs with `new_whale` are left out: what is left looks like one individual under two ids.
    """
    shared = Counter(
        pair for held in _labels_held(cluster, labels).values() for pair in combinations(sorted(held - {NEW_WHALE}), 2)
    )
    return sorted(((a, b, count) for (a, b), count in shared.items()), key=lambda row: (-row[2], row[0], row[1]))


def _labels_held(cluster: Int, labels: Labels) -> dict[int, set[str]]:
    held: dict[int, set[str]] = {}
    for number, label in zip(np.asarray(cluster).tolist(), labels, strict=True):
        held.setdefault(number, set()).add(str(label))
    return held


def train_rows_of_test(train_cluster: Int, test_cluster: Int) -> list[Int]:
    """Return, for each test photo, the rows of the train photos in its cluster (often none), ascending.

    The clusters must come from one call of `near_duplicate_clusters` on train and test together.
    """
    order = np.argsort(train_cluster, kind="stable")
    ordered = np.asarray(train_cluster)[order]
    first = np.searchsorted(ordered, test_cluster, side="left")
    last = np.searchsorted(ordered, test_cluster, side="right")
    return [order[start:stop] for start, stop in zip(first, last, strict=True)]


# --- confirmation on thumbnails ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pictures:
    """Thumbnails as rows (N x P, uint8) with what standardising them needs, in exact whole numbers."""

    rows: NDArray[np.uint8]
    total: Int  # sum of the values (N)
    spread: Int  # P * sum of squares - total squared: P squared times the variance (N)

    @classmethod
    def of(cls, thumbnails: NDArray[np.uint8]) -> _Pictures:
        rows = thumbnails.reshape(len(thumbnails), -1) if len(thumbnails) else np.zeros((0, 1), np.uint8)
        total, squares = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for start in range(0, len(rows), _BLOCK_PAIRS):
            block = rows[start : start + _BLOCK_PAIRS].astype(np.int32)
            total[start : start + _BLOCK_PAIRS] = block.sum(axis=1)
            squares[start : start + _BLOCK_PAIRS] = np.einsum("np,np->n", block, block)
        return cls(rows, total, rows.shape[1] * squares - total**2)

    def differences(self, i: Int, j: Int) -> NDArray[np.float64]:
        """Return the mean squared difference of the standardised thumbnails of each pair.

        That is 2 - 2 r, r being their correlation. A flat thumbnail standardises to zeros: 0 from another
        flat one, 1 from any other.
        """
        size = self.rows.shape[1]
        both = np.zeros(len(i), np.int64)
        for start in range(0, len(i), _BLOCK_PAIRS):
            a = self.rows[i[start : start + _BLOCK_PAIRS]].astype(np.int32)
            b = self.rows[j[start : start + _BLOCK_PAIRS]].astype(np.int32)
            both[start : start + _BLOCK_PAIRS] = np.einsum("np,np->n", a, b)
        covariance = (size * both - self.total[i] * self.total[j]).astype(np.float64)
        scale = np.sqrt(self.spread[i].astype(np.float64)) * np.sqrt(self.spread[j].astype(np.float64))
        correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
        variances = (self.spread[i] > 0) * 1.0 + (self.spread[j] > 0)
        # Not below 0, where rounding would put equal thumbnails.
        return np.asarray(np.maximum(variances - 2 * correlation, 0.0))


# --- components -------------------------------------------------------------------------------------------


def _kinds(width: Int, height: Int, mode: Labels) -> Int:
    """Return a number per photo that is equal for photos of the same size and mode."""
    codes = np.unique(np.asarray(mode, dtype=np.str_), return_inverse=True)[1]
    columns = np.stack([np.asarray(width), np.asarray(height), codes], axis=1)
    return np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _joined(component: Int, i: Int, j: Int) -> Int:
    """Return the components after joining those of each pair."""
    if len(i) == 0:
        return component
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(component.max()) + 1
    edges = coo_array((np.ones(len(i), np.bool_), (component[i], component[j])), shape=(size, size))
    renamed = connected_components(edges, directed=False)[1]
    return np.asarray(renamed[component], dtype=np.int64)


def _by_first_appearance(component: Int) -> Int:
    """Return the components numbered 0..k-1 in the order in which they first appear."""
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


# --- candidates -------------------------------------------------------------------------------------------


def _equal_pairs(phash: Hashes) -> Iterator[PairChunk]:
    """Yield the pairs of photos with equal hashes."""
    order = np.argsort(phash, kind="stable")
    size = np.unique(phash, return_counts=True)[1]
    for here, there in _pairs_in_runs(phash[order], size, 0):
        yield order[here], order[there]


def _photo_pairs(phash: Hashes, kind: Int, max_bits: int) -> Iterator[PairChunk]:
    """Yield pairs of photos of the same kind whose hashes differ, by at most `max_bits`; each pair once.

    The search runs over distinct (hash, kind), so many copies of one photo do not slow it down.
    """
    if len(phash) == 0:
        return
    order = np.lexsort((kind, phash))
    hashes, kinds = phash[order], kind[order]
    new = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (kinds[1:] != kinds[:-1])])
    start = np.flatnonzero(new)
    count = np.diff(np.append(start, len(order)))
    hashes, kinds = hashes[start], kinds[start]

    def alike() -> Iterator[PairChunk]:
        for a, b in close_pairs(hashes, max_bits):
            same = (kinds[a] == kinds[b]) & (hashes[a] != hashes[b])
            yield a[same], b[same]

    for a, b in _rechunked(alike()):
        for i, j in _members(a, b, start, count):
            yield order[i], order[j]


def _members(a: Int, b: Int, start: Int, count: Int) -> Iterator[PairChunk]:
    """Yield all pairs of one member of group a and one of group b; a group is start .. start + count - 1."""
    last = np.cumsum(count[a] * count[b])
    total = int(last[-1]) if len(last) else 0
    for begin in range(0, total, _CHUNK_PAIRS):
        position = np.arange(begin, min(begin + _CHUNK_PAIRS, total))
        pair = np.searchsorted(last, position, side="right")
        within = position - (last[pair] - count[a[pair]] * count[b[pair]])
        wide = count[b[pair]]
        yield start[a[pair]] + within // wide, start[b[pair]] + within % wide


def _rechunked(chunks: Iterable[PairChunk]) -> Iterator[PairChunk]:
    """Gather small chunks into chunks of about a million pairs."""
    held: list[PairChunk] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk[0])
        if size >= _CHUNK_PAIRS:
            yield np.concatenate([i for i, _ in held]), np.concatenate([j for _, j in held])
            held, size = [], 0
    if size:
        yield np.concatenate([i for i, _ in held]), np.concatenate([j for _, j in held])


def close_pairs(hashes: Hashes, max_bits: int) -> Iterator[PairChunk]:
    """Yield the pairs of rows whose hashes differ by at most `max_bits` bits, each pair once, in small chunks.

    Memory is linear in the number of hashes. Time is near-linear for hashes that spread, and falls back on
    comparing all pairs where no bands separate them (then a good part of all pairs are results anyway).
    """
    masks = _masks(hashes, max_bits) if len(hashes) > _SMALL else []
    if not masks:
        yield from _all_pairs(hashes, max_bits)
    for number, mask in enumerate(masks):
        for i, j in _pairs_with_equal_key(hashes, mask, max_bits):
            # A pair that agrees on several keys is reported under the first of them only.
            differing = hashes[i] ^ hashes[j]
            first = np.ones(len(i), np.bool_)
            for earlier in masks[:number]:
                first &= (differing & earlier) != 0
            yield i[first], j[first]


def _masks(hashes: Hashes, max_bits: int) -> list[np.uint64]:
    """Return the bits of every pair of `max_bits` + 2 bands, or [] where sorting by them would not pay.

    Sorting pays if the buckets of all keys together hold at most half of all pairs; a sample tells. Since every
    level at least halves the pairs that are left, cutting buckets again and again never costs more than it saves.
    """
    sample = hashes[:: max(1, len(hashes) // _SAMPLE)]
    bands = _bands(sample, max_bits + 2)
    masks = [a | b for a, b in combinations(bands, 2)]
    together = 0
    for mask in masks:
        counts = np.unique(sample & mask, return_counts=True)[1]
        together += int((counts * (counts - 1)).sum())
    return masks if together <= 0.5 * len(sample) * (len(sample) - 1) else []


def _bands(sample: Hashes, number: int) -> list[np.uint64]:
    """Cut the 64 bits into bands that separate about equally well: bits that vary most are dealt out first."""
    shifts = np.arange(_HASH_BITS, dtype=np.uint64)
    share = np.array([((sample >> shift) & np.uint64(1)).mean() for shift in shifts])
    bands = [np.uint64(0)] * number
    for place, bit in enumerate(np.argsort(np.abs(share - 0.5), kind="stable")):
        # To and fro, so that no band gets the better bit of every round.
        lap, step = divmod(place, number)
        band = step if lap % 2 == 0 else number - 1 - step
        bands[band] |= np.uint64(1) << np.uint64(bit)
    return bands


def _pairs_with_equal_key(hashes: Hashes, mask: np.uint64, max_bits: int) -> Iterator[PairChunk]:
    """Yield the close pairs among hashes that agree on all bits of `mask`."""
    key = hashes & mask
    order = np.argsort(key)
    key, ordered = key[order], hashes[order]
    start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    size = np.diff(np.append(start, len(key)))
    crowded = size > _SMALL
    sparse = ~np.repeat(crowded, size)
    rows = order[sparse]
    for here, there in _pairs_in_runs(ordered[sparse], size[~crowded], max_bits):
        yield rows[here], rows[there]
    for first, count in zip(start[crowded], size[crowded], strict=True):
        rows = order[first : first + count]
        for i, j in close_pairs(hashes[rows], max_bits):
            yield rows[i], rows[j]


def _pairs_in_runs(ordered: Hashes, size: Int, max_bits: int) -> Iterator[PairChunk]:
    """Yield the close pairs inside consecutive runs of the given sizes, comparing neighbours 1, 2, 3, ... apart."""
    stop = np.repeat(np.cumsum(size), size)
    here = np.arange(len(ordered))
    left = stop - here  # how far the run goes on from here
    for apart in range(1, int(size.max(initial=0))):
        going = left > apart
        here, left = here[going], left[going]
        there = here + apart
        close = np.bitwise_count(ordered[here] ^ ordered[there]) <= max_bits
        yield here[close], there[close]


def _all_pairs(hashes: Hashes, max_bits: int) -> Iterator[PairChunk]:
    """Yield the close pairs by comparing every hash with the one 1, 2, 3, ... rows on."""
    for apart in range(1, len(hashes)):
        (here,) = np.nonzero(np.bitwise_count(hashes[:-apart] ^ hashes[apart:]) <= max_bits)
        yield here, here + apart
