"""Queries that search smaller galleries: some of the individuals, drawn for each query anew.

A gallery of n individuals has the one that a known query shows, and others at random; a query of a new whale finds n
others. So the declared share of new whales is the same at every size. An individual keeps all its photos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import is_trained, true_labels
from flukeprint.retrieval.search import DEPTH, Candidates
from flukeprint.retrieval.vectors import chunks
from flukeprint.scoring.candidates import Scored, gallery_candidates, joined

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Galleries of one size that a query searches.
DRAWS = 5
# Queries whose galleries are drawn at a time: memory does not grow with their number.
_CHUNK = 256


class GalleryQueries(NamedTuple):
    """Queries that searched galleries of one size, and whom they show."""

    individuals: int
    scored: Scored  # features: nearest, centre
    truth: list[str]


@dataclass(frozen=True, eq=False)
class FullGallery:
    """How similar Q queries of one split are to each of the L individuals of the photos that were trained on."""

    names: NDArray[np.str_]  # L, sorted
    photos: Places  # L: how many there are of each
    nearest: Floats  # Q x L: cosine to the most similar photo
    centre: Floats  # Q x L: cosine to the individual's centre
    truth: list[str]  # of the queries; new_whale for an individual that is none of the L

    @classmethod
    def of(cls, similarity: Floats, centres: Floats, table: pd.DataFrame, split: str) -> FullGallery:
        """Take the files data/predictions/similarity/{ensemble,centres}.npy and data/selected/full.parquet."""
        in_gallery = is_trained(table) & (table["Id"] != NEW_WHALE).to_numpy(dtype=bool)
        queries = table[~is_trained(table)]
        rows = (queries["split"] == split).to_numpy(dtype=bool)
        labels = table["Id"].to_numpy(dtype=str)[in_gallery]
        order = np.argsort(labels, kind="stable")
        names, starts, photos = np.unique(labels[order], return_index=True, return_counts=True)
        own = np.asarray(similarity)[np.ix_(rows, np.flatnonzero(in_gallery)[order])]
        nearest = np.maximum.reduceat(own, starts, axis=1) if len(names) else own
        truth = true_labels(queries[rows], names.tolist())
        return cls(names, photos, nearest, np.asarray(centres)[rows], truth)

    def __len__(self) -> int:
        """Return the number of individuals, L."""
        return len(self.names)

    def asked(self, sizes: Sequence[int], draws: int = DRAWS) -> Iterator[GalleryQueries]:
        """Let the queries search `draws` galleries of each size that is smaller than the whole."""
        for size in sizes:
            if size < len(self):
                yield from (GalleryQueries(size, self._drawn(size, draw), self.truth) for draw in range(draws))

    def _drawn(self, size: int, draw: int) -> Scored:
        generator = np.random.default_rng([size, draw])
        parts = [self._candidates(rows, size, generator) for rows in chunks(np.arange(len(self.truth)), _CHUNK)]
        return joined([gallery_candidates(part, self.names) for part in parts])

    def _candidates(self, rows: Places, size: int, generator: np.random.Generator) -> Candidates:
        key = generator.random((len(rows), len(self)))
        own = np.array(self.truth)[rows, None] == self.names
        key[own] = -1.0  # whom the query shows is drawn first
        place = np.sort(np.argpartition(key, size - 1, axis=1)[:, :size], axis=1)
        nearest, centre = (values[rows[:, None], place].astype(float) for values in (self.nearest, self.centre))
        order = np.argsort(-nearest, axis=1, kind="stable")
        nearest, centre = (np.take_along_axis(values, order, axis=1) for values in (nearest, centre))
        return Candidates(np.take_along_axis(place, order, axis=1), nearest, centre, place).best(DEPTH)
