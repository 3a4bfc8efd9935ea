"""Rows of a catalogue for tests, without photos behind them."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from flukeprint.catalogue.entities import EncounterRow, EncounterStateRow, PhotoRow, PhotoStateRow
from flukeprint.catalogue.kept_state import columns_of
from flukeprint.catalogue.present_state import Standing


def open_encounter(connection: Connection, encounter: int) -> None:
    """Give a new encounter its state: nothing was decided about it."""
    state = columns_of(Standing())
    connection.execute(insert(EncounterStateRow).values(encounter_id=encounter, version=0, **state))


def open_photo(connection: Connection, photo: int) -> None:
    """Give a new photo of such an encounter its state."""
    connection.execute(insert(PhotoStateRow).values(photo_id=photo, **columns_of(Standing())))


def add_encounter(connection: Connection, encounter: int, photos: int) -> None:
    """Add an encounter of that number with so many photos, which have the numbers 100 * encounter + 0, 1, ..."""
    connection.execute(insert(EncounterRow).values(id=encounter, key=f"key {encounter}", name=f"e{encounter}"))
    open_encounter(connection, encounter)
    for number in range(100 * encounter, 100 * encounter + photos):
        connection.execute(
            insert(PhotoRow).values(
                id=number, sha256=f"{number:064x}", name=f"{number}.jpg", path=f"/photos/{number}.jpg", size=1, width=1,
                height=1, flags="", phash="0" * 16, thumbnail=b"", encounter_id=encounter,
            )
        )  # fmt: skip
        open_photo(connection, number)
