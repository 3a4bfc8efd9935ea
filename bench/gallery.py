"""A gallery of generated photos: build, memory, latency, recall, beside scikit-learn: `nice python -m bench.gallery`.

`clustered`: photos of individuals (10 on average, their numbers log-normal). Individuals are normal with variances that
fall as i ** -1.13 over the axes, as the spectrum of real embeddings does (3,000 fluke photos, MobileNetV2 with ImageNet
weights, axes 1 to 300); a photo is its individual plus scatter of the same shape, so that two photos of one have a
cosine of about 0.6. Queries are further photos of them, and one in ten shows an individual that is not there.
`uniform`: directions at random, for which no index helps. Each side has its own process, whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import flukeprint.core  # noqa: F401 - it says how OpenMP waits, which FAISS reads when it is imported

DEPTH = 10
_EXPONENT = 1.13
_CHUNK = 1 << 15


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--shape", choices=("clustered", "uniform"), default="clustered")
    parser.add_argument("--exact-up-to", type=int, default=200_000, help="photos; more are searched through cells")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = {}
    for side in (ours, scikit_learn):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            results[side.__name__] = pool.submit(side, arguments).result()
        print(json.dumps({side.__name__: results[side.__name__]}, indent=2), flush=True)
    keys = ("one_p50_s", "one_p95_s", "many_p50_s", "many_p95_s")
    ratios = {key: results["scikit_learn"][key] / results["ours"][key] for key in keys}
    print(json.dumps({"scikit_learn / ours": {key: round(ratio, 1) for key, ratio in ratios.items()}}, indent=2))


def generated(
    shape: str, photos: int, dimension: int, queries: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return the photos' unit vectors (N x D), their individuals (N) and the queries' unit vectors (Q x D)."""
    rng = np.random.default_rng(1)
    count = max(photos // 10, 1)
    weights = rng.lognormal(0, 1, count)
    individual = rng.choice(count, photos, p=weights / weights.sum())
    shown_by = rng.choice(count, queries, p=weights / weights.sum())
    if shape == "uniform":
        return _normal(rng, photos, dimension), individual, _normal(rng, queries, dimension)
    deviations = np.arange(1, dimension + 1, dtype=np.float32) ** np.float32(-_EXPONENT / 2)
    centres = rng.standard_normal((count, dimension), np.float32) * deviations
    others = rng.standard_normal((queries, dimension), np.float32) * deviations
    shown = np.where(np.arange(queries)[:, None] % 10 == 0, others, centres[shown_by])
    vectors = np.empty((photos, dimension), np.float32)
    for start in range(0, photos, _CHUNK):
        vectors[start : start + _CHUNK] = _around(rng, centres[individual[start : start + _CHUNK]], deviations)
    return vectors, individual, _around(rng, shown, deviations)


def _around(
    rng: np.random.Generator, centres: NDArray[np.float32], deviations: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scatter a photo about each centre: 0.8 of a centre's own deviation makes cosines of 1 / (1 + 0.64)."""
    photos = centres + np.float32(0.8) * deviations * rng.standard_normal(centres.shape, np.float32)
    return np.asarray(photos / np.linalg.norm(photos, axis=1, keepdims=True))


def _normal(rng: np.random.Generator, count: int, dimension: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, dimension), np.float32)
    for start in range(0, count, _CHUNK):
        vectors[start : start + _CHUNK] /= np.linalg.norm(vectors[start : start + _CHUNK], axis=1, keepdims=True)
    return vectors


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build, save, load and search a gallery."""
    import faiss

    from flukeprint.retrieval.gallery import build_gallery
    from flukeprint.retrieval.gallery_files import load_gallery, save_gallery
    from flukeprint.retrieval.provenance import MemberRecord, Provenance
    from flukeprint.retrieval.search import Searcher

    faiss.omp_set_num_threads(arguments.threads)
    vectors, individual, queries = _inputs(arguments)
    figures: dict[str, Any] = {"inputs_mib": round(_peak_mib())}
    limit = arguments.exact_up_to
    member = MemberRecord(name="bench", sha256="0" * 64)
    provenance = Provenance(members=[member], size=[64, 64], mean=[0.5] * 3, std=[0.25] * 3, resize="none", views=1)
    names, ids = [f"{n}.jpg" for n in range(len(vectors))], [f"w_{n}" for n in individual]
    figures["build_s"], gallery = _timed(partial(build_gallery, vectors, names, ids, provenance, None, limit))
    figures["build_peak_mib"] = round(_peak_mib())
    del vectors
    with tempfile.TemporaryDirectory() as folder:
        figures["save_s"], _ = _timed(lambda: save_gallery(gallery, Path(folder) / "gallery"))
        del gallery
        figures["load_s"], gallery = _timed(lambda: load_gallery(Path(folder) / "gallery"))
        figures["ready_s"], searcher = _timed(lambda: Searcher.of(gallery))
        figures["first_s"], _ = _timed(lambda: searcher.search(queries[:1], DEPTH))
        figures |= latencies(lambda some: searcher.search(some, DEPTH), queries, 200, 10)
        figures["peak_mib"] = round(_peak_mib())
        figures |= recalls(searcher, queries)
    cells = gallery.cells
    figures["cells"] = None if cells is None else f"{cells.probes} of {len(cells.centroids)}"
    figures |= {"photos": len(gallery), "individuals": len(gallery.individuals)}
    return figures


def recalls(searcher: Any, queries: NDArray[np.float32]) -> dict[str, float]:
    """Return the shares of the exact search's candidates that are found, of those by photo and by centre."""
    from dataclasses import replace

    exact, found = (side.search(queries, DEPTH) for side in (replace(searcher, cells=None), searcher))
    there = (exact.individual[:, :, None] == found.individual[:, None, :]).any(axis=2)
    by_centre = np.argsort(np.argsort(np.where(exact.filled, -exact.centre, np.inf), axis=1), axis=1) < DEPTH
    kinds = {"nearest": np.arange(there.shape[1]) < DEPTH, "centre": by_centre}
    return {f"recall10_{name}": float(there[kind & exact.filled].mean()) for name, kind in kinds.items()}


def scikit_learn(arguments: argparse.Namespace) -> dict[str, Any]:
    """Search the same vectors by scikit-learn's brute force; Euclidean order is cosine order on unit vectors."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    vectors, _, queries = _inputs(arguments)
    figures: dict[str, Any] = {"inputs_mib": round(_peak_mib())}
    with threadpool_limits(arguments.threads):
        index = NearestNeighbors(n_neighbors=DEPTH, algorithm="brute")
        figures["build_s"], _ = _timed(lambda: index.fit(vectors))
        figures |= latencies(index.kneighbors, queries, 40, 3)
    figures["peak_mib"] = round(_peak_mib())
    return figures


def latencies(
    search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32], ones: int, repeats: int
) -> dict[str, float]:
    """Return p50 and p95, in wall seconds, of queries one by one and of all in one call."""
    alone = [_timed(partial(search, queries[at : at + 1]))[0] for at in range(min(ones, len(queries)))]
    together = [_timed(partial(search, queries))[0] for _ in range(repeats)]
    return {
        f"{name}_p{percent}_s": round(float(np.percentile(seconds, percent)), 5)
        for name, seconds in (("one", alone), ("many", together))
        for percent in (50, 95)
    }


def _inputs(arguments: argparse.Namespace) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    return generated(arguments.shape, arguments.photos, arguments.dimension, arguments.queries)


def _peak_mib() -> float:
    """Return this process's peak resident memory so far, in MiB; memory-mapped pages count."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return wall seconds and what the call returned."""
    start = time.perf_counter()
    result = run()
    return round(time.perf_counter() - start, 5), result


if __name__ == "__main__":
    main()
