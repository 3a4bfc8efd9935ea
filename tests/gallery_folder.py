"""A small gallery for tests."""

import numpy as np

from flukeprint.gallery.contents import Gallery, build_gallery
from flukeprint.gallery.fingerprint import Fingerprint
from flukeprint.scoring.vectors import unit

MADE_BY = Fingerprint(
    {"m1": "1" * 64, "m2": "2" * 64},
    {"size": [64, 128], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "resize": "bilinear", "views": 1},
)


def vectors_of(photos: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(photos, dimension)).astype(np.float32))


def small_gallery(photos: int = 12, exact_up_to: int = 1000, dimension: int = 8, seed: int = 0) -> Gallery:
    """Three photos for each individual, given in no order."""
    names = [f"{n}.jpg" for n in range(photos)]
    ids = [f"w_{n % (photos // 3)}" for n in range(photos)]
    hashes = [f"{n:064x}" for n in range(photos)]
    return build_gallery(vectors_of(photos, dimension, seed), names, ids, MADE_BY, hashes, exact_up_to)
