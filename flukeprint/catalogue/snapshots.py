"""From a catalogue back into training: what people decided by now, as an immutable table (data/snapshot_table.py)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flukeprint.catalogue.shared_photos import unique_names
from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.photos import plain_file_name
from flukeprint.data.snapshot_table import write_snapshot


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was written."""

    path: Path
    photos: int
    individuals: int
    encounters: int
    undecided: int  # photos that nobody decided: in it as new_whale, or left out


def take_snapshot(folder: Path, sightings: Sequence[Sighting], *, undecided_as_new: bool = False) -> Snapshot:
    """Write a snapshot into a folder, photos in the order in which they were imported.

    What nobody decided is left out: it may well show somebody who is known. `undecided_as_new` has it as new_whale,
    which is right where each was compared with all of the catalogue, or came from a table that says so.
    """
    chosen = [one for one in sightings if one.individual is not None or undecided_as_new]
    undecided = sum(one.individual is None for one in sightings)
    if not chosen:
        raise FlukeprintError("no photo shows an individual, so there is nothing to train on. Decide first.")
    names = unique_names((_plain(one), one.sha256) for one in chosen)
    rows = [_row(one, name, folder) for one, name in zip(chosen, names, strict=True)]
    path = write_snapshot(folder, rows)
    whales = {one.individual for one in chosen} - {None}
    return Snapshot(path, len(chosen), len(whales), len({one.encounter for one in chosen}), undecided)


def _plain(one: Sighting) -> str:
    """Return the photo's name, or where no training set takes it, one of its SHA-256."""
    return one.name if plain_file_name(one.name) else f"{one.sha256}{one.file.suffix}"


def _row(one: Sighting, name: str, folder: Path) -> dict[str, Any]:
    return {
        "Image": name,
        "Id": one.individual or NEW_WHALE,
        "encounter": f"e{one.encounter}",
        "taken_at": one.taken_at or one.date,
        "place": one.place,
        "latitude": one.latitude,
        "longitude": one.longitude,
        "viewpoint": one.viewpoint,
        "quality": one.quality,
        "sha256": one.sha256,
        "file": Path(os.path.relpath(one.file, folder)).as_posix(),
    }
