"""The gallery's individuals by the members' embeddings: similarity to the nearest photo, and to the centre.

The gallery is every photo that was trained on. new_whale is no individual of it: photos with that label usually show
different whales. How similar the nearest of them is, is a feature of the photo in question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.vectors import photo_vectors, unit

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

# Photos whose similarities are computed at a time: memory does not grow with their number.
CHUNK = 1024


def chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Cut rows into pieces of at most CHUNK."""
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def vectors_of(parts: Sequence[Vectors], rows: NDArray[np.int64], views: int) -> Vectors:
    """Return `photo_vectors` of some rows, without copies of all embeddings on the way."""
    width = sum(views * part.shape[-1] for part in parts)
    found = np.empty((len(rows), width), np.float32)
    for start, chunk in zip(range(0, len(rows), CHUNK), chunks(rows), strict=True):
        found[start : start + len(chunk)] = photo_vectors([part[chunk] for part in parts], views)
    return found


def product(left: Vectors, right: Vectors) -> Vectors:
    """Return left @ right.T. By torch: numpy's product depends in its last bits on the number of threads."""
    return np.asarray((torch.from_numpy(left) @ torch.from_numpy(right).T).numpy())


@dataclass(frozen=True)
class Individuals:
    """Photos by individual: L individuals, G photos in order of their labels, vectors of length 1."""

    labels: list[str]  # L, sorted
    photos: Vectors  # G x D
    starts: NDArray[np.int64]  # L: each individual's first photo
    centres: Vectors  # L x D: the mean of an individual's vectors, scaled to length 1
    new: Vectors  # photos of new_whale x D

    @classmethod
    def of(cls, table: pd.DataFrame, parts: Sequence[Vectors], views: int) -> Individuals:
        """Make the gallery of photos.

        Args:
            table: the photos that were trained on: Id, pixel (row of the embeddings).
            parts: the members' embeddings, each N x views x D.
            views: how many of the views to use.

        """
        table = table.sort_values(["Id", "pixel"])
        is_new = (table["Id"] == NEW_WHALE).to_numpy(dtype=bool)
        known = table[~is_new]
        labels, starts = np.unique(known["Id"].to_numpy(dtype=str), return_index=True)
        photos = vectors_of(parts, known["pixel"].to_numpy(), views)
        # reduceat takes an empty list of starts for one group.
        sums = np.add.reduceat(photos, starts, axis=0) if len(starts) else photos
        new = vectors_of(parts, table["pixel"].to_numpy()[is_new], views)
        return cls(labels.tolist(), photos, starts, unit(sums), new)

    def nearest(self, queries: Vectors) -> Vectors:
        """Return the largest cosine similarity (-1..1) over each individual's photos, n x L."""
        similarity = product(queries, self.photos)
        return np.maximum.reduceat(similarity, self.starts, axis=1) if len(self.starts) else similarity

    def centre(self, queries: Vectors) -> Vectors:
        """Return the cosine similarity to each individual's centre, n x L."""
        return product(queries, self.centres)

    def nearest_new(self, queries: Vectors) -> Vectors:
        """Return the largest similarity to a photo of new_whale, n; NaN where the gallery has none."""
        if not len(self.new):
            return np.full(len(queries), np.nan, np.float32)
        return np.asarray(product(queries, self.new).max(axis=1))


def align(scores: Vectors, labels: Sequence[str], wanted: Sequence[str]) -> tuple[Vectors, Vectors]:
    """Bring a head's scores into the gallery's order.

    Args:
        scores: n x C.
        labels: the C columns' labels.
        wanted: L labels. One that the head does not know gets the photo's smallest score.

    Returns:
        (n x L, new_whale's score n: NaN where it is no class).

    """
    place = {label: column for column, label in enumerate(labels)}
    lowest = scores.min(axis=1, keepdims=True)
    extended = np.concatenate([scores, lowest], axis=1)
    new = scores[:, place[NEW_WHALE]] if NEW_WHALE in place else np.full(len(scores), np.nan, np.float32)
    return extended[:, [place.get(label, len(labels)) for label in wanted]], new


def similarities(parts: Sequence[Vectors], rows: NDArray[np.int64], asked: NDArray[np.bool_], views: int) -> Vectors:
    """Return the cosine similarity of some photos to all, (number of asked) x N.

    Args:
        parts: embeddings by member, each (photos) x views x D.
        rows: the N photos' rows of the embeddings.
        asked: which of the N photos, N.
        views: how many of the views to use.

    """
    found = np.empty((int(asked.sum()), len(rows)), np.float32)
    queries = vectors_of(parts, rows[asked], views)
    for start, chunk in zip(range(0, len(rows), CHUNK), chunks(rows), strict=True):
        found[:, start : start + len(chunk)] = product(queries, vectors_of(parts, chunk, views))
    return found
