"""What a catalogue gives to others, read back by other programs: tables, Darwin Core, histories, Wildbook, photos."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from catalogue_model import everything
from catalogue_season import ENCOUNTERS, SECRET, fill, photo_bytes
from dwca.darwincore.utils import qualname
from dwca.read import DwCAReader
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import load_workbook
from PIL import Image, ImageOps

from flukeprint.catalogue.catalogues import create_catalogue, open_catalogue
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.positions import Precision, precision_of
from flukeprint.catalogue.shared_photos import unique_names, without_metadata
from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError

EXPORTS = {
    "sightings.csv": ["sightings"],
    "sightings.xlsx": ["sightings"],
    "sightings.json": ["sightings"],
    "individuals.csv": ["individuals"],
    "individuals.xlsx": ["individuals"],
    "decisions.csv": ["decisions"],
    "decisions.json": ["decisions"],
    "dwca.zip": ["darwin-core", "--creator", "Ann & <Bob>", "--licence", "cc-by"],
    "photos.zip": ["photos"],
    "histories": ["histories"],
    "wildbook": ["wildbook"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("season")
    catalogue = create_catalogue(str(folder / "whales"), in_place=True)
    fill(catalogue, folder / "photos")
    return folder / "whales"


@pytest.fixture
def export(place, tmp_path):
    def run(name: str, *more: str, to: str = "") -> Path:
        command, *options = EXPORTS[name]
        target = tmp_path / to / name
        main(["catalogue", "export", command, str(target), "--catalogue", str(place), *options, *more])
        return target

    return run


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def files_in(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}


@pytest.mark.parametrize("name", EXPORTS)
def test_the_same_catalogue_gives_the_same_bytes(export, name, monkeypatch):
    first = export(name, to="first")
    # Archives and workbooks tell the time, if they are let.
    monkeypatch.setattr("time.localtime", lambda *_: time.struct_time((2030, 1, 2, 3, 4, 5, 0, 2, 0)))
    assert files_in(export(name, to="second")) == files_in(first) != {}


# --- tables ----------------------------------------------------------------------------------------------------


def test_sightings_as_csv_and_as_workbook_say_the_same(export):
    rows = rows_of(export("sightings.csv").read_bytes())
    header, *cells = load_workbook(export("sightings.xlsx")).active.iter_rows(values_only=True)
    assert [
        dict(zip(header, ["" if cell is None else str(cell) for cell in row], strict=True)) for row in cells
    ] == rows
    values = json.loads(export("sightings.json").read_text())
    names = [name for *_, names, _ in ENCOUNTERS.values() for name in names]
    assert [row["name"] for row in rows] == [value["name"] for value in values] == names
    whom = [whom for *_, names, whom in ENCOUNTERS.values() for _ in names]
    assert [value["individual"] for value in values] == whom
    assert [(value["latitude"], value["longitude"]) for value in values[:2]] == [(58.35, -134.42)] * 2
    assert values[0]["date"] == "2021-07-01"
    assert values[0]["taken_at"] == "2021-07-01T09:01:00"


def test_numbers_stay_numbers_and_no_text_is_a_formula(export):
    sheet = load_workbook(export("sightings.xlsx")).active
    header, *rows = sheet.iter_rows()
    assert {cell.data_type for row in rows for cell in row} <= {"inlineStr", "s", "n"}  # f would be a formula
    place, longitude = ([cell.value for cell in header].index(name) for name in ("place", "longitude"))
    assert rows[3][place].value == "'=Cape\\tfear\\n"
    assert rows[3][longitude].value == -135.05
    assert rows_of(export("sightings.csv").read_bytes())[3]["place"] == "'=Cape\\tfear\\n"


def test_individuals_are_counted_with_their_first_and_last_date(export):
    rows = {row["id"]: row for row in rows_of(export("individuals.csv").read_bytes())}
    assert {
        one: (row["photos"], row["encounters"], row["first_seen"], row["last_seen"]) for one, row in rows.items()
    } == {
        "w_1": ("4", "2", "2021-07-01", "2023-07-11"),
        "w_2": ("3", "3", "2021-08-03", "2024-07-12"),
        "w_3": ("1", "1", "2023", "2023"),
    }


def test_the_whole_log_is_exported_with_what_was_undone(tmp_path, monkeypatch):
    catalogue = create_catalogue(str(tmp_path / "c"), in_place=True)
    fill(catalogue, tmp_path / "photos")
    decide(catalogue, [Wish("merge", individual="w_3", other="w_1", note="=same nick")], "bob")
    decide(catalogue, [Wish("undo", undoes=7)], "ann")
    decide(catalogue, [Wish("unsure", photo=8)], "bob")
    for form in ("csv", "json"):
        main(["catalogue", "export", "decisions", str(tmp_path / f"log.{form}"), "--catalogue", str(tmp_path / "c")])
    log, rows = json.loads((tmp_path / "log.json").read_text()), rows_of((tmp_path / "log.csv").read_bytes())
    assert [(one["id"], one["action"], one["holds"]) for one in log] == [
        *((n, "new" if n in (1, 2, 4) else "confirm", True) for n in range(1, 7)),
        (7, "merge", False),
        (8, "undo", True),
        (9, "unsure", True),
    ]
    assert log[8]["photo_name"] == "g.jpg"
    assert re.fullmatch("[0-9a-f]{64}", log[8]["photo_sha256"])
    assert (rows[6]["note"], rows[6]["who"], log[6]["note"]) == ("'=same nick", "bob", "=same nick")


def test_a_table_of_another_suffix_is_refused(place, tmp_path):
    with pytest.raises(SystemExit, match=r"error: .*out\.ods ends in none of \.csv, \.xlsx, \.json"):
        main(["catalogue", "export", "sightings", str(tmp_path / "out.ods"), "--catalogue", str(place)])
    assert list(tmp_path.iterdir()) == []


# --- Darwin Core -------------------------------------------------------------------------------------------------


def test_an_independent_reader_finds_every_occurrence_in_the_archive(export):
    with DwCAReader(export("dwca.zip")) as archive:
        assert archive.descriptor.core.type == qualname("Occurrence")
        rows = [{term.rpartition("/")[2]: value for term, value in row.data.items()} for row in archive.rows]
        title = archive.metadata.find("dataset/title").text
        names = [one.text for one in archive.metadata.iter("surName")]
    assert (title, names) == ("Photo-identified whales", ["Ann & <Bob>"] * 2)
    assert len(rows) == len(ENCOUNTERS)
    for row, (encounter, (date, place, position, _, whom)) in zip(rows, ENCOUNTERS.items(), strict=True):
        assert row["eventID"] == f"e{encounter}"
        assert row["organismID"] == (whom or "")
        assert row["identifiedBy"] == ("ann" if whom else "")
        assert row["eventDate"][:10] == (date or "")
        assert row["locality"] == " ".join((place or "").split())
        located = (float(row["decimalLatitude"]), float(row["decimalLongitude"])) if position else None
        assert located == position
        assert row["scientificName"] == "Megaptera novaeangliae"
        assert row["license"] == "http://creativecommons.org/licenses/by/4.0/legalcode"
        assert row["coordinateUncertaintyInMeters"] == row["dataGeneralizations"] == ""
    assert len({row["occurrenceID"] for row in rows}) == len(rows)
    assert rows[0]["occurrenceRemarks"] == "breached twice"
    assert [rows[3][name] for name in ("year", "month", "day")] == ["2023", "", ""]


def test_an_encounter_in_which_a_photo_shows_another_whale_is_two_occurrences(tmp_path):
    catalogue = create_catalogue(str(tmp_path / "c"), in_place=True)
    fill(catalogue, tmp_path / "photos")

    def ids(name: str) -> list[tuple[str, str]]:
        command = ["catalogue", "export", "darwin-core", str(tmp_path / name), "--creator", "x"]
        main([*command, "--catalogue", str(tmp_path / "c")])
        with DwCAReader(tmp_path / name) as archive:
            rows = [row.data for row in archive.rows]
        dwc = "http://rs.tdwg.org/dwc/terms/"
        return [(row[f"{dwc}occurrenceID"], row[f"{dwc}organismID"]) for row in rows]

    before = ids("1.zip")
    decide(catalogue, [Wish("confirm", photo=2, individual="w_2", seen=1)], "bob")
    after = ids("2.zip")
    # Others keep their ids; the first photo's occurrence is the one that was there.
    assert set(before) < set(after)
    assert {whom for one, whom in set(after) - set(before)} == {"w_2"}


# --- positions -----------------------------------------------------------------------------------------------------


def metres_apart(first, second) -> float:
    a, b = (np.radians(one) for one in (first, second))
    half = np.sin((b[0] - a[0]) / 2) ** 2 + np.cos(a[0]) * np.cos(b[0]) * np.sin((b[1] - a[1]) / 2) ** 2
    return 2 * 6_371_009 * np.arcsin(np.sqrt(half))


@given(
    latitude=st.floats(-89, 89),
    longitude=st.floats(-180, 180),
    size=st.floats(0.1, 50),
    unit=st.sampled_from(["km", "deg"]),
)
@example(latitude=89.0, longitude=0.0, size=25.0, unit="km")
def test_a_blurred_position_is_as_near_as_is_said_and_tells_only_its_cell(latitude, longitude, size, unit):
    cells = Precision(size if unit == "km" else size / 50, unit)
    centre = cells.centre(latitude, longitude)
    assert -90 <= centre[0] <= 90
    assert -180 <= centre[1] <= 180
    # A sphere for WGS 84's ellipsoid: half a percent.
    assert metres_apart((latitude, longitude), centre) <= 1.006 * cells.uncertainty(centre[0])
    # Half a square's diagonal is 0.71 of its side; a degree from a pole one side of a cell is longer.
    assert cells.uncertainty(centre[0]) <= 1000 * (size if unit == "km" else size / 50 * 111.7) * 0.85 + 1
    inside = cells.centre(*centre)
    np.testing.assert_allclose(inside, centre, atol=2e-6)


@pytest.mark.parametrize("name", ["sightings.csv", "dwca.zip", "wildbook", "photos.zip"])
def test_no_export_tells_exact_positions_when_they_are_blurred(export, name, capsys):
    path = export(name, "--precision", "25km")
    assert "centres of cells of 25 km" in capsys.readouterr().out
    contents = files_in(path)
    for content in list(contents.values()):
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                contents |= {f"in {one}": archive.read(one) for one in archive.namelist()}
    for exact in (b"58.35", b"134.42", b"58.41", b"135.05", SECRET):
        assert not any(exact in content for content in contents.values()), exact


def test_blurred_positions_are_said_to_be(export):
    rows = rows_of(export("sightings.csv", "--precision", "0.1deg").read_bytes())
    assert (rows[0]["latitude"], rows[0]["longitude"], rows[0]["position_precision"]) == (
        "58.35",
        "-134.45",
        "0.1 degrees",
    )
    with DwCAReader(export("dwca.zip", "--precision", "0.1deg")) as archive:
        row = archive.rows[0].data
    assert 5500 < int(row[qualname("coordinateUncertaintyInMeters")]) < 7000
    assert "0.1 degrees" in row[qualname("dataGeneralizations")]


@pytest.mark.parametrize("text", ["10", "km", "0km", "-1km", "1e3km", "10 miles", "90deg", "nan km"])
def test_a_precision_without_a_size_and_unit_is_refused(text):
    with pytest.raises(FlukeprintError, match="10km or 0.1deg"):
        precision_of(text)


# --- capture histories -----------------------------------------------------------------------------------------


def histories(folder: Path) -> dict[str, str]:
    """Read MARK's file as its manual says: comments between /* and */, a history, a count, a semicolon."""
    text = (folder / "histories.inp").read_text()
    names = re.findall(r"/\* (\S+) \*/ [01]+ 1;", text)
    plain = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    records = [record.split() for record in plain.split(";") if record.strip()]
    assert all(count == "1" for _, count in records)
    return dict(zip(names, [history for history, _ in records], strict=True))


@pytest.mark.parametrize(
    ("by", "occasions", "expected", "intervals", "left_out"),
    [
        ("year", ["2021", "2023", "2024"], {"w_1": "110", "w_2": "101", "w_3": "010"}, [2, 1], 1),
        ("month", ["2021-07", "2021-08", "2023-07", "2024-07"], {"w_1": "1010", "w_2": "0101"}, [1, 23, 12], 2),
        (
            "day",
            ["2021-07-01", "2021-08-03", "2023-07-11", "2023-07-12", "2024-07-12"],
            {"w_1": "10100", "w_2": "01001"},
            [33, 707, 1, 366],
            2,
        ),
    ],
)
def test_capture_histories_by_day_month_and_year(export, capsys, by, occasions, expected, intervals, left_out):
    folder = export("histories", "--by", by)
    assert histories(folder) == expected
    assert {row["id"]: row["ch"] for row in rows_of((folder / "histories.csv").read_bytes())} == expected
    rows = rows_of((folder / "occasions.csv").read_bytes())
    assert [row[by] for row in rows] == occasions
    assert [int(row["interval"]) for row in rows[:-1]] == intervals
    assert f"left out: {left_out} photo" in capsys.readouterr().out


def table_of_r(path: Path) -> list[list[str]]:
    """Read as R's read.table does: # starts a comment, white space separates."""
    lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
    return [line for line in lines if line]


def test_secr_finds_each_capture_at_its_detector(export):
    folder = export("histories", "--by", "day", "--cell", "2")
    traps = {name: np.array([float(x), float(y)]) for name, x, y in table_of_r(folder / "traps.txt")}
    captures = table_of_r(folder / "captures.txt")
    assert [(who, when) for _, who, when, _ in captures] == [("w_1", "1"), ("w_1", "3"), ("w_2", "2"), ("w_2", "5")]
    located = [ENCOUNTERS[encounter][2] for encounter in (1, 3, 2, 7)]
    spots = [traps[where] for *_, where in captures]
    for one in range(4):
        for other in range(one):
            apart = np.linalg.norm(spots[one] - spots[other])
            # Half a cell's diagonal each, and a percent or so for the plane.
            assert abs(apart - metres_apart(located[one], located[other])) < 2 * 1415 + 0.03 * apart
    matrix = {
        row.pop("id"): {name: int(count) for name, count in row.items()}
        for row in rows_of((folder / "matrix.csv").read_bytes())
    }
    assert {who: {name for name, count in row.items() if count} for who, row in matrix.items()} == {
        who: {where for _, one, _, where in captures if one == who} for who in ("w_1", "w_2")
    }
    # The cell of the encounter of nobody known is one in which somebody looked.
    assert set(next(iter(matrix.values()))) == set(traps)


def test_without_dates_there_are_no_histories(tmp_path):
    create_catalogue(str(tmp_path / "c"), in_place=True)
    with pytest.raises(SystemExit, match="error: no individual has a photo of which the year is known"):
        main(["catalogue", "export", "histories", str(tmp_path / "out"), "--catalogue", str(tmp_path / "c")])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_not_replaced(place, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    for command in ("histories", "wildbook"):
        with pytest.raises(SystemExit, match="error: .*out is there already"):
            main(["catalogue", "export", command, str(tmp_path / "out"), "--catalogue", str(place)])
    assert files_in(tmp_path / "out") == {"mine.txt": b"mine"}


# --- Wildbook ----------------------------------------------------------------------------------------------------

# Those of Wildbook's own importer (org.ecocean.api.bulk.BulkValidator) that are used here.
KNOWN = {
    "Encounter.day", "Encounter.decimalLatitude", "Encounter.decimalLongitude", "Encounter.genus", "Encounter.hour",
    "Encounter.individualID", "Encounter.locationID", "Encounter.minutes", "Encounter.month",
    "Encounter.otherCatalogNumbers", "Encounter.researcherComments", "Encounter.specificEpithet",
    "Encounter.submitterID", "Encounter.verbatimLocality", "Encounter.year", "MarkedIndividual.nickname",
}  # fmt: skip


def test_wildbooks_sheet_has_its_columns_and_names_photos_that_are_there(export, capsys):
    folder = export("wildbook", "--location-id", "Alaska")
    header, *cells = load_workbook(folder / "import-1.xlsx").active.iter_rows(values_only=True)
    media = [name for name in header if name.startswith("Encounter.mediaAsset")]
    assert media == ["Encounter.mediaAsset0", "Encounter.mediaAsset1"]
    assert set(header) - set(media) <= KNOWN - {"Encounter.submitterID"}
    rows = [dict(zip(header, row, strict=True)) for row in cells]
    named = [row[name] for row in rows for name in media if row[name]]
    assert sorted(named) == sorted(path.name for path in (folder / "photos").iterdir())
    assert all(re.fullmatch(r"[A-Za-z0-9. ]+", name) for name in named)
    assert [row["Encounter.individualID"] for row in rows] == ["w_1", "w_2", "w_1", "w_3", None, "w_2"]
    first = rows[0]
    assert [first[f"Encounter.{name}"] for name in ("year", "month", "day", "hour", "minutes")] == [2021, 7, 1, 9, 1]
    assert (first["Encounter.genus"], first["Encounter.specificEpithet"]) == ("Megaptera", "novaeangliae")
    said = capsys.readouterr().out
    assert "left out: 1 encounter without a year" in said
    assert "1 photo, neither JPEG nor PNG, made PNG" in said


# --- photos --------------------------------------------------------------------------------------------------------


def pixels(content: bytes, *, upright: bool = True) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray((ImageOps.exif_transpose(image) if upright else image).convert("RGB"))


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_shared_photo_looks_the_same_and_says_nothing(name, number):
    content = photo_bytes(name, number)
    assert SECRET in content
    shared = without_metadata(content)
    np.testing.assert_array_equal(pixels(shared.content), pixels(content))
    with Image.open(io.BytesIO(shared.content)) as image:
        assert dict(image.getexif()) in ({}, {0x0112: 6})
        assert not image.getexif().get_ifd(0x8825)
        assert {"comment", "xmp", "Comment", "XML:com.adobe.xmp", "photoshop"}.isdisjoint(image.info)
    assert SECRET not in shared.content
    assert shared.encoded_anew == (name == "x.tif")
    # Not decoded: its compressed picture is a part of the file that it was.
    if name == "x.jpg":
        scan = shared.content[shared.content.rindex(b"\xff\xda") :]
        assert scan in content
    assert without_metadata(shared.content).content == shared.content


def test_what_follows_the_picture_in_a_jpeg_is_cut_off():
    """Cameras put a second picture, or a film, behind the first one: with metadata of its own."""
    stream = io.BytesIO()
    extra = Image.open(io.BytesIO(photo_bytes("x.jpg", 5)))
    Image.open(io.BytesIO(photo_bytes("x.jpg", 3))).save(stream, "MPO", save_all=True, append_images=[extra])
    for content in (stream.getvalue(), photo_bytes("x.jpg", 3) + SECRET, photo_bytes("x.png", 3) + SECRET):
        shared = without_metadata(content)
        assert SECRET not in shared.content
        with Image.open(io.BytesIO(shared.content)) as image:
            assert image.format in ("JPEG", "PNG")
        np.testing.assert_array_equal(pixels(shared.content), pixels(content))


def test_colour_profiles_stay():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG"):
        stream = io.BytesIO()
        Image.new("RGB", (40, 40), "red").save(stream, kind, icc_profile=profile)
        with Image.open(io.BytesIO(without_metadata(stream.getvalue()).content)) as image:
            assert image.info["icc_profile"] == profile


def test_cmyk_jpegs_keep_what_says_that_they_are():
    stream = io.BytesIO()
    Image.new("CMYK", (40, 40), (0, 255, 0, 0)).save(stream, "JPEG")
    np.testing.assert_array_equal(pixels(without_metadata(stream.getvalue()).content), pixels(stream.getvalue()))


def test_photos_of_each_individual_are_in_its_folder(export, capsys):
    with zipfile.ZipFile(export("photos.zip")) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    rows = rows_of(contents.pop("sightings.csv"))
    assert sorted(contents) == sorted(row["file"] for row in rows)
    assert {row["file"].split("/")[0] for row in rows} == {"w_1", "w_2", "w_3"}
    assert all(row["file"].split("/")[0] == row["individual"] for row in rows)
    # A.JPG would be a.jpg where case does not count.
    assert {"w_1/a.jpg", "w_1/b.png", "w_1/c.tif.png"} <= set(contents)
    assert [name for name in contents if re.fullmatch(r"w_2/A-[0-9a-f]{8}\.JPG", name)]
    assert not any(SECRET in content for content in contents.values())
    assert "8 photos without metadata; 1 of nobody known" in capsys.readouterr().out


@pytest.mark.parametrize(("how", "message"), [("gone", "the file is missing"), ("another", "it is another file")])
def test_a_photo_that_is_not_the_decided_one_is_named_and_nothing_is_written(tmp_path, how, message):
    catalogue = create_catalogue(str(tmp_path / "c"), in_place=True)
    fill(catalogue, tmp_path / "photos")
    path = tmp_path / "photos/5-d.jpg"
    path.unlink() if how == "gone" else path.write_bytes(photo_bytes("d.jpg", 9))
    for command in ("photos", "wildbook"):
        with pytest.raises(SystemExit, match=rf"error: photo p5, .*5-d\.jpg, cannot be copied: {message}"):
            main(["catalogue", "export", command, str(tmp_path / "out.zip"), "--catalogue", str(tmp_path / "c")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "photos"]


@pytest.mark.parametrize("command", [["photos"], ["darwin-core", "--creator", "Ann"]])
@pytest.mark.parametrize("name", ["out.rar", "out", "photos.csv"])
def test_an_archive_is_a_zip_by_its_name(tmp_path, command, name):
    fill(create_catalogue(str(tmp_path / "c")), tmp_path / "photos")
    with pytest.raises(SystemExit, match=rf"error: .*{name} does not end in \.zip"):
        main(
            ["catalogue", "export", command[0], str(tmp_path / name), *command[1:], "--catalogue", str(tmp_path / "c")]
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "photos"]


@given(st.lists(st.tuples(st.sampled_from(["a.jpg", "A.jpg", "a-00000000.jpg", "b"]), st.integers(0, 30)), max_size=12))
def test_no_two_photos_get_one_name(photos):
    given = [(name, f"{number:064x}") for number, name in enumerate(name for name, _ in photos)]
    names = unique_names(given)
    assert len({name.casefold() for name in names}) == len(given)
    # Names do not change when photos come in later.
    assert unique_names(given[:5]) == names[:5]


def test_an_export_reads_a_catalogue_and_changes_nothing(place, export):
    # Rows, not the file's bytes: whoever closes the database last moves what is in its log into the file.
    before = everything(place)
    for name in EXPORTS:
        export(name)
    assert everything(place) == before
    assert open_catalogue(str(place)).place == str(place)
