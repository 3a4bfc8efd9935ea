"""Files for others: tables as CSV, XLSX or JSON, zip archives, new folders. The same content gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_bytes
from flukeprint.core.replacement import replacing, replacing_folder
from flukeprint.core.safe_text import spreadsheet_cell

Row = Mapping[str, Any]

# When every member of an archive says that it was changed: the first date that the format knows.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_CHANGED = re.compile(rb"(<dcterms:(created|modified)[^>]*>)[^<]*")
_LONGEST_CELL = 32_767  # characters that a cell of XLSX holds


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a table as what its suffix says: .csv (UTF-8), .xlsx, or .json (a list of objects).

    In CSV and XLSX no text is a formula.
    """
    writers = {".csv": csv_bytes, ".xlsx": xlsx_bytes, ".json": _json_bytes}
    if path.suffix.lower() not in writers:
        raise FlukeprintError(f"{path} ends in none of {', '.join(writers)}, by which tables are written. Rename it.")
    write_bytes(path, writers[path.suffix.lower()](columns, rows))


def csv_bytes(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Return a table as CSV."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return stream.getvalue().encode()


def xlsx_bytes(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Return a table as the one sheet of a workbook."""
    from openpyxl import Workbook

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("Sheet1")
    sheet.append(list(columns))
    for row in rows:
        cells = [_cell(row[name]) for name in columns]
        if any(isinstance(cell, str) and len(cell) > _LONGEST_CELL for cell in cells):
            raise FlukeprintError(f"a cell has more than {_LONGEST_CELL} characters, too many for XLSX. Write .csv.")
        sheet.append(cells)
    stream = io.BytesIO()
    workbook.save(stream)
    return _without_times(stream)


def _without_times(workbook: BinaryIO) -> bytes:
    """Return a workbook that does not say when it was written."""
    stream = io.BytesIO()
    with zipfile.ZipFile(workbook) as source, zipfile.ZipFile(stream, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = _CHANGED.sub(rb"\g<1>1980-01-01T00:00:00Z", content)
            add_member(archive, name, content)
    return stream.getvalue()


def _json_bytes(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    values = [{name: row[name] for name in columns} for row in rows]
    return (json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _cell(value: Any) -> Any:
    """Return what a spreadsheet shows of a value; lists and objects as JSON."""
    if isinstance(value, (dict, list, tuple)):
        value = json.dumps(value, ensure_ascii=False)
    return spreadsheet_cell(value) if isinstance(value, str) else value


# --- archives and folders ------------------------------------------------------------------------------------


@contextmanager
def new_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yield a zip archive to add members to; it takes its place when all are in it."""
    if path.suffix.lower() != ".zip":
        raise FlukeprintError(f"{path} does not end in .zip, which is what is written. Rename it.")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield archive


def add_member(archive: zipfile.ZipFile, name: str, content: bytes, *, packed: bool = True) -> None:
    """Add a member without any time to an archive; photos are packed already."""
    member = zipfile.ZipInfo(name, _LONG_AGO)
    member.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    member.external_attr = 0o644 << 16
    member.create_system = 3  # Unix, on every machine
    archive.writestr(member, content)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes its place when all is in it; one that holds something is refused."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FlukeprintError(f"{path} is there already, and nothing in it is replaced. Name a new folder.")
    with replacing_folder(path) as temporary:
        yield temporary
