"""Photos in a table: CSV or XLSX, with any header. Which column says what is guessed, shown, and can be said."""

from __future__ import annotations

import csv
import io
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flukeprint.catalogue.source_rows import Source, SourceRow, day_first_of, degrees, is_nobody, moment, photos_below
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_bytes, reading
from flukeprint.core.safe_text import printable
from flukeprint.core.wording import counted

# What a column may say, and headers that say so, in the order in which they are looked for; case, blanks and
# punctuation do not count.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "photo", "filename", "file", "picture", "path", "imagename", "photoname", "photoid", "imagefile",
              "mediaasset", "mediaasset0", "encountermediaasset0", "foto", "bild", "archivo"),
    "individual": ("id", "individual", "individualid", "whale", "whaleid", "animal", "animalid", "identity",
                   "catalogid", "catalogueid", "name", "markedindividual", "markedindividualindividualid", "individuo",
                   "tier"),
    "encounter": ("encounter", "encounterid", "sighting", "sightingid", "occasion", "event", "eventid", "encuentro"),
    "taken_at": ("datetime", "takenat", "date", "dateid", "timestamp", "dateoriginal", "eventdate", "encounterdate",
                 "datecaptured", "fecha", "datum"),
    "place": ("place", "location", "locationid", "site", "area", "locality", "region", "verbatimlocality", "lugar",
              "ort"),
    "latitude": ("latitude", "lat", "decimallatitude", "latitud"),
    "longitude": ("longitude", "lon", "long", "lng", "decimallongitude", "longitud"),
    "photographer": ("photographer", "credit", "author", "observer", "submitter", "recordedby", "fotografo"),
    "viewpoint": ("viewpoint", "side", "view", "aspect", "angle"),
    "quality": ("quality", "photoquality", "imagequality", "qualityscore"),
    "notes": ("notes", "note", "comments", "comment", "remarks", "occurrenceremarks"),
}  # fmt: skip
_MOST_ROWS = 1_000_000
_MOST_CELL = 1 << 16  # characters
_MOST_UNPACKED = 1 << 28  # bytes of a table, as text or as what a workbook unpacks to
_WORKBOOK = b"PK\x03\x04"


@dataclass(frozen=True)
class _Grid:
    """A table's cells as they are; row numbers are those of the file."""

    header: list[str]
    rows: list[tuple[int, list[Any]]]
    remarks: list[str]


def read_table_source(path: Path, photos: Path, columns: Mapping[str, str], *, day_first: bool | None) -> Source:
    """Read a table. Photos are below the folder `photos`, named by their path in it, or by their name alone.

    `columns` says which header a column of COLUMNS has, for those that are not to be guessed. Faulty rows say why.
    """
    grid = _read_workbook(path) if _starts(path).startswith(_WORKBOOK) else _read_text(path)
    places = _assigned(path, grid.header, columns)
    files = _Files.below(photos)
    if day_first is None and "taken_at" in places:
        day_first = day_first_of(cells[places["taken_at"]] for _, cells in grid.rows if places["taken_at"] < len(cells))
    rows = [
        _row(number, {name: cells[place] for name, place in places.items() if place < len(cells)}, files, day_first)
        for number, cells in grid.rows
    ]
    guessed = ", ".join(f"{name} = {printable(grid.header[place])!r}" for name, place in places.items())
    ignored = [printable(header) for place, header in enumerate(grid.header) if place not in places.values() and header]
    remarks = [f"columns: {guessed}", *([f"columns that are not read: {', '.join(ignored)}"] if ignored else [])]
    return Source(str(path.absolute()), rows, [*grid.remarks, *remarks])


def _starts(path: Path) -> bytes:
    with reading(path, "a table", "Check the name."), path.open("rb") as stream:
        return stream.read(4)


# --- cells ---------------------------------------------------------------------------------------------------


def _read_workbook(path: Path) -> _Grid:
    """Read the first sheet of an XLSX file."""
    from openpyxl import load_workbook

    with reading(path, "a readable workbook", "Save it again as XLSX, or as CSV."):
        with zipfile.ZipFile(path) as packed:
            if sum(part.file_size for part in packed.infolist()) > _MOST_UNPACKED:
                raise ValueError(f"it unpacks to more than {_MOST_UNPACKED} bytes")
        workbook = load_workbook(path, read_only=True, data_only=True)
        sheet = workbook.worksheets[0]
        cells = [[_plain(cell) for cell in row] for row in sheet.iter_rows(max_row=_MOST_ROWS + 1, values_only=True)]
        name, others = sheet.title, workbook.sheetnames[1:]
        workbook.close()
    remarks = [f"sheet {printable(name)!r} was read, and not {counted(len(others), 'other sheet')}"] if others else []
    return _grid(path, list(enumerate(cells, 1)), remarks)


def _plain(cell: Any) -> Any:
    """Return a cell's value; a whole number that a sheet holds as 12.0 is 12."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def _read_text(path: Path) -> _Grid:
    """Read a CSV file: UTF-8, UTF-16 or Windows' own letters; separated by commas, semicolons, tabs or bars."""
    content, remarks = read_bytes(path, "a table", "Save it as CSV in UTF-8, or as XLSX.", _MOST_UNPACKED), []
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
        remarks.append("the text is no UTF-8; it was read as Windows-1252")
    if "\0" in text:
        raise FlukeprintError(f"{path} is no text. Save it as CSV in UTF-8, or as XLSX.")
    separator = _separator(text)
    csv.field_size_limit(_MOST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[tuple[int, list[Any]]] = []
    try:
        for cells in reader:
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise FlukeprintError(f"{path} line {reader.line_num}: {error}. Repair the line.") from None
    if separator != ",":
        remarks.append(f"cells are separated by {separator!r}")
    return _grid(path, rows, remarks)


def _separator(text: str) -> str:
    """Return what separates the cells of the first line that is not empty: what most often stands there."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t|", key=first.count)


def _grid(path: Path, rows: list[tuple[int, list[Any]]], remarks: list[str]) -> _Grid:
    filled = [(number, cells) for number, cells in rows if any(str(c or "").strip() for c in cells)]
    if len(filled) < 2:
        raise FlukeprintError(
            f"{path} holds no rows below a header. Save the table as CSV in UTF-8, or as XLSX, with its header in the "
            "first row."
        )
    if len(filled) > _MOST_ROWS:
        raise FlukeprintError(f"{path} has more than {_MOST_ROWS} rows. Cut it into several tables.")
    (_, header), *below = filled
    return _Grid([str("" if cell is None else cell).strip() for cell in header], below, remarks)


# --- columns -------------------------------------------------------------------------------------------------


def _assigned(path: Path, header: Sequence[str], said: Mapping[str, str]) -> dict[str, int]:
    """Return which column of the file says what: as it was said, else as the header sounds."""
    places: dict[str, int] = {}
    for name, wanted in said.items():
        if wanted not in header:
            raise FlukeprintError(
                f"{path} has no column {wanted!r}, expected one of {', '.join(map(repr, header))}. Correct "
                f"--column {name}=HEADER."
            )
        places[name] = header.index(wanted)
    plain = ["".join(filter(str.isalnum, one.casefold())) for one in header]
    for name, sounds in COLUMNS.items():
        free = [place for place in range(len(header)) if place not in places.values()]
        found = next((place for sound in sounds for place in free if plain[place] == sound), None)
        if name not in places and found is not None:
            places[name] = found
    if "image" not in places:
        raise FlukeprintError(
            f"{path}: none of the columns {', '.join(map(repr, header))} sounds like the photo's name. Say which "
            "it is: --column image=HEADER."
        )
    return {name: places[name] for name in COLUMNS if name in places}


@dataclass(frozen=True)
class _Files:
    """The photos of a folder by their path in it and by their name, both as `_spelled`."""

    folder: Path
    by_path: dict[str, Path]
    by_name: dict[str, list[Path]]

    @classmethod
    def below(cls, folder: Path) -> _Files:
        if not folder.is_dir():
            raise FlukeprintError(f"there is no folder {str(folder)!r} with the photos. Name it: --photos DIR.")
        by_name: defaultdict[str, list[Path]] = defaultdict(list)
        photos, _ = photos_below(folder)
        for path in photos:
            by_name[_spelled(path.name)].append(path)
        return cls(folder, {_spelled(path.relative_to(folder).as_posix()): path for path in photos}, by_name)

    def find(self, text: str) -> Path:
        """Return the photo that a cell names; refuse one that is missing, or one of several of that name."""
        given = text.replace("\\", "/").removeprefix("./")
        if found := self.by_path.get(_spelled(given)):
            return found
        named = self.by_name.get(_spelled(given.rsplit("/", 1)[-1]), [])
        if len(named) > 1:
            several = ", ".join(printable(path.relative_to(self.folder)) for path in named[:3])
            raise FlukeprintError(f"{len(named)} photos have this name ({several}). Write the path in the table.")
        if not named:
            raise FlukeprintError(f"there is no photo {printable(text)} in {printable(self.folder)}. Check the name.")
        return named[0]


def _spelled(name: str) -> str:
    """Return a file's name without regard to case, and to how accents are encoded: file systems and tables differ."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _row(number: int, cells: Mapping[str, Any], files: _Files, day_first: bool | None) -> SourceRow:
    """Return what one row says; a fault in it is said, and is no reason to leave out another row."""
    texts = {name: _text(cell) for name, cell in cells.items()}
    where = f"row {number}"
    try:
        if not texts["image"]:
            raise FlukeprintError("it names no photo.")
        individual = texts.get("individual")
        return SourceRow(
            where=f"{where}, {texts['image']}",
            file=files.find(texts["image"]),
            individual=None if is_nobody(individual) else individual,
            encounter=texts.get("encounter"),
            taken_at=moment(cells.get("taken_at"), day_first=day_first),
            latitude=degrees(cells.get("latitude"), 90),
            longitude=degrees(cells.get("longitude"), 180),
            **{name: texts.get(name) for name in ("place", "photographer", "viewpoint", "quality", "notes")},
        )
    except FlukeprintError as error:
        return SourceRow(f"{where}, {texts.get('image') or '-'}", None, texts.get("individual"), fault=str(error))


def _text(cell: Any) -> str | None:
    return (str("" if cell is None else cell).strip()) or None


def said_columns(given: Iterable[str]) -> dict[str, str]:
    """Read which header a column has, such as `individual=Whale ID`."""
    said = dict(text.partition("=")[::2] for text in given)
    for name, header in said.items():
        if name not in COLUMNS or not header:
            raise FlukeprintError(f"--column {name}={header}: expected NAME=HEADER, NAME one of {', '.join(COLUMNS)}.")
    return said
