"""Tables as people have them: any header, separator and letters; each faulty row says why and loses no other."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from datetime import date, datetime
from pathlib import Path

import pytest
from catalogue_model import import_folder, save_whales
from openpyxl import Workbook
from quality_folder import texture

from flukeprint.catalogue.import_plan import planned, read_source
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.catalogue.source_rows import SourceRow, degrees, moment
from flukeprint.catalogue.table_source import read_table_source
from flukeprint.core.errors import FlukeprintError

HEADER = ["Foto", "Whale ID", "Sighting", "Date", "Location", "Lat", "Long", "Observer", "Side", "Quality", "Comments"]
ROWS = [
    ["a.jpg", "W1", "S1", "31/12/2025 09:30", "Kaikōura", "-42,4083", "173,68", "Ann; Bob", "left", "3", "calf"],
    ["b.jpg", "W1", "S1", "31/12/2025 09:31", "Kaikōura", "-42,4083", "173,68", "Ann", "right", "2", ""],
    ["sub\\c.jpg", "", "S2", "3/4/2026", "", "", "", "", "", "", ""],
]


@pytest.fixture
def photos(tmp_path) -> Path:
    return save_whales(tmp_path / "photos", {"a.jpg": (1, 1), "b.jpg": (1, 2), "sub/c.jpg": (2, 1)})


def text(separator: str, rows: list[list[str]] = ROWS, header: list[str] = HEADER) -> str:
    quoted = [[f'"{cell}"' if separator in cell or ";" in cell else cell for cell in row] for row in [header, *rows]]
    return "\r\n".join(separator.join(row) for row in quoted) + "\r\n"


def rows_of(table: Path, photos: Path, **options) -> list[SourceRow]:
    return read_source(table, "individuals", photos, **options).rows


EXPECTED = [
    ("W1", "S1", "2025-12-31T09:30:00", "Kaikōura", -42.4083, 173.68, "Ann; Bob", "left", "3", "calf"),
    ("W1", "S1", "2025-12-31T09:31:00", "Kaikōura", -42.4083, 173.68, "Ann", "right", "2", None),
    (None, "S2", "2026-04-03", None, None, None, None, None, None, None),
]


def said(rows: list[SourceRow]) -> list[tuple]:
    return [
        (row.individual, row.encounter, row.taken_at, row.place, row.latitude, row.longitude, row.photographer,
         row.viewpoint, row.quality, row.notes)
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_encodings(tmp_path, photos, separator, encoding):
    content = text(separator)
    written = b"\xff\xfe" + content.encode("utf-16-le") if encoding == "utf-16-le-bom" else content.encode(encoding)
    (tmp_path / "t.csv").write_bytes(written)
    rows = rows_of(tmp_path / "t.csv", photos)
    assert said(rows) == EXPECTED
    assert [row.file for row in rows] == [photos / "a.jpg", photos / "b.jpg", photos / "sub" / "c.jpg"]
    assert [row.fault for row in rows] == [None] * 3


def test_letters_of_windows(tmp_path, photos):
    (tmp_path / "t.csv").write_bytes("photo;id\na.jpg;Zoë\n".encode("cp1252"))
    found = read_source(tmp_path / "t.csv", "individuals", photos)
    assert found.rows[0].individual == "Zoë"
    assert any("1252" in remark for remark in found.remarks)


def test_a_workbook(tmp_path, photos):
    workbook = Workbook()
    sheet = workbook.active
    sheet.append(["File name", "Animal", "Encounter", "Date"])
    sheet.append(["a.jpg", 12.0, 1, datetime(2026, 7, 1, 9, 30)])
    sheet.append([])
    sheet.append(["B.JPG", "012", 2, date(2026, 7, 2)])
    workbook.create_sheet("other").append(["x"])
    workbook.save(tmp_path / "t.xlsx")
    rows = rows_of(tmp_path / "t.xlsx", photos)
    found = [(row.where, row.individual, row.encounter, row.taken_at) for row in rows]
    assert found == [("row 2, a.jpg", "12", "1", "2026-07-01T09:30:00"), ("row 4, B.JPG", "012", "2", "2026-07-02")]
    assert rows[1].file == photos / "b.jpg"


def test_columns_can_be_said(tmp_path, photos):
    (tmp_path / "t.csv").write_text("x,id,y\na.jpg,99,W1\n")
    with pytest.raises(FlukeprintError, match="--column image"):
        rows_of(tmp_path / "t.csv", photos)
    [row] = rows_of(tmp_path / "t.csv", photos, columns=["image=x", "individual=y"])
    assert (row.file, row.individual) == (photos / "a.jpg", "W1")
    for wrong in ("image=z", "whale=x", "image"):
        with pytest.raises(FlukeprintError):
            rows_of(tmp_path / "t.csv", photos, columns=[wrong])


def test_what_was_guessed_is_shown(tmp_path, photos):
    (tmp_path / "t.csv").write_text("Photo,Whale,Weather\na.jpg,W1,fine\n")
    remarks = read_source(tmp_path / "t.csv", "individuals", photos).remarks
    assert remarks == ["columns: image = 'Photo', individual = 'Whale'", "columns that are not read: Weather"]


FAULTY = {
    "a missing photo": ("z.jpg", "2026-01-01", "1", "z.jpg"),
    "no photo": ("", "2026-01-01", "1", "no photo"),
    "no date": ("a.jpg", "last week", "1", "last week"),
    "an impossible date": ("a.jpg", "2026-02-30", "1", "2026-02-30"),
    "a date of two meanings": ("a.jpg", "3/4/2026", "1", "--dates"),
    "no position": ("a.jpg", "2026-01-01", "91", "91"),
    "an infinite position": ("a.jpg", "2026-01-01", "nan", "nan"),
}


@pytest.mark.parametrize("kind", FAULTY)
def test_a_faulty_row_says_why_and_loses_no_other(tmp_path, photos, kind):
    image, day, latitude, told = FAULTY[kind]
    (tmp_path / "t.csv").write_text(f"image;date;latitude;id\n{image};{day};{latitude};W1\nb.jpg;2026-01-01;1;W1\n")
    faulty, good = rows_of(tmp_path / "t.csv", photos)
    assert told in faulty.fault
    assert (good.fault, good.file) == (None, photos / "b.jpg")


def test_photos_of_one_name_are_told_apart_by_their_path(tmp_path, photos):
    save_whales(photos, {"x/a.jpg": (5, 1)})
    (tmp_path / "t.csv").write_text("image,id\na.jpg,W1\nx/a.jpg,W2\nelse/a.jpg,W3\nelse/b.jpg,W1\n")
    plain, in_folder, ambiguous, elsewhere = rows_of(tmp_path / "t.csv", photos)
    assert (plain.file, in_folder.file, elsewhere.file) == (photos / "a.jpg", photos / "x/a.jpg", photos / "b.jpg")
    assert "2 photos" in ambiguous.fault


def test_a_table_is_imported_whole_and_an_encounter_of_two_whales_is_two(catalogue, tmp_path, photos):
    rows = [
        "image,whale,encounter,date",
        "a.jpg,W1,S1,2026-07-01",
        "b.jpg,W2,S1,2026-07-01",
        "sub/c.jpg,?,S1,2026-07-01",
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    done = import_folder(catalogue, tmp_path / "t.csv", photos=photos)
    assert (done.photos, done.encounters) == (3, 3)
    found = {one.name: (one.individual, one.encounter_name, one.date) for one in holdings_of(catalogue).sightings}
    assert found == {
        "a.jpg": ("W1", "S1", "2026-07-01"), "b.jpg": ("W2", "S1", "2026-07-01"), "c.jpg": (None, "S1", "2026-07-01")
    }  # fmt: skip
    assert {one.verdict for one in planned(catalogue, read_source(tmp_path / "t.csv", "individuals", photos))} == {
        "known"
    }


@pytest.mark.parametrize(
    "content", [b"", b"image,id\n", b"no workbook", b"\x00\x01\x02\x00", b"PK\x03\x04 no workbook", b'a,b\n"x']
)
def test_what_is_no_table_is_refused_with_the_formats_that_are_read(tmp_path, photos, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(FlukeprintError, match=r"none of the columns|CSV.*XLSX|XLSX.*CSV"):
        rows_of(tmp_path / "t.csv", photos)


@pytest.mark.parametrize(
    ("cell", "day_first", "expected"),
    [
        ("2026", None, "2026"), ("2026-7", None, "2026-07"), ("2026/07/01", None, "2026-07-01"),
        ("20260701", None, "2026-07-01"), ("2026-07-01T09:30:15Z", None, "2026-07-01T09:30:15"),
        ("1.2.2026", True, "2026-02-01"), ("1/2/2026", False, "2026-01-02"), ("31.12.2025", None, "2025-12-31"),
        ("12/31/2025 9:05", None, "2025-12-31T09:05:00"), ("1/1/2026", None, "2026-01-01"),
        (None, None, None), ("  ", None, None), (2026, None, "2026"),
    ],
)  # fmt: skip
def test_dates_are_as_exact_as_they_are_known(cell, day_first, expected):
    assert moment(cell, day_first=day_first) == expected


@pytest.mark.parametrize(("written", "named"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_photos_are_found_however_a_file_system_encodes_accents(tmp_path, written, named):
    (tmp_path / unicodedata.normalize(written, "Été")).mkdir()
    texture(1).save(tmp_path / unicodedata.normalize(written, "Été/café.jpg"))
    (tmp_path / "t.csv").write_text(unicodedata.normalize(named, "image\nÉTÉ/Café.jpg\ncafé.JPG\n"), encoding="utf-8")
    assert [row.fault for row in rows_of(tmp_path / "t.csv", tmp_path)] == [None, None]


def test_degrees():
    assert [degrees(cell, 90) for cell in ("-42.5", "42,5", 3, None, " ")] == [-42.5, 42.5, 3.0, None, None]


def test_a_workbook_that_unpacks_to_gigabytes_is_refused_unread(tmp_path, photos):
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("big", "w") as big:
        for _ in range(300):
            big.write(bytes(1 << 20))
    assert (tmp_path / "a.xlsx").stat().st_size < 1 << 20
    with pytest.raises(FlukeprintError, match=r"not a readable workbook \(it unpacks to more than"):
        read_table_source(tmp_path / "a.xlsx", photos, {}, day_first=None)


def test_a_pipe_is_no_table(tmp_path, photos):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(FlukeprintError, match=r"a\.csv is not a table \(no regular file\)"):
        read_table_source(tmp_path / "a.csv", photos, {}, day_first=None)
