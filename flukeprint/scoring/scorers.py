"""The scorers: each gives photos candidates among the individuals of a gallery.

Queries search the photos that were trained on, so that figures are of photos that nothing knows; test photos search
every labelled photo.

Matrix products run in chunks of photos, so memory does not grow with their number, nor with that of the classes.
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
from flukeprint.data.leaks import refuse_own_photos
from flukeprint.retrieval.search import DEPTH, Candidates
from flukeprint.retrieval.vectors import CHUNK, chunks, vectors_of
from flukeprint.scoring.candidates import (
    Scored,
    best_candidates,
    gallery_candidates,
    joined,
    ranked,
)
from flukeprint.scoring.copies import scored_copies
from flukeprint.scoring.labelled_photos import LabelledPhotos
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

# Scores of classes that one chunk of photos has, 64 MiB; several such arrays are held at a time.
_SCORES = 1 << 24


def most_frequent(gallery: pd.DataFrame, n: int) -> Scored:
    """Give each of n photos the individuals with most photos in the gallery (column Id), unseen.

    A score is the natural logarithm of the label's share of the gallery's photos.
    """
    counts = gallery["Id"].value_counts().sort_index()
    shares = np.log(counts.to_numpy() / len(gallery)).astype(np.float32)
    return best_candidates(shares[None], counts.index.tolist())[np.zeros(n, np.int64)]


def near_duplicates(gallery: pd.DataFrame, clusters: Sequence[int]) -> Scored:
    """Give each photo, of which only the cluster of near-duplicates is known, the labels of the gallery's in it."""
    asked = gallery[gallery["cluster"].isin(clusters)]
    labels_in = {cluster: Counter(labels) for cluster, labels in asked.groupby("cluster")["Id"]}
    return scored_copies(labels_in.get(cluster, Counter()) for cluster in clusters)


def nearest_photos(photos: LabelledPhotos, queries: Vectors) -> Scored:
    """Score each individual, and new_whale, by the cosine similarity (-1..1) of its most similar photo."""
    found = photos.individuals.search(queries, by_centre=False)
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
    photos: LabelledPhotos | None = None,
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
    size = max(min(CHUNK, _SCORES // len(labels)), 1)
    parts = [dict(_classified(members, chunk, views, labels, photos, apart=apart)) for chunk in chunks(rows, size)]
    return {name: joined([part[name] for part in parts]) for name in parts[0]}


def _common_labels(members: Sequence[Member], photos: LabelledPhotos | None) -> list[str]:
    first = members[0]
    for member in members[1:]:
        if member.labels != first.labels:
            raise FlukeprintError(
                f"members {first.name} and {member.name} have heads for different labels "
                f"({len(first.labels)} and {len(member.labels)}). Run `dvc repro` to train both on the same set."
            )
    if photos and not {*first.labels} <= {NEW_WHALE, *photos.names.tolist()}:
        raise FlukeprintError(
            f"the members' heads know {len(first.labels)} labels, and not the {len(photos.names)} individuals that "
            "are searched. Run `dvc repro` to train them anew."
        )
    return first.labels


def _classified(
    members: Sequence[Member],
    rows: NDArray[np.int64],
    views: int,
    labels: list[str],
    photos: LabelledPhotos | None,
    *,
    apart: bool,
) -> Iterator[tuple[str, Scored]]:
    """Yield (scorer, its candidates) for one chunk of photos."""
    total = torch.empty(0)
    for number, member in enumerate(members):
        logits = _logits(member, rows, views)
        if apart:
            yield member.name, best_candidates(torch.log_softmax(logits, dim=1).numpy(), labels)
        total = total.add_(logits) if number else logits
    scores = torch.log_softmax(total, dim=1, out=total).numpy()
    best = best_candidates(scores, labels)
    yield ENSEMBLE, best
    if photos:
        queries = vectors_of([member.embeddings for member in members], rows, views)
        yield from search_photos(photos, queries, best, scores, labels).items()


def _logits(member: Member, rows: NDArray[np.int64], views: int) -> torch.Tensor:
    """Return one member's logits, summed over views: n x classes. The head is linear, so views are summed first."""
    together = torch.from_numpy(member.embeddings[rows, :views].sum(axis=1))
    with torch.no_grad():
        return torch.addmm(views * member.head.bias, together, member.head.weight.T)


def search_photos(
    photos: LabelledPhotos, queries: Vectors, best: Scored, scores: Vectors, labels: Sequence[str]
) -> dict[str, Scored]:
    """Score the L individuals by their photos, by their centre, and by several features at once.

    Queries are n x D, of length 1. Scores are the ensemble's log-probabilities, n x C, of the C labels: individuals
    among the L, and perhaps new_whale; `best` are its candidates.
    """
    place = np.searchsorted(photos.names, best.names)
    nothing = np.full((len(queries), 1), np.nan, np.float32)
    found = photos.individuals.search(queries, DEPTH, place[best.label[:, : len(place)]])
    all_three = gallery_candidates(found, photos.names)
    of_photo = np.column_stack([best.new_score, photos.nearest_new(queries)])
    class_of = np.full(len(photos.names), -1)
    class_of[place] = np.flatnonzero(np.array(labels) != NEW_WHALE)
    features = np.dstack([all_three.features, _by_head(found, scores, class_of)])
    own = gallery_candidates(found.best(DEPTH), photos.names)
    return {
        GALLERY_NEAREST: ranked(own.names, own.label, own.features[:, :, 0], nothing[:, 0], DEPTH),
        GALLERY_CENTRE: ranked(own.names, own.label, own.features[:, :, 1], nothing[:, 0], DEPTH),
        GALLERY: own,
        BLEND: Scored(photos.names, found.individual, features, of_photo),
    }


def _by_head(found: Candidates, scores: Vectors, class_of: NDArray[np.int64]) -> Vectors:
    """Return the heads' score of each candidate, 0 where there is none; `class_of`: each individual's column of n x C.

    An individual that is no class (-1), because none of its photos was trained on, gets the mean of the photo's other
    candidates: the heads say nothing for it, and nothing against it.
    """
    column = np.append(class_of, -1)[found.individual]  # -1, no further candidate, is the last of them
    known = column >= 0
    values = np.zeros(column.shape, scores.dtype)
    values[known] = scores[np.nonzero(known)[0], column[known]]
    mean = values.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(found.filled & ~known, mean, values).astype(scores.dtype)


def score_queries(
    queries: pd.DataFrame, gallery: pd.DataFrame, pretrained: Vectors, members: Sequence[Member], views: int
) -> dict[str, Scored]:
    """Let every scorer of the leaderboard answer the same queries (columns cluster, pixel: row of all embeddings).

    The gallery (Image, Id, cluster, pixel) are the photos that were trained on. `pretrained` are the pretrained
    backbone's embeddings of all photos, N x 1 x D.

    Raises:
        FlukeprintError: a query is in the gallery, or the gallery has individuals that the heads were not trained on.
    """
    refuse_own_photos(queries, gallery)
    rows = queries["pixel"].to_numpy()
    by_pretrained = LabelledPhotos.of(gallery, [pretrained], 1)
    photos = LabelledPhotos.of(gallery, [member.embeddings for member in members], views, queries=len(queries))
    if others := sorted({*photos.names.tolist()} - {*members[0].labels}):
        raise FlukeprintError(
            f"queries would search photos of {len(others)} individuals that the heads were not trained on, such as "
            f"{others[0]}. Only photos that were trained on are searched by queries: run `dvc repro` to train anew."
        )
    return {
        MOST_FREQUENT: most_frequent(gallery, len(queries)),
        DUPLICATES: near_duplicates(gallery, queries["cluster"].tolist()),
        PRETRAINED_KNN: nearest_photos(by_pretrained, vectors_of([pretrained], rows, 1)),
        **classify(members, rows, views, photos=photos),
    }
