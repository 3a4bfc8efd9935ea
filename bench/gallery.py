"""A gallery of generated photos: build, memory, latency, recall, beside scikit-learn: `nice python -m bench.gallery`.

Vectors have the structure of real embeddings, on axes of their own: an individual's centre is a common mean plus a
normal vector, a photo is its centre plus another one, and all are scaled to length 1. The variances along the axes are
those of the recipe `metric` (512 numbers of one view, MobileNetV2 at 128 px, 12 epochs on the competition's photos),
measured on one photo of each cluster of near-duplicates, between individuals and within those with two photos or more.
`pretrained` is the same of the ImageNet backbone's embeddings, and `uniform` are directions at random, for which no
index helps. How far an individual's photos scatter differs between individuals, as measured. Photos per individual are
log-normal, rounded up. `--log-mean -0.35` is about the competition's distribution (1.7 photos; there 1.9). The default
has 10 photos on average, because there are not more than a hundred thousand humpback whales.

Queries are further photos of the individuals, and one in ten shows an individual that is not there. Each side has its
own process. Memory: the peak of what is resident, and of that what is not a mapped file.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import flukeprint.core  # noqa: F401 - it says how OpenMP waits, which FAISS reads when it is imported
from flukeprint.core.files import create_npy, read_npy, write_npy

FIRST = 5
_CHUNK = 1 << 15
# Standard deviations of the logarithms of photos per individual, and of how far an individual's photos scatter.
_COUNTS, _SCATTER = 1.0, 0.15
_AXES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Shape(NamedTuple):
    """Variances along the axes numbered _AXES; between them their logarithms are a line over the axis's logarithm."""

    mean: float  # length of the mean vector
    between: tuple[float, ...]  # of the individuals' centres
    within: tuple[float, ...]  # of photos about their centre


SHAPES = {
    "metric": Shape(
        0.13,
        (0.078, 0.072, 0.044, 0.022, 0.0062, 5.3e-4, 6.8e-5, 1.3e-5, 2.2e-6, 2.6e-7),
        (0.016, 0.016, 0.019, 0.022, 0.014, 1.6e-3, 3.2e-4, 9.0e-5, 2.3e-5, 4.0e-6),
    ),
    "pretrained": Shape(
        0.77,
        (0.011, 0.0088, 0.0047, 0.0021, 9.3e-4, 3.0e-4, 1.0e-4, 3.4e-5, 9.0e-6, 1.5e-6),
        (0.021, 0.017, 0.0085, 0.0060, 0.0036, 0.0019, 9.0e-4, 3.9e-4, 1.5e-4, 6.1e-5),
    ),
    "uniform": Shape(0.0, (1e-9,) * len(_AXES), (1.0,) * len(_AXES)),
}


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--shape", choices=SHAPES, default="metric")
    parser.add_argument("--log-mean", type=float, default=1.77, help="of photos per individual")
    parser.add_argument("--exact-up-to", type=int, default=200_000, help="photos; more are searched through codes")
    parser.add_argument("--threads", type=int, default=2)
    sides = (generated, exact, built, searched, scikit_learn)
    parser.add_argument("--without-scikit-learn", action="store_true")
    parser.add_argument("--folder", type=Path, help="for vectors and gallery (4 kB a photo); default: a temporary one")
    arguments = parser.parse_args()
    context, results = multiprocessing.get_context("spawn"), {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for side in sides[: -1 if arguments.without_scikit_learn else None]:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                results[side.__name__] = pool.submit(measured, side, Path(folder), arguments).result()
            print(json.dumps({side.__name__: results[side.__name__]}, indent=2), flush=True)
    baseline = results.get("scikit_learn", {})
    ratios = {key: round(value / results["searched"][key], 2) for key, value in baseline.items() if "_p" in key}
    print(json.dumps({"scikit_learn / searched": ratios}, indent=2))


def measured(
    side: Callable[[Path, argparse.Namespace], dict[str, Any]], folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Run one side, and add to its figures CPU seconds and peak memory in MiB."""
    import faiss

    faiss.omp_set_num_threads(arguments.threads)
    own, done = [_own_mib()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            own[0] = max(own[0], _own_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    figures = side(folder, arguments)
    done.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    memory = {"peak_mib": round(peak), "peak_without_mapped_files_mib": round(own[0])}
    return {**figures, "cpu_s": round(time.process_time(), 1), **memory}


def _own_mib() -> float:
    """Return the resident memory that is no mapped file; not a number where the system does not tell."""
    try:
        fields = Path("/proc/self/status").read_text(encoding="utf-8").split()
    except OSError:
        return float("nan")
    return int(fields[fields.index("RssAnon:") + 1]) / 1024


def generated(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the photos' unit vectors (N x D, in no order), their individuals (N) and the queries' (Q x D)."""
    rng, shape = np.random.default_rng(1), SHAPES[arguments.shape]
    mean = np.exp(arguments.log_mean + _COUNTS**2 / 2) + 0.5
    drawn = np.ceil(rng.lognormal(arguments.log_mean, _COUNTS, int(1.2 * arguments.photos / mean) + 100)).astype(int)
    individual = rng.permutation(np.repeat(np.arange(len(drawn)), drawn)[: arguments.photos])
    between, within = (deviations(knots, arguments.dimension) for knots in (shape.between, shape.within))
    count = int(individual.max()) + 1
    common = np.full(arguments.dimension, shape.mean / np.sqrt(arguments.dimension), np.float32)
    centres = rng.standard_normal((count, arguments.dimension), np.float32) * between + common
    scatter = rng.lognormal(0, _SCATTER, count).astype(np.float32)

    def photos(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn = centres[rows] + scatter[rows, None] * within * rng.standard_normal((len(rows), len(within)), np.float32)
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))

    vectors = create_npy(folder / "vectors.npy", np.float32, (arguments.photos, arguments.dimension))
    for start in range(0, arguments.photos, _CHUNK):
        vectors[start : start + _CHUNK] = photos(individual[start : start + _CHUNK])
    shown = rng.choice(individual, arguments.queries)
    absent = np.arange(arguments.queries) % 10 == 0
    centres[shown[absent]] = rng.standard_normal((absent.sum(), arguments.dimension), np.float32) * between + common
    write_npy(folder / "individual.npy", individual)
    write_npy(folder / "shown.npy", np.where(absent, -1, shown))
    write_npy(folder / "queries.npy", photos(shown))
    return {"photos": arguments.photos, "individuals": count, "vectors_mib": round(vectors.nbytes / (1 << 20))}


def deviations(knots: tuple[float, ...], dimension: int) -> NDArray[np.float32]:
    """Return the standard deviation along each axis."""
    variances = np.exp(np.interp(np.log(np.arange(1, dimension + 1)), np.log(_AXES), np.log(knots)))
    return np.sqrt(variances).astype(np.float32)


def exact(folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Compare all queries with all photos in float32, and keep the first individuals by photo and by centre."""
    from flukeprint.retrieval.search import Searcher

    individual = read_npy(folder / "individual.npy")
    order = np.argsort(individual, kind="stable")
    place = np.unique(individual[order], return_inverse=True)[1]
    searcher = Searcher(read_npy(folder / "vectors.npy")[order], place)
    queries, shown = read_npy(folder / "queries.npy"), read_npy(folder / "shown.npy")
    first = firsts(searcher.search(queries, FIRST))
    write_npy(folder / "first.npy", np.stack(first))
    known = shown >= 0
    return {"named_first": round(float((first[0][known, 0] == shown[known]).mean()), 3)}


def firsts(found: Any) -> list[NDArray[np.int64]]:
    """Return the first individuals of each query by their nearest photo, and by their centre."""
    by_centre = np.argsort(-np.where(found.filled, found.centre, -np.inf), axis=1, kind="stable")
    return [found.individual[:, :FIRST], np.take_along_axis(found.individual, by_centre, axis=1)[:, :FIRST]]


def built(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Build and save a gallery, from a memory map, as the stage does."""
    from flukeprint.retrieval.gallery import build_gallery
    from flukeprint.retrieval.gallery_files import save_gallery
    from flukeprint.retrieval.provenance import MemberRecord, Provenance

    member = MemberRecord(name="bench", sha256="0" * 64)
    provenance = Provenance(members=[member], size=[64, 64], mean=[0.5] * 3, std=[0.25] * 3, resize="none", views=1)
    names, hashes = ([pattern.format(n) for n in range(arguments.photos)] for pattern in ("{:07}.jpg", "{:064x}"))
    ids = [f"w_{n:07}" for n in read_npy(folder / "individual.npy")]
    vectors, limit = read_npy(folder / "vectors.npy"), arguments.exact_up_to
    build_s, gallery = timed(partial(build_gallery, vectors, names, ids, provenance, hashes, limit))
    save_s, _ = timed(partial(save_gallery, gallery, folder / "gallery"))
    stored = sum(path.stat().st_size for path in (folder / "gallery").iterdir())
    return {
        "build_s": build_s,
        "save_s": save_s,
        "stored_mib": round(stored / (1 << 20)),
        "fetched": gallery.codes and gallery.codes.fetched,
    }


def searched(folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Load a gallery and search it, and compare what is found with the exact search."""
    from flukeprint.retrieval.gallery_files import load_gallery
    from flukeprint.retrieval.search import Searcher

    queries = np.asarray(read_npy(folder / "queries.npy"))
    load_s, gallery = timed(partial(load_gallery, folder / "gallery"))
    searcher = Searcher.of(gallery)
    first_s, _ = timed(partial(searcher.search, queries[:1]))
    figures = {"load_s": load_s, "first_s": first_s, **latencies(searcher.search, queries, 200, 5)}
    found = firsts(searcher.search(queries))
    for name, wanted, own in zip(("nearest", "centre"), read_npy(folder / "first.npy"), found, strict=True):
        there = (wanted[:, :, None] == own[:, None, :]).any(axis=2)
        figures |= {f"recall{FIRST}_{name}": float(there.mean()), f"first_{name}": float(there[:, 0].mean())}
    return figures


def scikit_learn(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Search the same vectors by scikit-learn's brute force; Euclidean order is cosine order on unit vectors."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    vectors, queries = (np.array(read_npy(folder / name)) for name in ("vectors.npy", "queries.npy"))
    with threadpool_limits(arguments.threads):
        index = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(vectors)
        return latencies(index.kneighbors, queries, 40, 3)


def latencies(
    search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32], ones: int, repeats: int
) -> dict[str, float]:
    """Return p50 and p95, in wall seconds, and CPU seconds of queries one by one and of all in one call."""
    parts = {"one": [queries[at : at + 1] for at in range(min(ones, len(queries)))], "many": [queries] * repeats}
    figures: dict[str, float] = {}
    for name, part in parts.items():
        start = time.process_time()
        seconds = [timed(partial(search, some))[0] for some in part]
        figures |= {f"{name}_p{percent}_s": round(float(np.percentile(seconds, percent)), 5) for percent in (50, 95)}
        figures[f"{name}_cpu_s"] = round((time.process_time() - start) / len(part), 5)
    return figures


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return wall seconds and what the call returned."""
    start = time.perf_counter()
    result = run()
    return round(time.perf_counter() - start, 5), result


if __name__ == "__main__":
    main()
