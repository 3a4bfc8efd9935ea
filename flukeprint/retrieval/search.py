"""Candidates for queries: the individuals with the most similar photos."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.cells import inverted_lists
from flukeprint.retrieval.gallery import too_long

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flukeprint.retrieval.gallery import Gallery
    from flukeprint.retrieval.provenance import Provenance

# Nearest photos fetched for each individual asked for. Where a few individuals have them all, more are fetched, by this
# factor each time, and in the end all photos are looked at.
_PHOTOS, _GROWTH = 5, 8
# More than float32 loses in an inner product of unit vectors.
_ROUNDING = 1e-4
# Bytes of the temporary arrays of one chunk of queries, and of each nearest photo in them.
_MEMORY, _BYTES_PER_NEIGHBOUR = 1 << 26, 64
# Bytes of the vectors in float64 that are multiplied at a time: they stay in a core's cache (four times as fast).
_CACHED = 1 << 20


class Candidate(NamedTuple):
    """An individual that a query may show. Similarities are cosines, -1 to 1, summed in float64."""

    id: str
    nearest: float  # to the most similar of the individual's photos
    centre: float  # to the individual's centre: the mean of its vectors, scaled to length 1
    image: str  # name of that photo


class Searcher:
    """A gallery made ready for queries; make one and use it for all of them.

    Up to `exact_up_to` photos FAISS compares a query with every photo (its exact inner product search, on the
    gallery's own array: no copy of it). A larger gallery is searched through its cells; similarities are exact then
    too, but a photo in a cell that was not looked into is missed.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._index = None if gallery.cells is None else inverted_lists(gallery.vectors, gallery.cells)

    def search(
        self, queries: NDArray[np.float32], depth: int, provenance: Provenance | None = None
    ) -> list[list[Candidate]]:
        """Return the `depth` individuals with the most similar photos, best first, for each query.

        There are fewer only if the gallery has fewer. Equal similarities are ordered by id, and between photos of an
        individual by name. A query has the same candidates alone and among others.

        Args:
            queries: Q x D, unit vectors from `scoring.vectors.photo_vectors`.
            depth: candidates per query, at least 1.
            provenance: how the queries were made, to be compared with the gallery's provenance; None: the caller did.

        Raises:
            FlukeprintError: the queries were made with other weights or preprocessing, or have another length.

        """
        if provenance is not None:
            self.gallery.provenance.refuse_other(provenance)
        queries = self._checked(queries)
        depth = min(depth, len(self.gallery.individuals))
        if depth < 1:
            return [[] for _ in queries]
        found: list[list[Candidate]] = [[] for _ in queries]

        def group(places: NDArray[np.int64], nearest: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
            for place, candidates in zip(places, self._grouped(queries[places], *nearest, depth), strict=True):
                found[place] = candidates

        lacking, k = np.arange(len(queries)), self.fetched(depth)
        reach = np.empty(len(queries), np.float32)
        while len(lacking) and k <= max(len(self.gallery) // _GROWTH, self.fetched(depth)):
            for places in _chunks(lacking, k * _BYTES_PER_NEIGHBOUR):
                near = self._near(queries[places], k)
                group(places, near)
                reach[places] = self._reach_of_others(near[0])
            lacking = np.array(
                [place for place in lacking if len(found[place]) < depth or found[place][-1].nearest < reach[place]],
                np.int64,
            )
            k *= _GROWTH
        for places in _chunks(lacking, len(self.gallery) * _BYTES_PER_NEIGHBOUR):
            group(places, self._best_of_all(queries[places], depth))
        return found

    def nearest_photos(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return the gallery's rows of the k most similar photos, Q x k; -1 where the cells hold fewer."""
        return self._near(queries, k)[1]

    def _near(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the similarities, but for rounding, and the rows of the k most similar photos, each Q x k."""
        import faiss

        if self._index is None:
            similarity, rows = faiss.knn(queries, self.gallery.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
            return similarity, rows
        rows = self._index.search(queries, k)[1]
        # The cells' own similarities are of vectors in 8 bits.
        exact = [self.gallery.vectors[own] @ query for query, own in zip(queries, rows, strict=True)]
        return np.array(exact, np.float32).reshape(rows.shape), rows

    def _reach_of_others(self, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the similarity that photos which were not fetched may have (Q), rounded up: at most the last one's.

        Cells leave out what they leave out, so with them it is the least there is.
        """
        if self._index is not None or similarity.shape[1] == len(self.gallery):
            return np.full(len(similarity), -np.inf, np.float32)
        return similarity[:, -1] + np.float32(_ROUNDING)

    def fetched(self, depth: int) -> int:
        """Return how many nearest photos to ask for: more than enough for most queries."""
        return min(_PHOTOS * (depth + 1), len(self.gallery))

    def _checked(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        dimension = self.gallery.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise FlukeprintError(
                f"the queries' vectors are {queries.shape}, expected (queries, {dimension}), as the gallery's are. "
                "Make them with photo_vectors from the members that the gallery names."
            )
        if not np.isfinite(queries).all():
            raise FlukeprintError("a query's vector is not a number. Embed the photo again.")
        if (row := too_long(queries)) is not None:
            length = np.linalg.norm(queries[row])
            raise FlukeprintError(f"a query's vector has length {length:g}, expected 1. Make it with photo_vectors.")
        return np.ascontiguousarray(queries, np.float32)

    def _grouped(
        self, queries: NDArray[np.float32], similarity: NDArray[np.float32], rows: NDArray[np.int64], depth: int
    ) -> list[list[Candidate]]:
        """Group the nearest photos of queries (similarities in float32, and rows, each Q x k; -1: none) by individual.

        The similarities that count are computed again, in float64 and one pair at a time: FAISS's differ in their last
        bits between one query and many.
        """
        gallery = self.gallery
        order = np.argsort(rows, axis=1)
        rows, similarity = np.take_along_axis(rows, order, 1), np.take_along_axis(similarity, order, 1)
        query = np.nonzero(rows >= 0)[0]
        rows, similarity = rows[rows >= 0], similarity[rows >= 0]
        kept = _contenders(similarity, query, gallery.individual[rows], depth)
        query, rows = query[kept], rows[kept]
        near, individual = _inner(queries, query, gallery.vectors, rows), gallery.individual[rows]
        # Rows are in order of individual and name: the first of each individual after a stable sort is its nearest.
        order = np.lexsort((individual, -near, query))
        pairs = query[order] * len(gallery.individuals) + individual[order]
        first = order[np.sort(np.unique(pairs, return_index=True)[1])]
        first = first[_places(query[first]) < depth]
        centre = _inner(queries, query[first], gallery.centres, individual[first])
        ids = [gallery.individuals[place] for place in individual[first].tolist()]
        images = [gallery.photos[row].image for row in rows[first].tolist()]
        candidates = list(map(Candidate, ids, near[first].tolist(), centre.tolist(), images))
        ends = np.searchsorted(query[first], np.arange(len(queries) + 1)).tolist()
        return [candidates[start:end] for start, end in pairwise(ends)]

    def _best_of_all(self, queries: NDArray[np.float32], depth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return similarities and rows (-1: none) of the photos that may be the nearest of one of the best individuals.

        All photos are looked at, and all are returned that are the nearest but for rounding: which one comes out on top
        of float32's last bits differs between one query and many.
        """
        gallery = self.gallery
        near = queries @ gallery.vectors.T
        best = np.maximum.reduceat(near, gallery.starts, axis=1)
        least = np.partition(best, -depth, axis=1)[:, -depth, None]
        own = np.repeat(best, np.diff(gallery.starts, append=len(gallery)), axis=1)
        query, found = np.nonzero((near >= own - _ROUNDING) & (own >= least - _ROUNDING))
        rows = np.full((len(queries), int(np.bincount(query).max())), -1, np.int64)
        rows[query, _places(query)] = found
        return np.take_along_axis(near, rows, 1), rows


def _contenders(
    similarity: NDArray[np.float32], query: NDArray[np.int64], individual: NDArray[np.int64], depth: int
) -> NDArray[np.bool_]:
    """Tell which photos may be the nearest one of one of the best `depth` individuals, but for float32's rounding.

    Args:
        similarity: of n photos to their query.
        query: whose, ascending.
        individual: whom they show, ascending for each query.
        depth: at least 1.

    """
    starts = np.flatnonzero((np.diff(query, prepend=-1) != 0) | (np.diff(individual, prepend=-1) != 0))
    best = np.maximum.reduceat(similarity, starts) if len(starts) else similarity
    place = _places(query[starts])
    ranked = np.full((query.max(initial=-1) + 1, max(place.max(initial=0) + 1, depth)), -np.inf, np.float32)
    ranked[query[starts], place] = best
    least = np.partition(ranked, -depth, axis=1)[:, -depth]
    own = np.repeat(best, np.diff(starts, append=len(query)))
    return np.asarray((similarity >= own - _ROUNDING) & (own >= least[query] - _ROUNDING))


def _places(query: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each entry among those of its query, from 0; `query` ascends."""
    return np.arange(len(query)) - np.searchsorted(query, query)


def _inner(
    queries: NDArray[np.float32], query: NDArray[np.int64], vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosines (n) of n pairs of unit vectors, in float64 without BLAS: the same bits in any company.

    float32 gives a unit vector its length only to 1e-7, so a photo's cosine with itself may come out above 1: cut off.
    """
    parts = [
        np.einsum("nd,nd->n", queries[query[some]].astype(np.float64), vectors[rows[some]].astype(np.float64))
        for some in _chunks(np.arange(len(rows)), 8 * vectors.shape[1], _CACHED)
    ]
    cosines: NDArray[np.float64] = np.clip(np.concatenate([np.zeros(0), *parts]), -1, 1)
    return cosines


def _chunks(items: NDArray[Any], bytes_per_item: int, memory: int = _MEMORY) -> Iterator[NDArray[Any]]:
    size = max(memory // max(bytes_per_item, 1), 1)
    return (items[start : start + size] for start in range(0, len(items), size))
