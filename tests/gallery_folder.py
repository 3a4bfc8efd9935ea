"""A small gallery for tests."""

import numpy as np

from flukeprint.retrieval.gallery import Gallery, build_gallery
from flukeprint.retrieval.provenance import MemberRecord, Provenance
from flukeprint.retrieval.vectors import unit


def provenance(size: list[int] | None = None, views: int = 1, **weights: str) -> Provenance:
    members = [MemberRecord(name=name, sha256=digest * 64) for name, digest in weights.items()]
    return Provenance(
        members=members, size=size or [64, 128], mean=[0.5] * 3, std=[0.25] * 3, resize="bilinear", views=views
    )


PROVENANCE = provenance(m1="1", m2="2")


def vectors_of(photos: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(photos, dimension)).astype(np.float32))


def small_gallery(photos: int = 12, exact_up_to: int = 1000, dimension: int = 8, seed: int = 0) -> Gallery:
    """Three photos for each individual, given in no order."""
    names = [f"{n}.jpg" for n in range(photos)]
    ids = [f"w_{n % (photos // 3)}" for n in range(photos)]
    hashes = [f"{n:064x}" for n in range(photos)]
    return build_gallery(vectors_of(photos, dimension, seed), names, ids, PROVENANCE, hashes, exact_up_to)
