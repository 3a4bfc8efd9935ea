"""Wildbook's bulk import: a sheet with a row per encounter of one animal, and the photos that it names.

Columns are those that Wildbook's importer knows; its guide (wildbook.docs.wildme.org, Bulk Import) asks for at most 200
encounters per sheet, a place, a year, photos whose names have letters, digits and dots alone, and no empty columns. So
photos are called by their numbers in the catalogue (p7.jpg), and encounters without a year are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flukeprint.catalogue.exported_files import new_folder, xlsx_bytes
from flukeprint.catalogue.occurrences import Occurrence, occurrences_of
from flukeprint.catalogue.shared_photos import SharedPhoto, shared_photo
from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.errors import FlukeprintError

_MOST = 200  # encounters per sheet


@dataclass(frozen=True)
class WildbookImport:
    """What was written, and what has to be looked after."""

    encounters: int
    sheets: int
    without_year: int  # encounters that were left out
    without_place: int  # encounters in the sheets that Wildbook will refuse
    encoded_anew: int  # photos


def write_wildbook(
    folder: Path, sightings: Sequence[Sighting], species: str, location_id: str | None, submitter: str | None
) -> WildbookImport:
    """Write a new folder: import-1.xlsx, ..., and photos/ with copies without metadata."""
    found = occurrences_of(sightings)
    dated = [one for one in found if one.when]
    if not dated:
        raise FlukeprintError("no encounter has a year, which Wildbook asks for. Add dates to the catalogue.")
    with new_folder(folder) as new:
        (new / "photos").mkdir()
        names: dict[int, str] = {}
        anew = 0
        for sighting in (sighting for one in dated for sighting in one.sightings):
            photo: SharedPhoto = shared_photo(sighting)
            names[sighting.photo] = f"p{sighting.photo}{photo.suffix}"
            (new / "photos" / names[sighting.photo]).write_bytes(photo.content)
            anew += photo.encoded_anew
        rows = [_row(one, names, species, location_id, submitter) for one in dated]
        sheets = [rows[start : start + _MOST] for start in range(0, len(rows), _MOST)]
        for number, some in enumerate(sheets, 1):
            (new / f"import-{number}.xlsx").write_bytes(_sheet(some))
    placeless = sum(not (one.first.place or location_id or one.position) for one in dated)
    return WildbookImport(len(dated), len(sheets), len(found) - len(dated), placeless, anew)


def _row(
    one: Occurrence, names: dict[int, str], species: str, location_id: str | None, submitter: str | None
) -> dict[str, Any]:
    first, when = one.first, one.when or ""
    date, _, time = when.partition("T")
    genus, _, epithet = species.partition(" ")
    row: dict[str, Any] = {
        f"Encounter.mediaAsset{place}": names[photo.photo] for place, photo in enumerate(one.sightings)
    }
    row |= {"Encounter.genus": genus, "Encounter.specificEpithet": epithet}
    parts = dict(zip(("year", "month", "day"), date.split("-"), strict=False))
    parts |= dict(zip(("hour", "minutes"), time.split(":")[:2], strict=False)) if time else {}
    row |= {f"Encounter.{name}": int(part) for name, part in parts.items()}
    if one.position is not None:
        row |= dict(zip(("Encounter.decimalLatitude", "Encounter.decimalLongitude"), one.position, strict=True))
    photographers = f"Photos: {', '.join(one.photographers)}" if one.photographers else None
    return row | {
        "Encounter.verbatimLocality": first.place,
        "Encounter.locationID": location_id,
        "Encounter.individualID": first.individual,
        "MarkedIndividual.nickname": first.individual_name,
        "Encounter.submitterID": submitter,
        "Encounter.otherCatalogNumbers": f"e{first.encounter}",
        "Encounter.researcherComments": ". ".join(filter(None, (first.notes, photographers))) or None,
    }


def _sheet(rows: list[dict[str, Any]]) -> bytes:
    """Return a sheet of the columns that have a value in any row, photos first."""
    filled = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    photos = sorted((name for name in filled if "mediaAsset" in name), key=lambda name: (len(name), name))
    columns = [*photos, *(name for name in filled if name not in photos)]
    return xlsx_bytes(columns, ({name: row.get(name) for name in columns} for row in rows))
