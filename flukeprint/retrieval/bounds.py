"""Bounds of cosines from a few coordinates, so that most vectors need not be compared with a query.

Vectors are projected onto the axes along which they are longest. By Cauchy and Schwarz an inner product is at most that
of the coordinates plus the product of the lengths of what is beside the axes. So whoever has a lower bound than the
similarities found is none of the nearest: the answers are those of a comparison with all vectors, for an eighth of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flukeprint.retrieval.codes import subspace
from flukeprint.retrieval.vectors import Stored, Vectors, blocks, highest, on_all_threads, single

# A coordinate for so many numbers of a vector, the length beside the axes included.
_SHARE = 8
# Vectors that the axes are learned from.
_SAMPLE, _SEED = 1 << 13, 1234
# Vectors that are projected at a time.
_PROJECTED = 1 << 8
# More than float32 loses in the square of a length: bounds must not be too low.
_SLACK = np.float32(1e-5)


@dataclass(frozen=True, eq=False)
class Bounds:
    """N vectors' coordinates along A axes, and their lengths beside them."""

    axes: Vectors  # D x A
    rows: Vectors  # N x (A + 1)

    def of(self, vectors: Stored) -> Bounds:
        """Return the bounds of other vectors along the same axes."""
        return replace(self, rows=_projected(vectors, self.axes))

    def highest(self, queries: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Return the k highest bounds of each of n queries, highest first, and the vectors' rows, n x k each."""
        return highest(_projected(queries, self.axes), self.rows, k)


def new_bounds(vectors: Vectors) -> Bounds:
    """Make the bounds of N vectors of D numbers."""
    rng = np.random.default_rng(_SEED)
    sample = vectors[np.sort(rng.permutation(len(vectors))[:_SAMPLE])]
    axes = subspace(sample, max(vectors.shape[1] // _SHARE - 1, 1), rng)
    return Bounds(axes, _projected(vectors, axes))


def _projected(vectors: Stored, axes: Vectors) -> Vectors:
    found = np.empty((len(vectors), axes.shape[1] + 1), np.float32)

    def project(rows: slice) -> None:
        part, along = single(vectors[rows]), found[rows, :-1]
        along[:] = part @ axes
        beside = np.einsum("nd,nd->n", part, part) - np.einsum("na,na->n", along, along)
        found[rows, -1] = np.sqrt(np.maximum(beside, 0) + _SLACK)

    on_all_threads(project, blocks(len(vectors), _PROJECTED))
    return found
