"""Reading CSV tables of untrusted origin: every fault is named by file and row, and memory is bounded."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TextIO

import pandas as pd
import pyarrow as pa

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable
from flukeprint.data.photo_folders import hint_beside

Row = tuple[int, list[str]]  # number and cells

# More rows are never read: a table's memory is bounded by this times MAX_LINE, and in practice is far smaller.
MAX_ROWS = 1_000_000
# Characters of one line, and of one cell. A file without line ends, or with an unclosed quote, is not read whole.
MAX_LINE = 4096
_CHUNK_ROWS = 1 << 16
# Faulty rows that are kept; further ones are counted.
_MAX_FAULTY = 1000
_OTHER_FORMATS = {
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file",
}


@dataclass
class Table:
    """What was read of one CSV file. A row's number is its line in the file: the header is row 1."""

    file: str  # name for messages
    columns: tuple[str, ...]  # as expected, and those of the optional ones that the header names
    # Well-formed rows: file, csv_line (int64), and the expected columns as strings (null: empty cell).
    frame: pd.DataFrame
    faults: list[tuple[int, str]] = field(default_factory=list)  # (row, what is wrong with it), at most 1,000
    faulty: int = 0  # rows with a fault
    rows: int = 0  # rows below the header, faulty ones included
    header: str | None = None  # as read; None if the file is absent or empty
    missing: str | None = None  # why there is no such file
    complete: bool = True  # False: reading stopped at the last fault or at the largest number of rows

    @property
    def header_is_right(self) -> bool:
        """Whether the file has exactly the expected columns."""
        return self.header == ",".join(self.columns)

    @property
    def readable(self) -> bool:
        """Whether the file was read to its end. Single rows may be faulty nevertheless."""
        return self.missing is None and self.header_is_right and self.complete


class _UnreadableError(Exception):
    """A fault after which the rest of the file cannot be read: (row, what is wrong)."""


def read_table(
    path: Path,
    columns: Sequence[str] = ("Image", "Id"),
    max_rows: int = MAX_ROWS,
    optional: Collection[str] = (),
) -> Table:
    """Read a CSV file with exactly these columns; what is wrong with it is in the result, nothing is raised.

    After them may come some of the `optional` ones, in any order. Accepted: a byte order mark, any line ends, quotes as
    in RFC 4180, empty lines. A cell is never interpreted.
    """
    table = Table(path.name, tuple(columns), _frame(path.name, columns, []))
    table.missing = _not_a_file(path)
    if table.missing:
        return table
    chunks: list[pa.Table] = []
    # Bytes that are not UTF-8 become lone surrogates, so that reading goes on and the row is known.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        try:
            _refuse_other_formats(path)
            good = _well_formed(_records(stream), table, max_rows, optional)
            while some := list(islice(good, _CHUNK_ROWS)):
                chunks.append(_chunk(table, some))
        except _UnreadableError as error:
            table.complete = False
            _add_fault(table, *error.args)
    table.frame = _frame(path.name, table.columns, chunks)
    return table


def empty_table(file: str, columns: Sequence[str] = ("Image", "Id")) -> Table:
    """Return what reading a file of that name with nothing below its header gives."""
    return Table(file, tuple(columns), _frame(file, columns, []), header=",".join(columns))


def require_table(path: Path, columns: Sequence[str] = ("Image", "Id"), max_rows: int = MAX_ROWS) -> pd.DataFrame:
    """Read a CSV file that has to be in order (columns `file`, `csv_line` and those named), or name its first fault."""
    table = read_table(path, columns, max_rows)
    expected = ",".join(columns)
    if table.missing:
        raise FlukeprintError(f"{path} {table.missing}. Expected a CSV file with the columns {expected}.")
    if table.faults:
        row, fault = table.faults[0]
        raise FlukeprintError(f"{path} row {row}: {fault}. Repair the row ({table.faulty} such row(s) in the file).")
    if not table.header_is_right:
        found = "the file is empty" if table.header is None else f"the header is {table.header!r}"
        raise FlukeprintError(f"{path} row 1: {found}, expected {expected!r}. Repair the header.")
    if not table.complete:
        raise FlukeprintError(f"{path} has more than {max_rows} rows, which is the most that is read.")
    return table.frame


def _not_a_file(path: Path) -> str | None:
    """Say why there is no regular file. Pipes and devices are never opened: reading could wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        path.open("rb").close()
    except OSError as error:
        return (
            f"cannot be read ({os.strerror(error.errno or 0)})"
            if os.path.lexists(path)
            else f"is missing{hint_beside(path)}"
        )
    return None


def _refuse_other_formats(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(4)
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise _UnreadableError(1, f"the file is {name}, expected CSV text in UTF-8")


def _well_formed(records: Iterator[Row], table: Table, max_rows: int, optional: Collection[str]) -> Iterator[Row]:
    """Yield the rows with as many cells as the right header; note the header and the other rows in `table`."""
    header = next(records, None)
    if header is None:
        return
    further = header[1][len(table.columns) :]
    if len(further) == len(set(further)) and set(further) <= set(optional):
        table.columns = (*table.columns, *further)
    expected = list(table.columns)
    table.header = _shown(",".join(header[1]))
    if header[1] != expected:
        return
    for row, record in records:
        if table.rows == max_rows:
            table.complete = False
            return
        table.rows += 1
        if record == expected:
            _add_fault(table, row, "the header once more")
        elif len(record) != len(expected):
            cells = "1 cell" if len(record) == 1 else f"{len(record)} cells"
            shown, columns = _shown(",".join(record))[:80], ",".join(expected)
            _add_fault(table, row, f"{cells} ({shown}), expected {len(expected)}: {columns}")
        else:
            yield row, record


def _records(stream: TextIO) -> Iterator[Row]:
    """Yield (row, cells) of every line that is not empty."""
    reader = csv.reader(_lines(stream), strict=True)
    start = 1
    try:
        for record in reader:
            if sum(map(len, record)) > MAX_LINE:
                raise _UnreadableError(start, f"a row of more than {MAX_LINE} characters (an unclosed quote?)")
            if record:
                yield start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise _UnreadableError(start, f"not valid CSV ({error}); the rest of the file was not read") from None


def _lines(stream: TextIO) -> Iterator[str]:
    """Yield lines, none of them longer than what a row of a table can need."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise _UnreadableError(number, f"a line of more than {MAX_LINE} characters; the rest was not read")
        yield line


def _chunk(table: Table, rows: list[Row]) -> pa.Table:
    """Return rows as an Arrow table; rows that are not text are left out, as faults."""
    if _fault_of_text("".join("".join(record) for _, record in rows)):
        faults = [_fault_of_text(",".join(record)) for _, record in rows]
        for (row, _), fault in zip(rows, faults, strict=True):
            if fault:
                _add_fault(table, row, fault)
        rows = [row for row, fault in zip(rows, faults, strict=True) if fault is None]
    cells = [[record[place] or None for _, record in rows] for place in range(len(table.columns))]
    return pa.table([[row for row, _ in rows], *cells], schema=_schema(table.columns))


def _fault_of_text(text: str) -> str | None:
    if "\0" in text:
        return f"a NUL byte ({_shown(text)[:80]}), expected text"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"not UTF-8 ({_shown(text)[:80]}); save the file as UTF-8"
    return None


def escaped(text: str) -> str:
    """Return text, read with surrogateescape, with escapes for bytes that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _shown(text: str) -> str:
    return printable(escaped(text))


def _add_fault(table: Table, row: int, fault: str) -> None:
    table.faulty += 1
    if len(table.faults) < _MAX_FAULTY:
        table.faults.append((row, fault))


def _frame(file: str, columns: Sequence[str], chunks: list[pa.Table]) -> pd.DataFrame:
    """Return the chunks as one pandas table, whose strings stay in Arrow's compact memory."""
    table = pa.concat_tables(chunks) if chunks else _schema(columns).empty_table()
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    frame.insert(0, "file", pd.Series(file, index=frame.index, dtype="category"))
    return frame


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([("csv_line", pa.int64()), *((name, pa.string()) for name in columns)])
