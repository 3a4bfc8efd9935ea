"""One vector per photo from the embeddings of all members and views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the vectors along the last axis to length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny))


def photo_vectors(parts: Sequence[NDArray[np.float32]], views: int) -> NDArray[np.float32]:
    """Join the members' and views' embeddings so that the inner product of two photos is their mean cosine similarity.

    Like is compared with like: a view of one photo with the same view of the other. Where a mirrored fluke is trained
    as another individual, the two views lie apart, so they are not averaged.

    Args:
        parts: one array per member, each N x (at least `views`) x D; D may differ between members.
        views: how many of the views to use.

    Returns:
        float32 N x (views * sum of D), each row of length 1 (shorter only where an embedding is all zeros).

    """
    scale = np.float32(1 / np.sqrt(views * len(parts)))
    return np.concatenate([unit(part[:, :views]).reshape(len(part), -1) * scale for part in parts], axis=1)
