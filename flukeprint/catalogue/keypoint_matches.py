"""The matched keypoints of an answer, as the review page shows them.

They are kept, not computed again: a review server has neither OpenCV nor the networks' files, and other photos may
be the most similar ones by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from sqlalchemy import Connection, bindparam, delete, insert, select

from flukeprint.catalogue.entities import KeypointMatchRow, PhotoRow

if TYPE_CHECKING:
    from flukeprint.identify.matching import Match
    from flukeprint.retrieval.local_matching import Lines

# Lines that are kept of a pair of photos: more could not be told apart.
MOST_LINES = 200
# A place in a picture is kept as a whole number: shares of its width and height times this.
_SCALE = 2**16 - 1


class KeypointMatch(NamedTuple):
    """What matches in two photos."""

    photo: int  # in question
    other: int  # of an individual
    number: int  # of matched keypoints
    lines: Lines  # all, or MOST_LINES of them spread over all


def matches_in(photo: int, match: Match, number_of: Mapping[str, int]) -> list[KeypointMatch]:
    """Return what matches in a photo and its candidates' photos, whose numbers are those of their SHA-256s."""
    found = [one.local for one in match.candidates if one.local]
    return [KeypointMatch(photo, number_of[one.image], len(one.lines), one.lines) for one in found]


def keep_matches(connection: Connection, encounters: Iterable[int], matches: Iterable[KeypointMatch]) -> None:
    """Keep what matches in the photos of encounters, in place of what was kept of them."""
    of_encounter = select(PhotoRow.id).where(PhotoRow.encounter_id == bindparam("encounter"))
    old = delete(KeypointMatchRow).where(KeypointMatchRow.photo_id.in_(of_encounter))
    connection.execute(old, [{"encounter": number} for number in encounters])
    rows = [
        {"photo_id": one.photo, "other_id": one.other, "number": one.number, "lines": _packed(one.lines)}
        for one in matches
    ]
    if rows:
        connection.execute(insert(KeypointMatchRow), rows)


def read_matches(
    connection: Connection, photos: Collection[int], others: Collection[int], most: int
) -> list[KeypointMatch]:
    """Return what matches in some photos and others: at most so many pairs, those that match best first."""
    row = KeypointMatchRow
    query = select(row).where(row.photo_id.in_(photos), row.other_id.in_(others))
    query = query.order_by(row.number.desc(), row.photo_id, row.other_id).limit(most)
    return [
        KeypointMatch(one.photo_id, one.other_id, one.number, _unpacked(one.lines)) for one in connection.execute(query)
    ]


def _packed(lines: Lines) -> bytes:
    """Return lines as bytes, 8 each: unsigned, little-endian."""
    places = np.linspace(0, len(lines) - 1, min(len(lines), MOST_LINES)).round().astype(np.int64)
    kept = np.array(lines, np.float64).reshape(-1, 4)[places]
    return np.round(kept.clip(0, 1) * _SCALE).astype("<u2").tobytes()


def _unpacked(kept: bytes) -> Lines:
    lines = np.frombuffer(kept, "<u2").reshape(-1, 4) / _SCALE
    return tuple(map(tuple, lines.round(4).tolist()))
