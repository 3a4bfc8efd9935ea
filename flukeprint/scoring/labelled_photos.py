"""The labelled photos as a gallery, and queries beside those that were trained on, whose similarities come by blocks.

Q queries have Q x G similarities to G photos. They are never held together, and never written: memory and disk grow
with the photos, not with their square.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import is_trained
from flukeprint.retrieval.bounds import new_bounds
from flukeprint.retrieval.codes import new_codes
from flukeprint.retrieval.search import Searcher
from flukeprint.retrieval.vectors import chunks, single, vectors_of

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]

# Similarities of one block, 32 MiB, and its most queries.
_BLOCK, _QUERIES = 1 << 23, 256
# Similarities of queries to photos up to which all are computed: making bounds would take as long.
_COMPARED = 1 << 27


@dataclass(frozen=True, eq=False)
class LabelledPhotos:
    """The photos of a gallery, ready to be searched.

    new_whale is no individual: photos with that label usually show different whales. How similar the nearest of them
    is, is a feature of the photo in question.
    """

    names: NDArray[np.str_]  # of the individuals, sorted
    individuals: Searcher
    new: Searcher  # photos of new_whale, each as of an individual: all photos of one are compared with every query

    @classmethod
    def of(
        cls, table: pd.DataFrame, parts: Sequence[Vectors], views: int, exact_up_to: int | None = None, queries: int = 0
    ) -> LabelledPhotos:
        """Make the photos of a table (Image, Id, pixel: row of the embeddings) ready, in the order of a gallery.

        More photos of individuals than `exact_up_to` are searched by codes, as those of a gallery are; fewer through
        bounds where so many `queries` are to come that it is worth it.
        """
        table = table.sort_values(["Id", "Image"])
        is_new = (table["Id"] == NEW_WHALE).to_numpy(dtype=bool)
        names, place = np.unique(table["Id"].to_numpy(dtype=str)[~is_new], return_inverse=True)
        rows = table["pixel"].to_numpy()
        known, new = vectors_of(parts, rows[~is_new], views), vectors_of(parts, rows[is_new], views)
        codes = new_codes(known, place) if exact_up_to is not None and len(known) > exact_up_to else None
        bounds = new_bounds(known) if codes is None and queries * len(known) > _COMPARED else None
        return cls(
            names,
            Searcher(known, place, codes, bounds),
            Searcher(new, np.arange(len(new)), bounds=bounds and bounds.of(new)),
        )

    def nearest_new(self, queries: Vectors) -> Vectors:
        """Return the largest similarity to a photo of new_whale, n; NaN where there is none."""
        found = self.new.search(queries, 1, by_centre=False)
        return np.where(found.filled[:, 0], found.nearest[:, 0], np.nan).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ComparedQueries:
    """The Q queries of one split beside the G photos of individuals that were trained on."""

    photos: LabelledPhotos
    vectors: Vectors  # Q x D
    labels: NDArray[np.str_]  # Q: whom each query shows

    @classmethod
    def of(cls, table: pd.DataFrame, parts: Sequence[Vectors], views: int, split: str) -> ComparedQueries:
        """Take one split's queries of data/selected/full.parquet and the photos there that were trained on."""
        named = is_trained(table) & (table["Id"] != NEW_WHALE).to_numpy(dtype=bool)
        queries = table[table["split"] == split]
        vectors = vectors_of(parts, queries["pixel"].to_numpy(), views)
        return cls(LabelledPhotos.of(table[named], parts, views), vectors, queries["Id"].to_numpy(dtype=str))

    @cached_property
    def place(self) -> Places:
        """The place of whom each query shows among `photos.names` (Q), -1 where it is none of them."""
        names = self.photos.names
        place = np.searchsorted(names, self.labels)
        return np.where(np.append(names, "")[place] == self.labels, place, -1)

    def similarities(self, rows: Places) -> Iterator[tuple[Places, Vectors]]:
        """Yield some of the queries `rows`, n, and their cosines to the photos, n x G in the order of the gallery."""
        vectors = single(self.photos.individuals.vectors)
        for some in chunks(rows, max(min(_BLOCK // max(len(vectors), 1), _QUERIES), 1)):
            yield some, self._products(some, vectors)

    def centre_similarities(self, rows: Places) -> Vectors:
        """Return the cosines of n queries to the centre of each of the L individuals, n x L."""
        return self._products(rows, self.photos.individuals.centres)

    def _products(self, rows: Places, vectors: Vectors) -> Vectors:
        from threadpoolctl import threadpool_limits

        # One thread: the last bits of a product depend on their number.
        with threadpool_limits(1):
            return np.asarray(self.vectors[rows] @ vectors.T)
