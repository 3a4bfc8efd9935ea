"""The scorers: each gives photos candidates among the individuals of the gallery, the photos that were trained on.

Matrix products run in chunks of photos, so memory does not grow with their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.individuals import Individuals, align, chunks, vectors_of
from flukeprint.retrieval.vectors import unit
from flukeprint.scoring.candidates import DEPTH, Scored, best_candidates, combined_candidates, joined
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

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn


def most_frequent(gallery: pd.DataFrame, n: int) -> Scored:
    """Give each of n photos the individuals with most photos in the gallery (column Id), unseen.

    A score is the natural logarithm of the label's share of the gallery's photos.
    """
    counts = gallery["Id"].value_counts().sort_index()
    shares = np.log(counts.to_numpy() / len(gallery)).astype(np.float32)
    one = best_candidates(shares[None], counts.index.tolist())
    return Scored(one.candidates * n, one.scores * n, np.repeat(one.new_score, n))


def near_duplicates(gallery: pd.DataFrame, clusters: Sequence[int]) -> Scored:
    """Give each photo, of which only the cluster of near-duplicates is known, the labels of the gallery's in it.

    A score is the label's share of the gallery's photos in the cluster. new_whale's is 0 where no photo there has
    that label: it stands behind real duplicates, and first where there are none.

    Args:
        gallery: columns Id, cluster.
        clusters: one per photo.

    """
    labels_in = gallery.groupby("cluster")["Id"].agg(Counter).to_dict()
    return joined([_shares(labels_in.get(cluster, Counter())) for cluster in clusters])


def _shares(counts: Counter[str]) -> Scored:
    """Score one photo by the labels of its near-duplicates."""
    total = max(counts.total(), 1)
    best = sorted((-count / total, label) for label, count in counts.items() if label != NEW_WHALE)[:DEPTH]
    scores = np.array([-share for share, _ in best], np.float32)
    return Scored([[label for _, label in best]], [scores], np.array([counts[NEW_WHALE] / total], np.float32))


def nearest_photo(embeddings: NDArray[np.float32], gallery: pd.DataFrame, rows: NDArray[np.int64]) -> Scored:
    """Score each individual by the cosine similarity (-1..1) of its most similar photo in the gallery.

    Args:
        embeddings: N x D.
        gallery: columns Id, pixel (row of `embeddings`).
        rows: rows of the photos in question.

    """
    gallery = gallery.sort_values(["Id", "pixel"])
    labels, starts = np.unique(gallery["Id"].to_numpy(dtype=str), return_index=True)
    references = torch.from_numpy(unit(embeddings[gallery["pixel"].to_numpy()])).T

    def score(chunk: NDArray[np.int64]) -> Scored:
        # By torch: numpy's product depends in its last bits on the number of threads.
        similarity = (torch.from_numpy(unit(embeddings[chunk])) @ references).numpy()
        return best_candidates(np.maximum.reduceat(similarity, starts, axis=1), labels.tolist())

    return joined([score(chunk) for chunk in chunks(rows)])


@dataclass(frozen=True)
class Member:
    """One member's head, its classes and its embeddings of the photos in question, N x views x D."""

    name: str
    head: nn.Linear
    labels: list[str]
    embeddings: NDArray[np.float32]


def classify(
    members: Sequence[Member],
    rows: NDArray[np.int64],
    views: int,
    *,
    apart: bool = True,
    gallery: Individuals | None = None,
) -> dict[str, Scored]:
    """Score the classes by the members' heads, and with a gallery also its individuals.

    A member's score is the log_softmax of its logits over all classes, new_whale included; the ensemble's that of
    the members' summed logits. So the exponential of a score is a probability.

    Args:
        members: at least one, all with the same sorted labels.
        rows: rows of the embeddings.
        views: 1 uses the photo alone, 2 also its mirror image; logits are summed over views.
        apart: also score by each member alone; else only by all together.
        gallery: made from embeddings of the same members; its scorers (`search`) follow.

    Returns:
        {scorer: its candidates}, scorers in the members' order, then `ensemble`, then the gallery's.

    Raises:
        FlukeprintError: the members' heads do not have the same labels.

    """
    labels = _common_labels(members)
    names = [*(one.name for one in members if apart), ENSEMBLE]
    names += [GALLERY_NEAREST, GALLERY_CENTRE, GALLERY, BLEND] if gallery else []
    parts: dict[str, list[Scored]] = {name: [] for name in names}
    for chunk in chunks(rows):
        for name, scores in _log_probabilities(members, chunk, views, apart=apart):
            parts[name].append(best_candidates(scores, labels))
            if gallery and name == ENSEMBLE:
                queries = vectors_of([member.embeddings for member in members], chunk, views)
                for scorer, found in search(gallery, queries, *align(scores, labels, gallery.labels)).items():
                    parts[scorer].append(found)
    return {name: joined(part) for name, part in parts.items()}


def _common_labels(members: Sequence[Member]) -> list[str]:
    first = members[0]
    for member in members[1:]:
        if member.labels != first.labels:
            raise FlukeprintError(
                f"members {first.name} and {member.name} have heads for different labels "
                f"({len(first.labels)} and {len(member.labels)}). Run `dvc repro` to train both on the same set."
            )
    return first.labels


def _log_probabilities(
    members: Sequence[Member], rows: NDArray[np.int64], views: int, *, apart: bool
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (scorer, n x classes) for one chunk of photos."""
    total = torch.zeros(len(rows), len(members[0].labels))
    for member in members:
        logits = _logits(member, rows, views)
        total += logits
        if apart:
            yield member.name, torch.log_softmax(logits, dim=1).numpy()
    yield ENSEMBLE, torch.log_softmax(total, dim=1).numpy()


def _logits(member: Member, rows: NDArray[np.int64], views: int) -> torch.Tensor:
    """Return one member's logits, summed over views: n x classes. The head is linear, so views are summed first."""
    together = torch.from_numpy(member.embeddings[rows, :views].sum(axis=1))
    with torch.no_grad():
        return torch.addmm(views * member.head.bias, together, member.head.weight.T)


def search(
    gallery: Individuals, queries: NDArray[np.float32], head: NDArray[np.float32], new: NDArray[np.float32]
) -> dict[str, Scored]:
    """Score the gallery's individuals by their photos, by their centre, and by several features at once.

    Args:
        gallery: L individuals.
        queries: n x D, vectors of length 1.
        head: the ensemble's log-probabilities of the individuals, n x L.
        new: and of new_whale, n; NaN where it is no class.

    Returns:
        gallery_nearest, gallery_centre; gallery (features: both) and blend (features: both, and head; of the photo:
        `new`, and the similarity to the nearest photo of new_whale), in the order of flukeprint/scoring/fusion.py.

    """
    nearest, centre = gallery.nearest(queries), gallery.centre(queries)
    nothing = np.full((len(queries), 1), np.nan, np.float32)
    of_photo = np.stack([new, gallery.nearest_new(queries)], axis=1)
    return {
        GALLERY_NEAREST: best_candidates(nearest, gallery.labels),
        GALLERY_CENTRE: best_candidates(centre, gallery.labels),
        GALLERY: combined_candidates([nearest, centre], gallery.labels, nothing),
        BLEND: combined_candidates([nearest, centre, head], gallery.labels, of_photo),
    }


def score_queries(
    asked: pd.DataFrame, gallery: pd.DataFrame, pretrained: NDArray[np.float32], members: Sequence[Member], views: int
) -> Mapping[str, Scored]:
    """Let every scorer of the leaderboard answer the same photos.

    Args:
        asked: columns cluster, pixel (row of all embeddings).
        gallery: the photos that were trained on: Id, cluster, pixel.
        pretrained: the pretrained backbone's embeddings, N x 1 x D.
        members: with their embeddings of the same N photos.
        views: as in `classify`.

    """
    rows = asked["pixel"].to_numpy()
    searched = Individuals.of(gallery, [member.embeddings for member in members], views)
    return {
        MOST_FREQUENT: most_frequent(gallery, len(asked)),
        DUPLICATES: near_duplicates(gallery, asked["cluster"].tolist()),
        PRETRAINED_KNN: nearest_photo(pretrained[:, 0], gallery, rows),
        **classify(members, rows, views, gallery=searched),
    }
