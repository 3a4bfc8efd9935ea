"""Candidates for queries: the individuals with the most similar photos, and those with the most similar centres.

FAISS and float32 only say who may be among the best, with room for their rounding. The similarities that count, and
with them the order, are computed from the vectors in float64, one pair at a time: a query has the same candidates alone
and among others, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.bounds import Bounds
from flukeprint.retrieval.codes import Codes
from flukeprint.retrieval.gallery import Gallery, too_long
from flukeprint.retrieval.vectors import Stored, Vectors, blocks, chunks, cosines, highest, on_all_threads, single

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

# Candidates that a query has by each similarity.
DEPTH = 20
# Nearest vectors fetched for each individual wanted, and the fewest (FAISS is faster from a hundred on). Where they are
# of too few individuals, more are fetched, by a factor of _GROWTH each time, and in the end all vectors are looked at.
_FETCHED, _FEWEST, _GROWTH = 5, 100, 8
# Individuals whose vectors are summed at a time, and whose vectors are all compared with queries.
_INDIVIDUALS, _SCORED = 1 << 7, 1 << 13
# Queries up to which numpy's matrix product with all vectors is faster than FAISS's.
_FEW = 19
# More than float32 loses in an inner product of unit vectors.
_ROUNDING = np.float32(1e-4)
# Bytes of the temporary arrays of one chunk of queries, and of each nearest vector in them.
_MEMORY, _BYTES_PER_NEIGHBOUR = 1 << 26, 64


@dataclass(frozen=True, eq=False)
class Candidates:
    """Individuals that n queries may show, nearest first, equal ones in order of their place; n x m arrays."""

    individual: Places  # its place among the searched ones, -1 where there is no further candidate
    nearest: Floats  # cosine, -1..1, to the most similar photo; 0 where there is no candidate
    centre: Floats  # cosine to the individual's centre: the mean of its vectors, scaled to length 1
    photo: Places  # row of the most similar photo, of equal ones the first; -1 where there is no candidate

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Where there is a candidate."""
        return self.individual >= 0

    def best(self, depth: int, named: Places | None = None) -> Candidates:
        """Keep the `depth` best by either similarity, and those named (n x k places, -1: none): 2 depth + k columns."""
        by_centre = np.lexsort((self.individual, np.where(self.filled, -self.centre, np.inf)), axis=1)
        rank = np.argsort(by_centre, axis=1)
        kept = (np.arange(rank.shape[1]) < depth) | (rank < depth)
        if named is not None:
            kept |= (self.individual[:, :, None] == named[:, None, :]).any(axis=2)
        kept &= self.filled
        filled = np.arange(2 * depth + (0 if named is None else named.shape[1])) < kept.sum(axis=1)[:, None]
        return _padded(filled, self.individual[kept], self.nearest[kept], self.centre[kept], self.photo[kept])


def _padded(
    filled: NDArray[np.bool_], individual: Places, nearest: Floats, centre: Floats, photo: Places
) -> Candidates:
    """Put what is said of all candidates, one query after the other, where it is `filled`."""

    def array(values: NDArray[Any], nothing: float) -> NDArray[Any]:
        found = np.full(filled.shape, nothing, values.dtype)
        found[filled] = values
        return found

    return Candidates(array(individual, -1), array(nearest, 0), array(centre, 0), array(photo, -1))


@dataclass(frozen=True, eq=False)
class Searcher:
    """Vectors of individuals made ready for queries; make one and use it for all of them.

    Without codes a query is compared with every photo (FAISS's exact inner product search, on the array itself: no copy
    of it). With codes it is compared with those nearest by their codes: an individual may be missed, but all that is
    said of those found is exact. Bounds say which photos cannot be among the nearest: the answers are those without.
    """

    vectors: Stored  # N x D, of length 1, those of an individual together
    individual: Places  # N places, ascending from 0 without gaps
    codes: Codes | None = None
    bounds: Bounds | None = None  # where there are no codes

    @classmethod
    def of(cls, gallery: Gallery) -> Searcher:
        """Make a gallery ready; places are those in `gallery.individuals`, rows those of `gallery.photos`."""
        return cls(gallery.vectors, gallery.individual, gallery.codes)

    @cached_property
    def starts(self) -> Places:
        """The first row of each of the L individuals, and N."""
        return np.append(np.flatnonzero(np.diff(self.individual, prepend=-1)), len(self.vectors))

    @cached_property
    def centres(self) -> Vectors:
        """Each individual's mean vector, scaled to length 1: L x D. A mean of zero stays.

        They are not stored: computed from the vectors alone, row after row, they cannot disagree with them.
        """
        from scipy.sparse import csr_array

        centres = np.empty((len(self.starts) - 1, self.vectors.shape[1]), self.vectors.dtype)
        wide = np.float64 if centres.dtype == np.float32 else np.float32

        def fill(places: slice) -> None:
            rows = self.starts[places.start : places.stop + 1]
            own = self.vectors[rows[0] : rows[-1]].astype(wide)
            sums = csr_array((np.ones(len(own), wide), np.arange(len(own)), rows - rows[0])) @ own
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            centres[places] = sums / np.where(lengths > 0, lengths, 1)

        on_all_threads(fill, blocks(len(centres), _INDIVIDUALS))
        return centres

    @cached_property
    def _photos(self) -> _Neighbours:
        return _Neighbours(self.vectors, self.individual, self.starts[:-1], self.codes, self.bounds)

    @cached_property
    def _centres(self) -> _Neighbours:
        places = np.arange(len(self.centres))
        codes, bounds = self.codes and self.codes.of(self.centres), self.bounds and self.bounds.of(self.centres)
        return _Neighbours(self.centres, places, places, codes, bounds)

    def search(
        self, queries: Vectors, depth: int = DEPTH, named: Places | None = None, *, by_centre: bool = True
    ) -> Candidates:
        """Return the `depth` individuals with the most similar photos, and those with the most similar centres.

        Args:
            queries: n x D, unit vectors from `photo_vectors`.
            depth: candidates by each similarity, at least 1; there are fewer only if there are fewer individuals.
            named: n x k places of further individuals that are wanted, -1: none.
            by_centre: whether those with the most similar centres are wanted.

        Returns:
            Candidates in 2 depth + k columns; nearest, centre and photo are exact for all of them.
        """
        queries = self._checked(queries)
        named = np.empty((len(queries), 0), np.int64) if named is None else named
        parts = [
            self._described(queries[some], depth, named[some], by_centre=by_centre).best(depth, named[some])
            for some in chunks(np.arange(len(queries)))
        ]
        columns = zip(*((one.individual, one.nearest, one.centre, one.photo) for one in parts), strict=True)
        return Candidates(*map(np.concatenate, columns))

    def _checked(self, queries: Vectors) -> Vectors:
        dimension = self.vectors.shape[1]
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

    def _described(self, queries: Vectors, depth: int, named: Places, *, by_centre: bool) -> Candidates:
        """Return everybody who may be among the best, and those named, with exact similarities."""
        number = max(len(self.starts) - 1, 1)
        query, place = np.nonzero(named >= 0)
        found = [query * number + named[query, place]]
        if len(self.vectors):
            found.append(self._photos.best(queries, depth))
        if len(self.vectors) and by_centre:
            found.append(self._centres.best(queries, depth))
        query, individual = np.divmod(np.unique(np.concatenate(found)), number)
        nearest, photo = self._nearest(queries, query, individual)
        centre = cosines(queries, query, self.centres, individual)
        order = np.lexsort((individual, -nearest, query))
        lengths = np.bincount(query, minlength=len(queries))
        filled = np.arange(lengths.max(initial=0)) < lengths[:, None]
        return _padded(filled, individual[order], nearest[order], centre[order], photo[order])

    def _nearest(self, queries: Vectors, query: Places, individual: Places) -> tuple[Floats, Places]:
        """Return for each pair of a query and an individual the greatest cosine to its photos, and that photo's row."""
        if not len(query):
            return np.zeros(0), np.zeros(0, np.int64)
        counts = self.starts[individual + 1] - self.starts[individual]
        first = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) + np.repeat(self.starts[individual] - first, counts)
        owner = np.repeat(np.arange(len(query)), counts)
        ends = np.searchsorted(query[owner], np.arange(len(queries) + 1))
        near = [
            np.einsum("nd,d->n", single(self.vectors[rows[start:end]]), one)
            for one, start, end in zip(queries, ends, ends[1:], strict=False)
        ]
        similarity = np.concatenate(near)
        kept = np.flatnonzero(similarity >= np.maximum.reduceat(similarity, first)[owner] - _ROUNDING)
        rows, owner = rows[kept], owner[kept]
        exact = cosines(queries, query[owner], self.vectors, rows)
        first = np.searchsorted(owner, np.arange(len(query)))
        best = np.maximum.reduceat(exact, first)
        hits = np.flatnonzero(exact == best[owner])
        return best, rows[hits[np.searchsorted(hits, first)]]


class _Near(NamedTuple):
    """Vectors that n queries were compared with, the most similar first, n x k each."""

    similarity: Vectors  # but for rounding
    rows: Places  # -1: none
    others: Vectors  # n: no vector that is not among them is taken to be more similar


_Nearest = Callable[[Vectors, int], _Near]


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """The nearest of some vectors, as individuals."""

    vectors: Stored  # N x D
    individual: Places  # N, ascending
    starts: Places  # first row of each individual
    codes: Codes | None
    bounds: Bounds | None

    def best(self, queries: Vectors, depth: int) -> Places:
        """Return who may be among the `depth` best of each query, as pairs: query x individuals + individual."""
        depth = min(depth, len(self.starts))
        found, lacking = [np.empty(0, np.int64)], np.arange(len(queries))
        k = min(_FETCHED * (depth + 1), len(self.vectors))
        if self.bounds is not None and len(queries):
            lacking = self._looked_at(found, queries, lacking, k, depth, partial(self._by_bounds, self.bounds))
        k = min(max(k, self.codes.fetched if self.codes else _FEWEST), len(self.vectors))
        nearest = self._by_vectors if self.codes is None else partial(self._by_codes, self.codes)
        most = 0 if self.codes is None and len(lacking) <= _FEW else max(len(self.vectors) // _GROWTH, k)
        while len(lacking) and k <= most:
            lacking = self._looked_at(found, queries, lacking, k, depth, nearest)
            k *= _GROWTH
        if len(lacking):
            found += [self._of_all(queries, some, depth) for some in chunks(lacking, _pieces(len(self.vectors)))]
        return np.concatenate(found)

    def _looked_at(
        self, found: list[Places], queries: Vectors, lacking: Places, k: int, depth: int, nearest: _Nearest
    ) -> Places:
        """Add the pairs by k vectors to those found, and return the queries of which more must be looked at."""
        pieces = chunks(lacking, _pieces(k))
        parts = [self._of_nearest(some, nearest(queries[some], k), depth) for some in pieces]
        found += [pairs for pairs, _ in parts]
        return np.concatenate([left for _, left in parts])

    def _of_nearest(self, some: Places, near: _Near, depth: int) -> tuple[Places, Places]:
        """Return the pairs by the vectors looked at, and the queries of which more must be."""
        individual = np.where(near.rows >= 0, self.individual[near.rows], -1)
        first = _first_of_each(individual) & (near.rows >= 0)
        number = np.cumsum(first, axis=1)
        # Where there are too few, all of this is dropped.
        last = np.argmax(number >= depth, axis=1)[:, None]
        least = np.take_along_axis(near.similarity, last, axis=1)[:, 0]
        enough = (number[:, -1] >= depth) & (least > near.others + _ROUNDING)
        query, column = np.nonzero(first & (near.similarity >= least[:, None] - _ROUNDING) & enough[:, None])
        return some[query] * len(self.starts) + individual[query, column], some[~enough]

    def _by_vectors(self, queries: Vectors, k: int) -> _Near:
        similarity, rows = highest(queries, single(self.vectors), k)
        return _Near(similarity, rows, self._unless_all(similarity))

    def _by_codes(self, codes: Codes, queries: Vectors, k: int) -> _Near:
        rows = np.stack(on_all_threads(partial(codes.nearest, k=k), list(queries)))
        return self._compared(queries, rows, np.full(len(queries), -np.inf, np.float32))

    def _by_bounds(self, bounds: Bounds, queries: Vectors, k: int) -> _Near:
        values, rows = bounds.highest(queries, k)
        return self._compared(queries, rows, self._unless_all(values))

    def _unless_all(self, values: Vectors) -> Vectors:
        """Return the last column, below which are all vectors that are not among the k of the columns."""
        return values[:, -1] if values.shape[1] < len(self.vectors) else np.full(len(values), -np.inf, np.float32)

    def _compared(self, queries: Vectors, rows: Places, others: Vectors) -> _Near:
        """Compare n queries with n x k vectors; -1: none."""

        def compared(query: int) -> Vectors:
            similarity = np.einsum("kd,d->k", single(self.vectors[rows[query]]), queries[query])
            return np.where(rows[query] >= 0, similarity, np.float32(-np.inf))

        similarity = np.stack(on_all_threads(compared, range(len(queries))))
        order = np.argsort(-similarity, axis=1, kind="stable")
        return _Near(np.take_along_axis(similarity, order, 1), np.take_along_axis(rows, order, 1), others)

    def _of_all(self, queries: Vectors, some: Places, depth: int) -> Places:
        """Return the pairs by all vectors."""
        ends = np.append(self.starts, len(self.vectors))

        def best_of(places: slice) -> Vectors:
            first, last = ends[places.start], ends[places.stop]
            near = queries[some] @ single(self.vectors[first:last]).T
            return np.maximum.reduceat(near, self.starts[places] - first, axis=1)

        best = np.concatenate([best_of(places) for places in blocks(len(self.starts), _SCORED)], axis=1)
        least = np.partition(best, -depth, axis=1)[:, -depth, None]
        query, individual = np.nonzero(best >= least - _ROUNDING)
        return some[query] * len(self.starts) + individual


def _first_of_each(individual: Places) -> NDArray[np.bool_]:
    """Tell where an individual stands for the first time in its row."""
    order = np.argsort(individual, axis=1, kind="stable")
    ordered = np.take_along_axis(individual, order, axis=1)
    first = np.ones(individual.shape, bool)
    np.put_along_axis(first, order, np.diff(ordered, axis=1, prepend=-2) != 0, axis=1)
    return first


def _pieces(neighbours: int) -> int:
    """Return how many queries may have so many neighbours at a time."""
    return max(_MEMORY // (neighbours * _BYTES_PER_NEIGHBOUR), 1)
