"""Rows of a catalogue for tests, without photos behind them."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from flukeprint.catalogue.entities import EncounterRow, PhotoRow
from flukeprint.catalogue.kept_state import keep_new_encounter, keep_new_photo


def add_encounter(connection: Connection, encounter: int, photos: int) -> None:
    """Add an encounter of that number with so many photos, which have the numbers 100 * encounter + 0, 1, ..."""
    connection.execute(insert(EncounterRow).values(id=encounter, key=f"key {encounter}", name=f"e{encounter}"))
    keep_new_encounter(connection, encounter)
    for number in range(100 * encounter, 100 * encounter + photos):
        connection.execute(
            insert(PhotoRow).values(
                id=number, sha256=f"{number:064x}", name=f"{number}.jpg", path=f"/photos/{number}.jpg", size=1, width=1,
                height=1, flags="", phash="0" * 16, thumbnail=b"", encounter_id=encounter,
            )
        )  # fmt: skip
        keep_new_photo(connection, number, encounter)
