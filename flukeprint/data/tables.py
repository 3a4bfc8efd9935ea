"""Reading CSV tables of untrusted origin: every fault is named by file and row, and memory is bounded."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from flukeprint.core.errors import FlukeprintError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

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
    columns: tuple[str, ...]  # as expected
    frame: pd.DataFrame  # well-formed rows: file, row (int64), and the expected columns as strings (null: empty cell)
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
    """A fault after which the rest of the file cannot be read."""


def read_table(path: Path, columns: Sequence[str] = ("Image", "Id"), max_rows: int = MAX_ROWS) -> Table:
    """Read a CSV file with exactly these columns; what is wrong with it is in the result, nothing is raised.

    Accepted: a byte order mark, any line ends, quotes as in RFC 4180, empty lines. A cell is never interpreted.
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
            _read_rows(stream, table, columns, max_rows, chunks)
        except _UnreadableError as error:
            table.complete = False
            _add_fault(table, _row_of(error), str(error.args[1]))
    table.frame = _frame(path.name, columns, chunks)
    return table


def require_table(path: Path, columns: Sequence[str] = ("Image", "Id"), max_rows: int = MAX_ROWS) -> pd.DataFrame:
    """Read a CSV file that has to be in order; the columns are `file`, `row` and those named.

    Raises:
        FlukeprintError: the file is absent, or not a table with these columns; the first fault is named.

    """
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


def _row_of(error: _UnreadableError) -> int:
    return int(error.args[0])


def _not_a_file(path: Path) -> str | None:
    """Say why there is no regular file. Pipes and devices are never opened: reading could wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        path.open("rb").close()
    except OSError as error:
        return f"cannot be read ({os.strerror(error.errno or 0)})" if os.path.lexists(path) else "is missing"
    return None


def _refuse_other_formats(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(4)
    for magic, name in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise _UnreadableError(1, f"the file is {name}, expected CSV text in UTF-8")


def _read_rows(stream: TextIO, table: Table, columns: Sequence[str], max_rows: int, chunks: list[pa.Table]) -> None:
    """Read header and rows into `table` and `chunks`."""
    records = _records(stream)
    header = next(records, None)
    if header is None:
        return
    table.header = _shown(",".join(header[1]))
    expected = list(columns)
    if header[1] != expected:
        return
    rows: list[int] = []
    cells: list[list[str]] = []
    for row, record in records:
        if table.rows == max_rows:
            table.complete = False
            break
        table.rows += 1
        if len(record) != len(expected) or record == expected:
            _add_fault(table, row, _wrong_cells(record, expected))
            continue
        rows.append(row)
        cells.append(record)
        if len(rows) == _CHUNK_ROWS:
            chunks.append(_chunk(table, columns, rows, cells))
            rows, cells = [], []
    if rows:
        chunks.append(_chunk(table, columns, rows, cells))


def _records(stream: TextIO) -> Iterator[tuple[int, list[str]]]:
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


def _wrong_cells(record: list[str], expected: list[str]) -> str:
    if record == expected:
        return "the header once more"
    cells = "1 cell" if len(record) == 1 else f"{len(record)} cells"
    return f"{cells} ({_shown(','.join(record))[:80]}), expected {len(expected)}: {','.join(expected)}"


def _chunk(table: Table, columns: Sequence[str], rows: list[int], cells: list[list[str]]) -> pa.Table:
    """Return rows as an Arrow table; rows that are not text are left out, as faults."""
    import pyarrow as pa

    if _fault_of_text("".join(map("".join, cells))):
        faults = [_fault_of_text(",".join(record)) for record in cells]
        for row, fault in zip(rows, faults, strict=True):
            if fault:
                _add_fault(table, row, fault)
        good = [index for index, fault in enumerate(faults) if fault is None]
        rows, cells = [rows[index] for index in good], [cells[index] for index in good]
    values = {name: [record[place] or None for record in cells] for place, name in enumerate(columns)}
    return pa.table(
        {"csv_line": pa.array(rows, pa.int64()), **{key: pa.array(v, pa.string()) for key, v in values.items()}}
    )


def _fault_of_text(text: str) -> str | None:
    if "\0" in text:
        return f"a NUL byte ({_shown(text)[:80]}), expected text"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"not UTF-8 ({_shown(text)[:80]}); save the file as UTF-8"
    return None


def _shown(text: str) -> str:
    """Return text in which bytes that are not UTF-8, and characters that do not print, stand as escapes."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _add_fault(table: Table, row: int, fault: str) -> None:
    table.faulty += 1
    if len(table.faults) < _MAX_FAULTY:
        table.faults.append((row, fault))


def _frame(file: str, columns: Sequence[str], chunks: list[pa.Table]) -> pd.DataFrame:
    """Return the chunks as one pandas table, whose strings stay in Arrow's compact memory."""
    import pandas as pd
    import pyarrow as pa

    schema = pa.schema([("csv_line", pa.int64()), *((name, pa.string()) for name in columns)])
    table = pa.concat_tables(chunks) if chunks else schema.empty_table()
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    frame.insert(0, "file", pd.Series(file, index=frame.index, dtype="category"))
    return frame
