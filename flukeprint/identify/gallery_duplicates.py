"""Near-duplicates of a photo in the gallery, by the rule of flukeprint/data/near_duplicates.py."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flukeprint.bundle.album import Album, Entry
from flukeprint.core.safe_text import printable
from flukeprint.data.inspection import PhotoRecord
from flukeprint.data.near_duplicates import Pairs, columns_of, duplicate_pairs
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.gallery import Photo, PhotoList

# Photos of the gallery that are compared by thumbnail, those with the most similar hashes: copies are few.
_MOST = 64


class Duplicate(NamedTuple):
    """A photo of the gallery that is nearly the same picture."""

    photo: Photo
    bits: int  # of the 64 of the perceptual hashes that differ
    mse: float  # normalised mean squared difference of the thumbnails

    def __str__(self) -> str:
        """Say which photo it is."""
        return f"{printable(self.photo.image)} of {printable(self.photo.id)}"


def near_duplicates_of(
    records: Sequence[PhotoRecord], photos: PhotoList, album: Album, limits: Limits
) -> list[list[Duplicate]]:
    """Return for each faultless record its near-duplicates among the gallery's photos, most similar first.

    A photo that the gallery's album does not know is a near-duplicate of the very same file alone.
    """
    known = album.hashes
    usable = [photo for photo in photos if photo.sha256 in known]
    hashes = np.array([known[photo.sha256 or ""] for photo in usable], np.uint64)
    same_file: dict[str | None, list[Duplicate]] = {}
    for photo in photos:
        same_file.setdefault(photo.sha256, []).append(Duplicate(photo, 0, 0.0))
    found = []
    for record in records:
        bits = np.bitwise_count(hashes ^ np.uint64(record.phash))
        near = np.flatnonzero(bits <= limits.bits)
        near = near[np.argsort(bits[near], kind="stable")][:_MOST]
        others = [usable[row] for row in near if usable[row].sha256 != record.sha256]
        found.append(same_file.get(record.sha256, []) + _confirmed(record, others, album, limits))
    return found


def _confirmed(record: PhotoRecord, photos: Sequence[Photo], album: Album, limits: Limits) -> list[Duplicate]:
    """Return those of some photos whose thumbnails also are nearly the same."""
    there = [(photo, entry) for photo in photos if (entry := album.entry(photo))]
    pairs = same_pictures([record, *(entry for _, entry in there)], limits)
    own = pairs.i == 0
    found = zip(pairs.j[own].tolist(), pairs.bits[own].tolist(), pairs.mse[own].tolist(), strict=True)
    duplicates = [Duplicate(there[row - 1][0], bits, mse) for row, bits, mse in found]
    return sorted(duplicates, key=lambda one: (one.mse, one.photo))


def same_pictures(photos: Sequence[PhotoRecord | Entry], limits: Limits) -> Pairs:
    """Return which of some photos are near-duplicates of one another."""
    return duplicate_pairs(**columns_of(photos), max_bits=limits.bits, max_mse=limits.mse)
