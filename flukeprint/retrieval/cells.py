"""Inverted lists for galleries too large to compare every query with all of it.

k-means divides the vectors into cells (IVF: Sivic and Zisserman 2003, as in FAISS); a query is compared with the
photos of the cells nearest to it. How many cells those are is measured when the cells are made, so that the recall
holds for the vectors at hand.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Photos up to which every search compares with all of them: a few hundredths of a second per query.
EXACT_UP_TO = 200_000
# Share of the 10 nearest photos that the nearest cells must hold, in the mean over the probes.
_RECALL = 0.99
_DEPTH, _PROBES = 10, 256
# FAISS's advice is 4 to 16 times the square root of N cells, trained on 30 to 256 vectors each. Fewer cells and rounds
# take less time to make; the recall is measured in any case.
_CELLS, _PER_CELL, _ITERATIONS, _SEED = 2, 39, 6, 1234


@dataclass(frozen=True, eq=False)
class Cells:
    """Which cell each photo is in."""

    centroids: NDArray[np.float32]  # cells x D
    cell: NDArray[np.int32]  # N
    probes: int  # cells that a query looks into


def new_cells(vectors: NDArray[np.float32]) -> Cells:
    """Make cells by k-means on a sample, and measure how many a query must look into."""
    import faiss

    # Small galleries have cells only where somebody asks for them (exact_up_to: 0).
    count = min(1 << round(np.log2(_CELLS * np.sqrt(len(vectors)))), len(vectors))
    rng = np.random.default_rng(_SEED)
    sample = np.sort(rng.permutation(len(vectors))[: count * _PER_CELL])
    kmeans = faiss.Kmeans(
        vectors.shape[1], count, niter=_ITERATIONS, seed=_SEED, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=_PER_CELL,
    )  # fmt: skip
    kmeans.train(vectors[sample])
    centroids: NDArray[np.float32] = np.ascontiguousarray(kmeans.centroids, np.float32)
    cell = _nearest(vectors, centroids, 1)[:, 0].astype(np.int32)
    probed = np.sort(rng.permutation(len(vectors))[:_PROBES])
    return Cells(centroids, cell, _probes(vectors, centroids, cell, probed))


def _probes(
    vectors: NDArray[np.float32], centroids: NDArray[np.float32], cell: NDArray[np.int32], probed: NDArray[np.int64]
) -> int:
    """Return how many cells hold the share `_RECALL` of the photos nearest to those `probed`, themselves left out."""
    near = _nearest(vectors[probed], vectors, _DEPTH + 1)
    # A photo's copy may stand before it: what is left out is the photo, wherever it stands.
    others = near != probed[:, None]
    order = _nearest(vectors[probed], centroids, len(centroids))
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(len(centroids))[None], axis=1)
    needed = np.sort(np.take_along_axis(rank, cell[near].astype(np.int64), axis=1)[others]) + 1
    if not len(needed):  # a single photo has no other one near it
        return 1
    return int(needed[int(np.ceil(_RECALL * len(needed))) - 1])


def _nearest(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows of the k vectors with the largest inner product, best first: queries x k."""
    import faiss

    if len(queries) == 0:
        return np.empty((0, k), np.int64)
    found = faiss.knn(queries, vectors, min(k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(found[1])


def inverted_lists(vectors: NDArray[np.float32], cells: Cells) -> Any:
    """Return FAISS's index over the cells, with vectors rounded to 8 bits per component (callers rescore).

    It is made from checked arrays whenever it is needed: FAISS's own files are parsed by code that trusts them.
    """
    import faiss

    dimension = vectors.shape[1]
    quantizer = faiss.IndexFlatIP(dimension)
    quantizer.add(cells.centroids)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, dimension, len(cells.centroids), faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    index.train(vectors[:: max(len(vectors) // (1 << 16), 1)])
    rows = np.arange(len(vectors), dtype=np.int64)
    cell = cells.cell.astype(np.int64)
    index.add_core(len(vectors), faiss.swig_ptr(vectors), faiss.swig_ptr(rows), faiss.swig_ptr(cell))
    index.nprobe = cells.probes
    return index
