"""One vector per photo from the embeddings of all members and views, and cosines of vectors."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")

Vectors = NDArray[np.float32]
Stored = NDArray[np.float16] | NDArray[np.float32]  # large galleries hold half precision

# Photos that are worked on at a time: memory does not grow with their number.
CHUNK = 1024
# Vectors that a pass through all of them takes at a time: those of 512 numbers stay in a core's cache.
_BLOCK = 1 << 10
# Bytes of the vectors in float64 that are multiplied at a time: they stay in a core's cache (four times as fast).
_CACHED = 1 << 20


def unit(vectors: Vectors) -> Vectors:
    """Scale the vectors along the last axis to length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny))


def photo_vectors(parts: Sequence[Vectors], views: int) -> Vectors:
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
    flat = [unit(part[:, :views]).reshape(len(part), views * part.shape[-1]) for part in parts]
    return np.concatenate([one * scale for one in flat], axis=1)


def chunks(rows: NDArray[Any], size: int = CHUNK) -> Iterator[NDArray[Any]]:
    """Cut rows into pieces of at most `size`; no rows make one piece without any."""
    return (rows[start : start + size] for start in range(0, max(len(rows), 1), size))


def single(vectors: Stored) -> Vectors:
    """Return vectors in float32; those that are stay as they are."""
    return np.asarray(vectors).astype(np.float32, copy=False)


def blocks(length: int, size: int = _BLOCK) -> list[slice]:
    """Cut so many rows into slices."""
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def on_all_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do the same with all items, on as many threads as FAISS has, and return what came out, in their order.

    Each matrix product has one of them: the last bits of a product depend on the number of its threads.
    """
    if len(items) < 2:
        return list(map(work, items))
    import faiss
    from threadpoolctl import threadpool_limits

    # Before the limit: it is one for FAISS's threads too where its BLAS shares them.
    number = faiss.omp_get_max_threads()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(number) as pool:
        return list(pool.map(work, items))


def highest(queries: Vectors, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Return each query's k highest inner products with vectors, highest first, and these vectors' rows: n x k each.

    They are rounded as FAISS and the number of threads have it.
    """
    import faiss

    # From 1.15 on FAISS reads all vectors once for each query, unless these have 128,000 numbers together: of a hundred
    # queries of 1,024 numbers each then takes 17 times as long as in a matrix product.
    faiss.cvar.distance_compute_blas_threshold = 1
    return faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)


@dataclass(frozen=True, eq=False)
class EmbeddedPhotos:
    """The `photo_vectors` of some rows of the members' embeddings, made where they are asked for: N x D."""

    parts: Sequence[Vectors]
    rows: NDArray[np.int64]
    views: int

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return len(self.rows), sum(self.views * part.shape[-1] for part in self.parts)

    def __getitem__(self, some: NDArray[np.int64]) -> Vectors:
        """Return some of the N."""
        return vectors_of(self.parts, self.rows[some], self.views)


def vectors_of(parts: Sequence[Vectors], rows: NDArray[np.int64], views: int) -> Vectors:
    """Return `photo_vectors` of some rows, without copies of all embeddings on the way."""
    found = np.empty((len(rows), sum(views * part.shape[-1] for part in parts)), np.float32)
    for some in chunks(np.arange(len(rows))):
        found[some] = photo_vectors([part[rows[some]] for part in parts], views)
    return found


def cosines(
    queries: Vectors, query: NDArray[np.int64], vectors: Stored, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosines of n pairs of unit vectors, in float64 without BLAS: the same bits in any company.

    float32 gives a unit vector its length only to 1e-7, so a photo's cosine with itself may come out above 1: cut off.
    `query` are n rows of the queries (Q x D), `rows` n of the vectors (N x D).
    """
    size = max(_CACHED // (8 * max(vectors.shape[1], 1)), 1)
    parts = [
        np.einsum("nd,nd->n", queries[query[some]].astype(np.float64), vectors[rows[some]].astype(np.float64))
        for some in chunks(np.arange(len(rows)), size)
    ]
    return np.asarray(np.clip(np.concatenate(parts), -1, 1))
