"""A small catalogue with real files for tests: encounters with dates, positions and decisions, without any model."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from catalogue_rows import open_encounter, open_photo
from PIL import Image
from quality_folder import texture
from sqlalchemy import insert

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.entities import EncounterRow, PhotoRow

# Encounter: date, place, position of its photos, their names, whom it shows.
ENCOUNTERS: dict[int, tuple[str | None, str | None, tuple[float, float] | None, list[str], str | None]] = {
    1: ("2021-07-01", "Bay", (58.35, -134.42), ["a.jpg", "b.png"], "w_1"),
    2: ("2021-08-03", "Bay", (58.41, -134.40), ["A.JPG"], "w_2"),
    3: ("2023-07-11", "=Cape\tfear\n", (58.80, -135.05), ["c.tif", "d.jpg"], "w_1"),
    4: ("2023", None, None, ["e.jpg"], "w_3"),
    5: (None, None, None, ["f.jpg"], "w_2"),
    6: ("2023-07-12", "Bay", (58.36, -134.43), ["g.jpg"], None),
    7: ("2024-07-12", "Bay", (58.36, -134.43), ["h.jpg"], "w_2"),
}
SECRET = b"SECRET PLACE"


def photo_bytes(name: str, number: int) -> bytes:
    """Return a picture that says in every way that its format has where it was taken; odd ones are turned."""
    exif = Image.Exif()
    exif[0x0112] = 6 if number % 2 else 1
    exif[0x010E] = SECRET.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (58.0, 21.0, 0.0), 3: "W", 4: (134.0, 25.0, 0.0)})
    stream, kind = io.BytesIO(), {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}[name.lower().rpartition(".")[2]]
    more: dict[str, Any] = {"exif": exif}
    if kind == "JPEG":
        more |= {"comment": SECRET, "xmp": b"<x:xmpmeta>" + SECRET, "quality": 90, "progressive": number % 3 == 0}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        more["pnginfo"] = PngInfo()
        more["pnginfo"].add_text("Comment", SECRET.decode())
        more["pnginfo"].add_itxt("XML:com.adobe.xmp", SECRET.decode())
    texture(number).save(stream, kind, **more)
    return stream.getvalue()


def fill(catalogue: Catalogue, folder: Path) -> None:
    """Put the encounters into an empty catalogue, photos in place, and decide whom they show."""
    folder.mkdir(parents=True)
    with catalogue.database.writing() as connection:
        number = 0
        for encounter, (date, place, position, names, _) in ENCOUNTERS.items():
            key = json.dumps(["encounter", "/photos/season", f"enc{encounter}", None])
            values = {"key": key, "name": f"enc{encounter}", "date": date, "place": place}
            notes = "breached\ttwice" if encounter == 1 else None
            connection.execute(insert(EncounterRow).values(id=encounter, notes=notes, **values))
            open_encounter(connection, encounter)
            for name in names:
                number += 1
                _add_photo(connection, encounter, number, folder / f"{number}-{name}", name, date, position)
    seen: set[str] = set()
    for encounter, (*_, whom) in ENCOUNTERS.items():
        if whom is not None:
            action = "confirm" if whom in seen else "new"
            decide(
                catalogue,
                [Wish(action, encounter, individual=whom, new_name="Old =1" if whom == "w_1" else None)],
                "ann",
            )
            seen.add(whom)


def _add_photo(connection, encounter, number, path, name, date, position) -> None:
    path.write_bytes(content := photo_bytes(name, number))
    latitude, longitude = position or (None, None)
    connection.execute(
        insert(PhotoRow).values(
            id=number, sha256=hashlib.sha256(content).hexdigest(), name=name, path=str(path), stored=None,
            size=len(content), width=64, height=48, latitude=latitude, longitude=longitude, photographer="Ann",
            taken_at=f"{date}T09:{number:02}:00" if date and len(date) == 10 else None, flags="", phash="0" * 16,
            thumbnail=b"", encounter_id=encounter,
        )
    )  # fmt: skip
    open_photo(connection, number)
