"""The embeddings of photos as stages embed and baseline leave them: data/embeddings/<member>/<part>.npy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_npy
from flukeprint.core.paths import EMBEDDINGS

# Photos that are looked at a time: memory does not grow with their number.
_CHUNK = 4096


def read_embeddings(member: str, part: str) -> NDArray[np.float32]:
    """Open a member's embeddings of the train or test photos, N x views x D, as a memory map.

    Values that are not finite are a FlukeprintError: whatever is computed from them is no number either.
    """
    path = EMBEDDINGS / member / f"{part}.npy"
    embeddings = read_npy(path)
    if broken := [row for rows in _broken(embeddings) for row in rows]:
        raise FlukeprintError(
            f"{path} holds values that are not finite for {len(broken)} of {len(embeddings)} photos, first in row "
            f"{broken[0]}. Remove it and run `dvc repro` to make it again."
        )
    return embeddings


def _broken(embeddings: NDArray[np.float32]) -> Iterator[list[int]]:
    """Yield the rows with a value that is not finite, chunk by chunk."""
    for start in range(0, len(embeddings), _CHUNK):
        chunk = embeddings[start : start + _CHUNK]
        yield (start + np.flatnonzero(~np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1))).tolist()
