"""A zip archive of photos, a folder per individual, to be handed on: no photo says where it was taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from flukeprint.catalogue.export_tables import SIGHTING_COLUMNS, sighting_rows
from flukeprint.catalogue.exported_files import add_member, csv_bytes, new_archive
from flukeprint.catalogue.positions import Precision
from flukeprint.catalogue.shared_photos import shared_photo, unique_names
from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable

# What no file may be called on some systems.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*%]|[. ]$')


def write_photo_archive(path: Path, sightings: Sequence[Sighting], precision: Precision | None) -> tuple[int, int]:
    """Write the photos that show an individual, and sightings.csv, which says which is which.

    Return how many there are, and how many of them had to be encoded anew.
    """
    named = [one for one in sightings if one.individual is not None]
    if not named:
        raise FlukeprintError("no photo shows an individual, so there is nothing to export. Decide first.")
    anew, paths = 0, []
    names = unique_names((printable(one.name), one.sha256) for one in named)
    with new_archive(path) as archive:
        for one, name in zip(named, names, strict=True):
            photo = shared_photo(one)
            anew += photo.encoded_anew
            paths.append(f"{_safe(one.individual or '')}/{_safe(_with_suffix(name, photo.suffix))}")
            add_member(archive, paths[-1], photo.content, packed=False)
        rows = ({**row, "file": file} for row, file in zip(sighting_rows(named, precision), paths, strict=True))
        add_member(archive, "sightings.csv", csv_bytes(("file", *SIGHTING_COLUMNS), rows))
    return len(named), anew


def _safe(name: str) -> str:
    return _FORBIDDEN.sub(lambda found: f"%{ord(found[0]):02X}", name)


def _with_suffix(name: str, suffix: str) -> str:
    """Return the name that a copy of a photo has, if its format is another one by now."""
    same = Path(name).suffix.lower() == suffix or (suffix == ".jpg" and Path(name).suffix.lower() in (".jpeg", ".jpe"))
    return name if same else f"{name}{suffix}"
