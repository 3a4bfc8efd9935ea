"""Queries that search smaller galleries: some of the individuals, drawn for each query anew.

A gallery of n individuals has the one that a known query shows, and others at random; a query of a new whale finds n
others. So the declared share of new whales is the same at every size. An individual keeps all its photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.search import DEPTH, Candidates
from flukeprint.scoring.candidates import Scored, best_columns, gallery_candidates, joined
from flukeprint.scoring.labelled_photos import ComparedQueries

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Galleries of one size that a query searches; fewer where that are more than so many answers, but one in any case.
DRAWS = 5
_ANSWERS = 5000


class GalleryQueries(NamedTuple):
    """Queries that searched galleries of one size, and whom they show."""

    individuals: int
    scored: Scored  # features: nearest, centre
    truth: list[str]


class Similar(NamedTuple):
    """How similar n of the Q queries are to each of the L individuals."""

    rows: Places  # n, of the queries
    nearest: Floats  # n x L: cosine to the most similar photo
    centre: Floats  # n x L: cosine to the individual's centre


@dataclass(frozen=True, eq=False)
class FullGallery:
    """The Q queries of one split before the L individuals of the photos that were trained on."""

    names: NDArray[np.str_]  # L, sorted
    photos: Places  # L: how many there are of each
    place: Places  # Q: of whom a query shows among the names; -1: none of them
    similar: Callable[[], Iterator[Similar]]  # gives all queries in order, some at a time, at least once

    @classmethod
    def of(cls, compared: ComparedQueries) -> FullGallery:
        """Take the queries with the photos that they are compared with."""
        starts, names = compared.photos.individuals.starts, compared.photos.names

        def similar() -> Iterator[Similar]:
            for rows, block in compared.similarities(np.arange(len(compared.labels))):
                nearest = np.maximum.reduceat(block, starts[:-1], axis=1) if len(names) else block
                yield Similar(rows, nearest, compared.centre_similarities(rows))

        return cls(names, np.diff(starts), compared.place, similar)

    @property
    def truth(self) -> list[str]:
        """The right answers (Q): new_whale for an individual that is none of the L."""
        names = [*self.names.tolist(), NEW_WHALE]  # the last is that of place -1
        return [names[place] for place in self.place]

    def __len__(self) -> int:
        """Return the number of individuals, L."""
        return len(self.names)

    def asked(self, sizes: Sequence[int], draws: int = DRAWS) -> list[GalleryQueries]:
        """Let the queries search `draws` galleries of each size that is smaller than the whole."""
        draws = max(1, min(draws, _ANSWERS // max(len(self.place), 1)))
        drawn = [(size, np.random.default_rng([size, draw])) for size in sizes for draw in range(draws)]
        drawn = [(size, generator) for size, generator in drawn if size < len(self)]
        parts: list[list[Scored]] = [[] for _ in drawn]
        for similar in self.similar() if drawn else ():
            for (size, generator), found in zip(drawn, parts, strict=True):
                found.append(gallery_candidates(self._drawn(similar, size, generator), self.names))
        truth = self.truth
        return [GalleryQueries(size, joined(found), truth) for (size, _), found in zip(drawn, parts, strict=True)]

    def _drawn(self, similar: Similar, size: int, generator: np.random.Generator) -> Candidates:
        key = generator.random((len(similar.rows), len(self)))
        own = self.place[similar.rows]
        known = np.flatnonzero(own >= 0)
        key[known, own[known]] = -1.0  # whom the query shows is drawn first
        place = np.sort(np.argpartition(key, size - 1, axis=1)[:, :size], axis=1)
        return _best(place, *(np.take_along_axis(values, place, axis=1) for values in similar[1:]))


def _best(place: Places, nearest: Floats, centre: Floats) -> Candidates:
    """Return the DEPTH best of n x size individuals, their places ascending, by either similarity."""
    near, central = (best_columns(values, DEPTH) for values in (nearest, centre))
    again = (central[:, :, None] == near[:, None, :]).any(axis=2)
    columns = np.concatenate([near, central], axis=1)
    filled = np.concatenate([np.ones(near.shape, bool), ~again], axis=1)
    individual = np.where(filled, np.take_along_axis(place, columns, axis=1), -1)
    own, other = (np.take_along_axis(values, columns, axis=1).astype(float) for values in (nearest, centre))
    order = np.lexsort((individual, np.where(filled, -own, np.inf)), axis=1)
    individual, own, other = (np.take_along_axis(values, order, axis=1) for values in (individual, own, other))
    return Candidates(individual, own, other, individual).best(DEPTH)
