"""Parquet tables of untrusted origin: what they would unpack to is known before it is unpacked.

Three things make a small file large: compressed pages, runs of one value, and long values that a dictionary repeats.
The totals in a file's footer may lie, so the headers of its pages are read (parquet.thrift of the Parquet format, in
Thrift's compact protocol), and strings stay dictionaries until their length is known.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Bytes that a table may unpack to: so many, and so many for each byte of the file. Our widest table, of candidates,
# takes 20.
_FREE, _PER_BYTE = 1 << 26, 64
# A value that is repeated costs nothing in the file; in memory we count it with the 8 bytes of a number.
_VALUE = 8
# Rows: names of photos, which every table of ours holds, take more than a byte each.
_FREE_ROWS = 1 << 16
_LONGEST_FOOTER = 1 << 24  # bytes; also its largest list
_MOST_PAGES = 1 << 20

# Thrift's compact protocol: kinds of fields.
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 0, 1, 2, 3, 7, 8, 12
_INTEGERS, _LISTS = (4, 5, 6), (9, 10)
_DEEPEST = 8
# Fields of a page's header; the next two hold the number of values, as their field 1, of the two kinds of data pages.
_UNCOMPRESSED, _COMPRESSED, _DATA_PAGES = 2, 3, (5, 8)


def read_bounded(
    source: Path | str | pa.Buffer, schema: pa.Schema | None, columns: list[str] | None, rows: int | None
) -> pa.Table:
    """Return a table, or these columns of it; anything else than a table of that schema, length and size is refused."""
    limits = {"thrift_string_size_limit": _LONGEST_FOOTER, "thrift_container_size_limit": _LONGEST_FOOTER}
    with pq.ParquetFile(source, **limits) as file:
        found, metadata = file.schema_arrow, file.metadata
    length = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if schema is not None and not found.equals(schema):
        raise ValueError(f"its columns are {_columns(found)}, expected {_columns(schema)}")
    if rows is not None and length != rows:
        raise ValueError(f"it has {length} rows, expected {rows}")
    with _opened(source) as stream:
        size = stream.seek(0, os.SEEK_END)
        if length > _FREE_ROWS + size:
            raise ValueError(f"{length} rows in {size} bytes (decompression bomb?)")
        _refuse_more(sum(_unpacked(stream, metadata)), size)
    texts = [field.name for field in found if _is_text(field.type)]
    with pq.ParquetFile(source, read_dictionary=texts, **limits) as file:
        table = file.read(columns)
    _refuse_more(sum(_expanded(column) for column in table.columns if pa.types.is_dictionary(column.type)), size)
    table = table.cast(pa.schema([found.field(name) for name in table.column_names], metadata=found.metadata))
    table.validate(full=True)
    return table


def _refuse_more(unpacked: int, size: int) -> None:
    if unpacked > _FREE + _PER_BYTE * size:
        raise ValueError(f"{size} bytes would unpack to {unpacked} (decompression bomb?)")


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _opened(source: Path | str | pa.Buffer) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, pa.Buffer) else Path(source).open("rb")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _expanded(column: pa.ChunkedArray) -> int:
    """Return the bytes of a dictionary column's values, each written out."""
    lengths = (pc.take(pc.binary_length(chunk.dictionary), chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(length.cast(pa.int64()), min_count=0).as_py() for length in lengths)


def _unpacked(stream: BinaryIO, metadata: pq.FileMetaData) -> Iterator[int]:
    """Yield the bytes of each page once it is unpacked, its values counted with _VALUE bytes at least."""
    pages = 0
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            starts = [column.data_page_offset, column.dictionary_page_offset]
            here = min(start for start in starts if start is not None and start > 0)
            end = here + column.total_compressed_size
            while here < end and (pages := pages + 1) <= _MOST_PAGES:
                stream.seek(here)
                header = dict(_fields(stream, 0))
                values = sum(header[page][1] for page in _DATA_PAGES if page in header)
                yield max(header[_UNCOMPRESSED], values * _VALUE)
                here = stream.tell() + max(header[_COMPRESSED], 0)
    if pages > _MOST_PAGES:
        raise ValueError(f"more than {_MOST_PAGES} pages")


def _fields(stream: BinaryIO, depth: int) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of a struct's fields: integers, and structs as dicts; other values are skipped, as None."""
    if depth > _DEEPEST:
        raise ValueError("a page's header is nested too deep")
    number = 0
    while (start := _byte(stream)) & 15 != _STOP:
        number = number + (start >> 4) if start >> 4 else _integer(stream)
        yield number, _value(stream, start & 15, depth)


def _value(stream: BinaryIO, kind: int, depth: int) -> Any:
    if kind in _INTEGERS:
        return _integer(stream)
    if kind == _STRUCT:
        return dict(_fields(stream, depth + 1))
    if kind in _LISTS or kind not in (_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY):
        raise ValueError("a page's header has a field that is no Parquet")
    skipped = _varint(stream) if kind == _BINARY else {_BYTE: 1, _DOUBLE: 8}.get(kind, 0)
    stream.seek(skipped, os.SEEK_CUR)
    return None


def _integer(stream: BinaryIO) -> int:
    coded = _varint(stream)
    return (coded >> 1) ^ -(coded & 1)


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(stream)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a page's header has a number of more than 64 bits")


def _byte(stream: BinaryIO) -> int:
    if byte := stream.read(1):
        return byte[0]
    raise ValueError("a page's header ends too soon")
