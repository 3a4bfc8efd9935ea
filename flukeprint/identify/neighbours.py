"""Near-duplicates of a photo in the gallery, by the rule of flukeprint/data/near_duplicates.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flukeprint.data.inspection import THUMBNAIL_SIDE, PhotoRecord
from flukeprint.data.near_duplicates import MAX_BITS, MAX_MSE, duplicate_pairs

if TYPE_CHECKING:
    from flukeprint.bundle.album import Album
    from flukeprint.retrieval.gallery import Photo

# Photos of the gallery that are compared by thumbnail, those with the most similar hashes: copies are few.
_MOST = 64


class Duplicate(NamedTuple):
    """A photo of the gallery that is nearly the same picture."""

    photo: Photo
    bits: int  # of the 64 of the perceptual hashes that differ
    mse: float  # normalised mean squared difference of the thumbnails


def near_duplicates_of(
    records: Sequence[PhotoRecord],
    photos: Sequence[Photo],
    album: Album,
    max_bits: int = MAX_BITS,
    max_mse: float = MAX_MSE,
) -> list[list[Duplicate]]:
    """Return for each photo its near-duplicates in the gallery, most similar first.

    Args:
        records: what was found in each photo, without faults.
        photos: the gallery's.
        album: of the gallery. A photo that it does not know is a near-duplicate of the very same file alone.
        max_bits: hashes further apart are never duplicates.
        max_mse: as in `duplicate_pairs`.

    """
    known = album.hashes(photos)
    usable = [photo for photo in photos if photo.sha256 in known]
    hashes = np.array([known[photo.sha256 or ""] for photo in usable], np.uint64)
    same_file: dict[str, list[Duplicate]] = {}
    for photo in photos:
        if photo.sha256:
            same_file.setdefault(photo.sha256, []).append(Duplicate(photo, 0, 0.0))
    found = []
    for record in records:
        bits = np.bitwise_count(hashes ^ np.uint64(record.phash))
        near = np.flatnonzero(bits <= max_bits)
        near = near[np.argsort(bits[near], kind="stable")][:_MOST]
        copies = same_file.get(record.sha256, [])
        others = [usable[row] for row in near if usable[row].sha256 != record.sha256]
        found.append(copies + _confirmed(record, others, album, max_bits, max_mse))
    return found


def _confirmed(
    record: PhotoRecord, photos: Sequence[Photo], album: Album, max_bits: int, max_mse: float
) -> list[Duplicate]:
    """Return those of some photos whose thumbnails also are nearly the same."""
    there = [(photo, entry) for photo in photos if (entry := album.entry(photo))]
    if not there:
        return []
    phash = np.array([record.phash, *(entry.phash for _, entry in there)], np.uint64)
    pixels = record.thumbnail + b"".join(entry.thumbnail for _, entry in there)
    thumbnails = np.frombuffer(pixels, np.uint8).reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    pairs = duplicate_pairs(phash, thumbnails, max_bits=max_bits, max_mse=max_mse)
    own = pairs.i == 0
    found = zip(pairs.j[own].tolist(), pairs.bits[own].tolist(), pairs.mse[own].tolist(), strict=True)
    return sorted(
        (Duplicate(there[row - 1][0], bits, mse) for row, bits, mse in found), key=lambda one: (one.mse, one.photo)
    )
