"""Time, peak memory and recall of the near-duplicate search on generated hashes: `python -m bench.duplicates`.

`uniform`: hashes at random. `skewed`: 24 of the 64 bits come from 1,000 templates of very unequal frequency, and one
photo in twenty is the same blank one, in 20 sizes. In both, one photo in twenty is an altered copy of another one:
up to 6 bits flipped, some noise on the thumbnail. Every run has its own process, whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from flukeprint.data.near_duplicates import MAX_BITS, near_duplicate_clusters

SHAPES = ("uniform", "skewed")
BLANK = np.uint64(1 << 63)


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--side", type=int, default=32, help="thumbnail's side, px")
    parser.add_argument("--same-size", action="store_true", help="use the stricter rule")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    results = {}
    for shape in SHAPES:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            results[shape] = pool.submit(
                measured, shape, arguments.photos, arguments.side, arguments.same_size
            ).result()
    print(json.dumps(results, indent=2))


def measured(shape: str, photos: int, side: int, same_size: bool) -> dict[str, float]:
    """Cluster generated photos and return seconds, peak memory in MiB, recall of planted pairs, clusters."""
    rng = np.random.default_rng(1)
    hashes, kind = generated(shape, photos, rng)
    thumbnails = rng.integers(0, 256, (photos, side, side), dtype=np.uint8)
    thumbnails[hashes == BLANK] = thumbnails[0]
    copies, originals = planted(hashes, kind, thumbnails, rng)
    before = peak_mib()
    start = time.perf_counter()
    cluster = near_duplicate_clusters(hashes, thumbnails, kind if same_size else None)
    return {
        "photos": photos,
        "seconds": round(time.perf_counter() - start, 2),
        "peak_mib": round(peak_mib()),
        "peak_mib_of_inputs": round(before),
        "planted": len(copies),
        "recall": float((cluster[copies] == cluster[originals]).mean()),
        "clusters": int(cluster.max()) + 1,
        "hashes": len(np.unique(hashes)),
    }


def generated(shape: str, photos: int, rng: np.random.Generator) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return hashes (N) and sizes (N) of photos without planted copies."""
    hashes = rng.integers(0, 1 << 64, photos, dtype=np.uint64)
    kind = rng.integers(0, 20, photos)
    if shape == "skewed":
        weights = 1 / np.arange(1, 1001)
        templates = rng.integers(0, 1 << 64, 1000, dtype=np.uint64)
        drawn = templates[rng.choice(1000, photos, p=weights / weights.sum())]
        mask = np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, 24, replace=False).astype(np.uint64))
        hashes = (drawn & mask) | (hashes & ~mask)
        hashes[rng.random(photos) < 0.05] = BLANK
    return hashes, kind


def planted(
    hashes: NDArray[np.uint64], kind: NDArray[np.int64], thumbnails: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Turn one row in twenty into an altered copy of another row, in place; return the rows of both."""
    chosen = rng.permutation(len(hashes))[: len(hashes) // 10]
    copies, originals = np.split(chosen[: len(chosen) // 2 * 2], 2)
    flips = np.zeros(len(copies), np.uint64)
    # Bits may repeat or stay, so from none to MAX_BITS of them differ.
    for bit in rng.integers(0, 64, (MAX_BITS, len(copies))).astype(np.uint64):
        flips ^= (np.uint64(1) << bit) * (rng.random(len(copies)) < 0.8)
    hashes[copies] = hashes[originals] ^ flips
    kind[copies] = kind[originals]
    noise = rng.integers(0, 9, thumbnails[copies].shape, dtype=np.uint8)
    thumbnails[copies] = (thumbnails[originals] // 2 + noise).astype(np.uint8)
    return copies, originals


def peak_mib() -> float:
    """Return this process's peak resident memory so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main()
