"""Short codes for galleries too large to compare every query with every vector.

A vector is projected onto the axes along which vectors differ most (principal components), and each coordinate kept in
4 bits. A query goes through all codes by look-ups in registers (FAISS's fast scan: André, Kermarrec and Le Scouarnec
2015), some milliseconds for a million; the vectors that are nearest by their codes are then compared exactly. How many
those must be is measured when the codes are made, so that the recall holds for the vectors at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flukeprint.retrieval.vectors import Stored, Vectors, blocks, highest, on_all_threads, single

# Photos up to which every search compares with all of them: a few hundredths of a second per query.
EXACT_UP_TO = 200_000
# Axes at most; fewer, in steps of _AXES_STEP, if they hold the share _HELD of the variance: most of a query's time goes
# into looking at all codes.
_AXES, _AXES_STEP, _HELD = 128, 16, 0.97
# Values of a coordinate, and the step that loses least of a normal one: in standard deviations, by Max 1960.
_LEVELS, _STEP = 16, 0.3352
# Vectors that the axes are learned from, and rounds of subspace iteration.
_SAMPLE, _ROUNDS, _SEED = 1 << 15, 4, 1234
# Share of the individuals with the _DEPTH nearest photos that must be found, in the mean over the probes; half of what
# may be missed (docs/gallery.md), since probes are few and queries are others. An individual of more photos than
# _NEIGHBOURS may hide others, which are then not measured.
RECALL = 0.995
_DEPTH, _NEIGHBOURS, _PROBES = 5, 100, 256
# Vectors that the probes are compared with at a time.
_COMPARED = 1 << 15
# Nearest codes fetched in the first trial of a measurement; each further one fetches so many times as many.
_FETCHED, _GROWTH = 4096, 8


@dataclass(frozen=True, eq=False)
class Codes:
    """Vectors in 4 bits for each axis."""

    axes: Vectors  # A x (D + 1): each in units of its step, and the coordinate of the mean. Not needed: zeros
    codes: NDArray[np.uint8]  # N x A / 2; the first of two coordinates is the lower half of a byte
    fetched: int  # nearest codes whose vectors a query is compared with

    def of(self, vectors: Stored) -> Codes:
        """Return the codes of other vectors along the same axes."""
        return replace(self, codes=_encoded(vectors, self.axes))

    @cached_property
    def _index(self) -> Any:
        """FAISS's index, made from checked arrays: its own files are parsed by code that trusts them."""
        import faiss

        number = len(self.axes)
        wide: Any = faiss.IndexPQ(number, number, 4, faiss.METRIC_INNER_PRODUCT)
        levels = np.arange(_LEVELS, dtype=np.float32) - (_LEVELS - 1) / 2
        faiss.copy_array_to_vector(np.tile(levels, number), wide.pq.centroids)
        faiss.copy_array_to_vector(self.codes.reshape(-1), wide.codes)
        wide.ntotal, wide.is_trained = len(self.codes), True
        return faiss.IndexPQFastScan(wide)

    @cached_property
    def _weights(self) -> Vectors:
        """What a query is multiplied with: an inner product is the sum of weight times level, but for a constant."""
        axes = self.axes[:, :-1]
        squares = np.einsum("ad,ad->a", axes, axes)
        return np.asarray(axes / np.where(squares > 0, squares, 1)[:, None], np.float32)

    def nearest(self, query: Vectors, k: int) -> NDArray[np.int64]:
        """Return the rows of the k codes nearest to a query of D numbers, best first; -1: none.

        Queries are asked one at a time: among others, FAISS would break ties in another way.
        """
        found = self._index.search(np.einsum("ad,d->a", self._weights, query)[None], k)
        return np.asarray(found[1][0])


def new_codes(vectors: Stored, individual: NDArray[np.int64]) -> Codes:
    """Make the codes of N vectors, and measure how many a query must fetch; `individual` are their N places."""
    rng = np.random.default_rng(_SEED)
    axes = _axes(single(vectors[np.sort(rng.permutation(len(vectors))[:_SAMPLE])]), rng)
    codes = Codes(axes, _encoded(vectors, axes), 1)
    probed = np.sort(rng.permutation(len(vectors))[:_PROBES])
    return replace(codes, fetched=_needed(codes, vectors, individual, probed))


def _axes(sample: Vectors, rng: np.random.Generator) -> Vectors:
    """Return the axes of `Codes`, from n x D vectors."""
    from threadpoolctl import threadpool_limits

    dimension = sample.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = sample - mean
    basis = subspace(centred, _AXES, rng)
    # One thread: the last bits of a product depend on their number.
    with threadpool_limits(1):
        inner = centred @ basis
        variances, turned = np.linalg.eigh((inner.T @ inner).astype(np.float64) / len(sample))
        units = (basis @ turned.astype(np.float32)).T[::-1]
    variances = np.maximum(variances[::-1], 0)
    held = np.cumsum(variances) / max(float(np.einsum("nd,nd->", centred, centred)) / len(sample), 1e-9)
    needed = int(np.searchsorted(held, _HELD)) + 1
    axes = np.zeros((min(-(-needed // _AXES_STEP) * _AXES_STEP, _AXES), dimension + 1), np.float32)
    steps = _STEP * np.sqrt(variances[: len(axes)]).astype(np.float32)
    used = np.flatnonzero(steps > np.finfo(np.float32).eps)
    axes[used, :-1] = units[used] / steps[used, None]
    axes[:, -1] = axes[:, :-1] @ mean
    return axes


def subspace(vectors: Vectors, axes: int, rng: np.random.Generator) -> Vectors:
    """Return orthonormal axes along which n x D vectors are longest, D x `axes` or fewer, by subspace iteration."""
    from threadpoolctl import threadpool_limits

    basis = rng.standard_normal((vectors.shape[1], min(axes, *vectors.shape)), np.float32)
    with threadpool_limits(1):
        for _ in range(_ROUNDS):
            basis = np.linalg.qr(vectors.T @ (vectors @ basis))[0]
    return basis


def _encoded(vectors: Stored, axes: Vectors) -> NDArray[np.uint8]:
    codes = np.empty((len(vectors), len(axes) // 2), np.uint8)
    onto = np.ascontiguousarray(axes[:, :-1].T)

    def encode(rows: slice) -> None:
        coordinates = single(vectors[rows]) @ onto
        coordinates += _LEVELS / 2 - axes[:, -1]
        levels = np.clip(coordinates, 0, _LEVELS - 1, out=coordinates).astype(np.uint8)
        codes[rows] = levels[:, ::2] | levels[:, 1::2] << 4

    on_all_threads(encode, blocks(len(vectors)))
    return codes


def _needed(codes: Codes, vectors: Stored, individual: NDArray[np.int64], probed: NDArray[np.int64]) -> int:
    """Return how many codes must be fetched to find the share RECALL, the probed photos themselves left out."""
    queries = single(vectors[probed])
    near = _nearest(queries, vectors)
    wanted = [_firsts(rows[rows != own], individual) for rows, own in zip(near, probed, strict=True)]
    allowed = int((1 - RECALL) * sum(map(len, wanted)))
    fetched = min(_FETCHED, len(vectors))
    while True:
        found = [codes.nearest(query, fetched) for query in queries]
        ranks = np.concatenate([_ranks(*one) for one in zip(wanted, found, strict=True)])
        needed = int(np.sort(ranks)[::-1][allowed]) + 1 if len(ranks) else 1
        if needed <= fetched or fetched == len(vectors):
            return min(needed, fetched)
        fetched = min(fetched * _GROWTH, len(vectors))


def _nearest(queries: Vectors, vectors: Stored) -> NDArray[np.int64]:
    """Return the rows of the _NEIGHBOURS vectors nearest to each query, best first."""
    similarity, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for block in blocks(len(vectors), _COMPARED):
        part = single(vectors[block])
        found = highest(queries, part, min(_NEIGHBOURS, len(part)))
        similarity = np.concatenate([similarity, found[0]], axis=1)
        rows = np.concatenate([rows, block.start + found[1]], axis=1)
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :_NEIGHBOURS]
        similarity, rows = np.take_along_axis(similarity, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return rows


def _firsts(rows: NDArray[np.int64], individual: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the nearest photo of each of the _DEPTH individuals that stand first."""
    return rows[np.sort(np.unique(individual[rows], return_index=True)[1])[:_DEPTH]]


def _ranks(wanted: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each row wanted among those found, from 0 on; their number where it is not among them."""
    there = found == wanted[:, None]
    return np.where(there.any(axis=1), there.argmax(axis=1), len(found))
