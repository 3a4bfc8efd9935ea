"""Photos of a catalogue that are nearly the same picture, by the rule of flukeprint/data/near_duplicates.py."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from sqlalchemy import select

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import PhotoRow, PhotoStateRow
from flukeprint.catalogue.sightings import present_ids
from flukeprint.data.inspection import THUMBNAIL_SIDE
from flukeprint.data.near_duplicates import duplicate_pairs
from flukeprint.quality.flags import Limits


class NamedOtherwise(NamedTuple):
    """Two photos that are nearly the same picture, and show two individuals."""

    photo: int
    id: str
    other: int
    other_id: str


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


def named_otherwise(catalogue: Catalogue, photos: Collection[int], limits: Limits) -> list[NamedOtherwise]:
    """Return those of some photos that are nearly the same picture as a photo of another individual."""
    with catalogue.database.reading() as connection:
        present = present_ids(connection)
        states = connection.execute(select(PhotoStateRow.photo_id, PhotoStateRow.individual))
        whom = {photo: present[key] for photo, key in states if key is not None}
    asked, found = whom.keys() & set(photos), []
    for pair in same_pictures(catalogue, whom.keys(), limits) if asked else ():
        # Of two photos in question the younger one.
        other, photo = pair if pair[1] in asked else pair[::-1]
        if photo in asked and whom[photo] != whom[other]:
            found.append(NamedOtherwise(photo, whom[photo], other, whom[other]))
    return found
