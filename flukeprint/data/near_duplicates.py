"""Near-duplicate photos by perceptual hash, confirmed on thumbnails, in linear memory.

Two photos are duplicates if their hashes are equal, or at most 6 bits apart with a normalised mean squared
difference (MSE) of their 32 x 32 thumbnails of at most 0.07. A cluster is a connected component of that relation.

This is Martin Piotte's rule for this competition, but for two things, both settled on 23,719 real photos:

- He takes the MSE of whole photos and accepts 0.1. Thumbnails are smoother, so theirs is lower. Of the 4,093
  candidate pairs, 0.07 on thumbnails accepts the 231 that 0.1 on whole photos accepts; 0.1 on thumbnails accepts
  seven more, five of which show two different dark flukes.
- He asks for equal size and mode as well (`same_size`). That misses copies that were resized or turned grey.
  Among 1,500 photos with 14 altered copies each (resized, recompressed, cropped, grey, brighter; see
  bench/alterations.py) neither rule accepts a pair of different photos; the recall is 0.88 without the condition
  and 0.76 with it. On the real photos, which all have one size, dropping it adds one pair, a true one.

Copies cropped by 1 % a side are found (0.97), by 2 % seldom (0.34), by 4 % hardly ever.

Candidates come without comparing all pairs. Hashes that differ in at most b bits agree on at least two of any
b + 2 bands that the 64 bits are cut into (pigeonhole), so it is enough to compare hashes within the buckets of
each pair of bands; crowded buckets are cut again, by the bits that still vary inside them. FAISS finds the same pairs
(range searches of IndexBinaryFlat, and of IndexBinaryMultiHash with 4 tables of 16 bits and one flip), but takes six
times the CPU time for 26,000 hashes and 50 to 100 times for a million.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.data.inspection import THUMBNAIL_SIDE
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
_BLOCK_PAIRS = 1 << 7  # whose thumbnails fit a processor's cache


class Pairs(NamedTuple):
    """Duplicate pairs: rows i < j, ordered by (i, j)."""

    i: Int
    j: Int
    bits: Int  # differing bits of the two hashes
    mse: NDArray[np.float64]  # normalised mean squared difference of the two thumbnails


def columns_of(photos: Sequence[Any], *, same_size: bool = False) -> dict[str, Any]:
    """Return phash, thumbnails and kind of photos without faults: the first arguments of the next two functions.

    With `same_size` a photo's kind is the number of its size and mode.
    """
    kinds: dict[tuple[int, int, str], int] = {}
    sizes = ((photo.width, photo.height, photo.mode) for photo in photos)
    thumbnails = np.frombuffer(b"".join(photo.thumbnail for photo in photos), np.uint8)
    return {
        "phash": np.array([photo.phash for photo in photos], np.uint64),
        "thumbnails": thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE),
        "kind": np.array([kinds.setdefault(size, len(kinds)) for size in sizes], np.int64) if same_size else None,
    }


def near_duplicate_clusters(
    phash: Hashes,
    thumbnails: NDArray[np.uint8],
    kind: Int | None = None,
    max_bits: int = MAX_BITS,
    max_mse: float = MAX_MSE,
) -> Int:
    """Return each photo's cluster, numbered 0..k-1 in order of first appearance (N).

    `phash` are perceptual hashes (N); `thumbnails` grey ones (N x 32 x 32, or any side; may be memory-mapped), whose
    mean squared difference, standardised to mean 0 and variance 1, is at most `max_mse`. Unequal hashes, at most
    `max_bits` apart, count only between photos of the same `kind` (N); None: between all.
    """
    import pandas as pd

    phash = np.asarray(phash, dtype=np.uint64)
    component = np.unique(phash, return_inverse=True)[1].astype(np.int64)
    for i, j in _photo_pairs(phash, np.zeros(len(phash), np.int64) if kind is None else kind, max_bits):
        # What is joined already needs no confirmation: a crowd of copies costs one comparison each.
        apart = component[i] != component[j]
        a, b = i[apart], j[apart]
        same = _differences(thumbnails, a, b) <= max_mse
        component = _joined(component, a[same], b[same])
    return np.asarray(pd.factorize(component)[0], np.int64)


def duplicate_pairs(
    phash: Hashes,
    thumbnails: NDArray[np.uint8],
    kind: Int | None = None,
    max_bits: int = MAX_BITS,
    max_mse: float = MAX_MSE,
) -> Pairs:
    """Return every pair that the rule calls duplicates; arguments as in `near_duplicate_clusters`.

    The result grows with the square of a cluster's size: 10,000 copies of one photo are 50 million pairs.
    """
    phash = np.asarray(phash, dtype=np.uint64)
    cluster = near_duplicate_clusters(phash, thumbnails, kind, max_bits, max_mse)
    order = np.argsort(cluster, kind="stable")
    chunks = [np.zeros((2, 0), np.int64), *map(np.stack, _pairs_in_runs(phash[order], np.bincount(cluster), max_bits))]
    i, j = order[np.concatenate(chunks, axis=1)]
    mse = _differences(thumbnails, i, j)
    alike = (mse <= max_mse) & (kind is None or kind[i] == kind[j])
    kept = np.flatnonzero(alike | (phash[i] == phash[j]))
    kept = kept[np.lexsort((j[kept], i[kept]))]
    i, j = i[kept], j[kept]
    return Pairs(i, j, np.bitwise_count(phash[i] ^ phash[j]).astype(np.int64), mse[kept])


def conflicting_labels(cluster: Int, labels: Labels) -> list[tuple[str, str, int]]:
    """Return (label, label, number of clusters they share), most clusters first, without pairs with `new_whale`."""
    held: dict[int, set[str]] = {}
    for number, label in zip(np.asarray(cluster).tolist(), labels, strict=True):
        held.setdefault(number, set()).add(str(label))
    shared = Counter(pair for names in held.values() for pair in combinations(sorted(names - {NEW_WHALE}), 2))
    return sorted(((a, b, count) for (a, b), count in shared.items()), key=lambda row: (-row[2], row[0], row[1]))


def _differences(thumbnails: NDArray[np.uint8], i: Int, j: Int) -> NDArray[np.float64]:
    """Return the mean squared difference of the standardised thumbnails of each pair.

    That is 2 - 2 r, r being their correlation, from sums that are whole numbers, hence exact. A flat thumbnail
    standardises to zeros: 0 from another flat one, 1 from any other.
    """
    found = np.zeros(len(i), np.float64)
    for start in range(0, len(i), _BLOCK_PAIRS):
        block = slice(start, start + _BLOCK_PAIRS)
        a, b = (thumbnails[rows[block]].reshape(len(rows[block]), -1).astype(np.float64) for rows in (i, j))
        # A covariance times the number of pixels squared.
        a_sum, b_sum = a.sum(axis=1), b.sum(axis=1)
        pairs = ((a, a, a_sum**2), (b, b, b_sum**2), (a, b, a_sum * b_sum))
        aa, bb, ab = (a.shape[1] * np.einsum("np,np->n", x, y) - product for x, y, product in pairs)
        scale = np.sqrt(aa) * np.sqrt(bb)
        correlation = np.divide(ab, scale, out=np.zeros_like(scale), where=scale > 0)
        # Not below 0, where rounding would put equal thumbnails.
        found[block] = np.maximum((aa > 0) * 1.0 + (bb > 0) - 2 * correlation, 0.0)
    return found


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


# --- candidates -------------------------------------------------------------------------------------------


def _photo_pairs(phash: Hashes, kind: Int, max_bits: int) -> Iterator[PairChunk]:
    """Yield pairs of photos of the same kind whose hashes differ, by at most `max_bits`; each pair once.

    The search runs over distinct (hash, kind), so many copies of one photo do not slow it down.
    """
    order = np.lexsort((kind, phash))
    hashes, kind = phash[order], kind[order]
    start = np.flatnonzero(np.append(True, (hashes[1:] != hashes[:-1]) | (kind[1:] != kind[:-1]))[: len(order)])
    count = np.diff(np.append(start, len(order)))
    hashes, kind = hashes[start], kind[start]
    for a, b in _rechunked(close_pairs(hashes, max_bits)):
        same = (kind[a] == kind[b]) & (hashes[a] != hashes[b])
        for i, j in _members(a[same], b[same], start, count):
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
            yield tuple(np.concatenate(held, axis=1))
            held, size = [], 0
    if held:
        yield tuple(np.concatenate(held, axis=1))


def close_pairs(hashes: Hashes, max_bits: int) -> Iterator[PairChunk]:
    """Yield the pairs of rows whose hashes differ by at most `max_bits` bits, each pair once, in small chunks.

    Memory is linear in the number of hashes. Time is near-linear for hashes that spread, and falls back on
    comparing all pairs where no bands separate them (then a good part of all pairs are results anyway).
    """
    masks = _masks(hashes, max_bits) if len(hashes) > _SMALL else []
    if not masks:
        yield from _pairs_in_runs(hashes, np.array([len(hashes)]), max_bits)
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
