"""Photos of a catalogue that are nearly the same picture, by the rule of flukeprint/data/near_duplicates.py."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from sqlalchemy import select

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import PhotoRow
from flukeprint.data.inspection import THUMBNAIL_SIDE
from flukeprint.data.near_duplicates import duplicate_pairs
from flukeprint.quality.flags import Limits


def same_pictures(catalogue: Catalogue, photos: Collection[int], limits: Limits) -> list[tuple[int, int]]:
    """Return the pairs among some photos that are nearly the same picture, in order of their numbers."""
    with catalogue.database.reading() as connection:
        rows = connection.execute(select(PhotoRow.id, PhotoRow.phash, PhotoRow.thumbnail).order_by(PhotoRow.id))
        own = [row for row in rows if row.id in photos]
    thumbnails = np.frombuffer(b"".join(row.thumbnail for row in own), np.uint8)
    square = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    hashes = np.array([int(row.phash, 16) for row in own], np.uint64)
    pairs = duplicate_pairs(hashes, square, max_bits=limits.bits, max_mse=limits.mse)
    return [(own[i].id, own[j].id) for i, j in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)]
