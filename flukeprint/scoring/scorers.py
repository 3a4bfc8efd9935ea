"""The scorers: each gives photos candidates among the individuals of the gallery, the photos that were trained on.

Matrix products run in chunks of photos, so memory does not grow with their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.search import DEPTH, Searcher
from flukeprint.retrieval.vectors import chunks, vectors_of
from flukeprint.scoring.candidates import (
    Scored,
    best_candidates,
    best_columns,
    gallery_candidates,
    joined,
    ranked,
)
from flukeprint.scoring.copies import scored_copies
from flukeprint.scoring.registry import (
    BLEND,
    DUPLICATES,
    ENSEMBLE,
    GALLERY,
    GALLERY_CENTRE,
    GALLERY_NEAREST,
    MOST_FREQUENT,
    PRETRAINED_KNN,
)

Vectors = NDArray[np.float32]


def most_frequent(gallery: pd.DataFrame, n: int) -> Scored:
    """Give each of n photos the individuals with most photos in the gallery (column Id), unseen.

    A score is the natural logarithm of the label's share of the gallery's photos.
    """
    counts = gallery["Id"].value_counts().sort_index()
    shares = np.log(counts.to_numpy() / len(gallery)).astype(np.float32)
    return best_candidates(np.tile(shares, (n, 1)), counts.index.tolist())


def near_duplicates(gallery: pd.DataFrame, clusters: Sequence[int]) -> Scored:
    """Give each photo, of which only the cluster of near-duplicates is known, the labels of the gallery's in it."""
    labels_in = gallery.groupby("cluster")["Id"].agg(Counter).to_dict()
    return scored_copies(labels_in.get(cluster, Counter()) for cluster in clusters)


@dataclass(frozen=True, eq=False)
class TrainedPhotos:
    """The photos that were trained on, ready for queries.

    new_whale is no individual: photos with that label usually show different whales. How similar the nearest of them
    is, is a feature of the photo in question.
    """

    names: NDArray[np.str_]  # of the individuals, sorted
    individuals: Searcher
    new: Searcher  # photos of new_whale, as of one individual

    @classmethod
    def of(cls, table: pd.DataFrame, parts: Sequence[Vectors], views: int) -> TrainedPhotos:
        """Make the photos of a table (Image, Id, pixel: row of the embeddings) ready, in the order of a gallery."""
        table = table.sort_values(["Id", "Image"])
        is_new = (table["Id"] == NEW_WHALE).to_numpy(dtype=bool)
        names, place = np.unique(table["Id"].to_numpy(dtype=str)[~is_new], return_inverse=True)
        rows = table["pixel"].to_numpy()
        known, new = vectors_of(parts, rows[~is_new], views), vectors_of(parts, rows[is_new], views)
        return cls(names, Searcher(known, place), Searcher(new, np.zeros(len(new), np.int64)))

    def centre_similarities(self, queries: Vectors) -> Vectors:
        """Return the cosine of n x D queries to the centre of each of the L individuals, n x L."""
        from threadpoolctl import threadpool_limits

        # One thread: the last bits of a product depend on their number.
        with threadpool_limits(1):
            return queries @ self.individuals.centres.T

    def nearest_new(self, queries: Vectors) -> Vectors:
        """Return the largest similarity to a photo of new_whale, n; NaN where there is none."""
        found = self.new.search(queries, 1)
        return np.where(found.filled[:, 0], found.nearest[:, 0], np.nan).astype(np.float32)


def nearest_photos(photos: TrainedPhotos, queries: Vectors) -> Scored:
    """Score each individual, and new_whale, by the cosine similarity (-1..1) of its most similar photo."""
    found = photos.individuals.search(queries)
    nearest, new = found.nearest.astype(np.float32), photos.nearest_new(queries)
    return ranked(photos.names, found.individual, nearest, new, DEPTH)


@dataclass(frozen=True)
class Member:
    """One member's head, its classes and its embeddings of the photos in question, N x views x D."""

    name: str
    head: nn.Linear
    labels: list[str]
    embeddings: Vectors


def classify(
    members: Sequence[Member],
    rows: NDArray[np.int64],
    views: int,
    *,
    apart: bool = True,
    photos: TrainedPhotos | None = None,
) -> dict[str, Scored]:
    """Score the classes by the members' heads, and with photos (of the same embeddings) also by a search in them.

    A member's score is the log_softmax of its logits over all classes, new_whale included; the ensemble's that of
    the members' summed logits. So the exponential of a score is a probability. Logits are summed over the views.

    Returns:
        {scorer: its candidates}: the members, if they are also wanted `apart`, `ensemble`, those of `search_photos`.

    Raises:
        FlukeprintError: the members' heads do not have the same labels, or not those of the photos.
    """
    labels = _common_labels(members, photos)
    parts = [dict(_classified(members, chunk, views, labels, photos, apart=apart)) for chunk in chunks(rows)]
    return {name: joined([part[name] for part in parts]) for name in parts[0]}


def _common_labels(members: Sequence[Member], photos: TrainedPhotos | None) -> list[str]:
    first = members[0]
    for member in members[1:]:
        if member.labels != first.labels:
            raise FlukeprintError(
                f"members {first.name} and {member.name} have heads for different labels "
                f"({len(first.labels)} and {len(member.labels)}). Run `dvc repro` to train both on the same set."
            )
    if photos and [label for label in first.labels if label != NEW_WHALE] != photos.names.tolist():
        raise FlukeprintError(
            f"the members' heads know {len(first.labels)} labels, and not the {len(photos.names)} individuals that "
            "were trained on. Run `dvc repro` to train them anew."
        )
    return first.labels


def _classified(
    members: Sequence[Member],
    rows: NDArray[np.int64],
    views: int,
    labels: list[str],
    photos: TrainedPhotos | None,
    *,
    apart: bool,
) -> Iterator[tuple[str, Scored]]:
    """Yield (scorer, its candidates) for one chunk of photos."""
    total = torch.zeros(len(rows), len(labels))
    for member in members:
        logits = _logits(member, rows, views)
        total += logits
        if apart:
            yield member.name, best_candidates(torch.log_softmax(logits, dim=1).numpy(), labels)
    scores = torch.log_softmax(total, dim=1).numpy()
    yield ENSEMBLE, best_candidates(scores, labels)
    if photos:
        queries = vectors_of([member.embeddings for member in members], rows, views)
        yield from search_photos(photos, queries, scores, labels).items()


def _logits(member: Member, rows: NDArray[np.int64], views: int) -> torch.Tensor:
    """Return one member's logits, summed over views: n x classes. The head is linear, so views are summed first."""
    together = torch.from_numpy(member.embeddings[rows, :views].sum(axis=1))
    with torch.no_grad():
        return torch.addmm(views * member.head.bias, together, member.head.weight.T)


def search_photos(photos: TrainedPhotos, queries: Vectors, scores: Vectors, labels: Sequence[str]) -> dict[str, Scored]:
    """Score the L individuals by their photos, by their centre, and by several features at once.

    Queries are n x D, of length 1. Scores are the ensemble's log-probabilities, n x C, of the C labels: the
    individuals, and perhaps new_whale.
    """
    is_new = np.array(labels) == NEW_WHALE
    head = scores[:, ~is_new]
    nothing = np.full((len(queries), 1), np.nan, np.float32)
    found = photos.individuals.search(queries, DEPTH, best_columns(head, DEPTH))
    all_three = gallery_candidates(found, photos.names)
    of_head = np.where(found.filled, np.take_along_axis(head, np.maximum(found.individual, 0), axis=1), 0)
    new = scores[:, is_new] if is_new.any() else nothing
    of_photo = np.column_stack([new, photos.nearest_new(queries)])
    features = np.dstack([all_three.features, of_head])
    own = gallery_candidates(found.best(DEPTH), photos.names)
    return {
        GALLERY_NEAREST: ranked(own.names, own.label, own.features[:, :, 0], nothing[:, 0], DEPTH),
        GALLERY_CENTRE: ranked(own.names, own.label, own.features[:, :, 1], nothing[:, 0], DEPTH),
        GALLERY: own,
        BLEND: Scored(photos.names, found.individual, features, of_photo),
    }


def score_queries(
    queries: pd.DataFrame, gallery: pd.DataFrame, pretrained: Vectors, members: Sequence[Member], views: int
) -> dict[str, Scored]:
    """Let every scorer of the leaderboard answer the same queries (columns cluster, pixel: row of all embeddings).

    The gallery (Image, Id, cluster, pixel) are the photos that were trained on. `pretrained` are the pretrained
    backbone's embeddings of all photos, N x 1 x D.
    """
    rows = queries["pixel"].to_numpy()
    by_pretrained = TrainedPhotos.of(gallery, [pretrained], 1)
    photos = TrainedPhotos.of(gallery, [member.embeddings for member in members], views)
    return {
        MOST_FREQUENT: most_frequent(gallery, len(queries)),
        DUPLICATES: near_duplicates(gallery, queries["cluster"].tolist()),
        PRETRAINED_KNN: nearest_photos(by_pretrained, vectors_of([pretrained], rows, 1)),
        **classify(members, rows, views, photos=photos),
    }
