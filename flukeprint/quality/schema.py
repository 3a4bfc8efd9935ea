"""The declared schema of the validated tables: types, and units in each field's metadata.

Optional columns are there if train.csv has a value in them, and may be null.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
import pyarrow as pa

from flukeprint.data.labels import ENCOUNTER, TAKEN_AT

_NAMES = pa.dictionary(pa.int32(), pa.string())

# (name, type, unit, what it is)
_FIELDS: tuple[tuple[str, pa.DataType, str, str], ...] = (
    ("Image", pa.string(), "", "file name of the photo"),
    ("Id", _NAMES, "", "label: an individual's id, or new_whale"),
    ("width", pa.int32(), "px", "as stored, before EXIF orientation"),
    ("height", pa.int32(), "px", "as stored, before EXIF orientation"),
    ("mode", _NAMES, "", "Pillow's mode of the photo as stored"),
    ("bytes", pa.int64(), "byte", "size of the file"),
    ("sha256", pa.string(), "hex", "SHA-256 of the file"),
    ("phash", pa.uint64(), "64 bits", "perceptual hash (imagehash.phash, hash_size 8), first bit highest"),
    ("cluster", pa.int64(), "", "cluster of near-duplicates, numbered over train and test together"),
    ("csv_line", pa.int64(), "line", "line of the table that names the photo; the header is line 1"),
    ("format", _NAMES, "", "Pillow's format of the file"),
    ("orientation", pa.int8(), "EXIF code", "1 to 8; 1: upright"),
    ("frames", pa.int32(), "pictures", "in the file; only the first is used"),
    ("contrast", pa.float32(), "grey levels (0 to 255)", "standard deviation of the photo squashed to 32 x 32"),
)


_OPTIONAL: tuple[tuple[str, pa.DataType, str, str], ...] = (
    (ENCOUNTER, _NAMES, "", "occasion on which the photo was taken: its photos stay on one side of every split"),
    (TAKEN_AT, pa.string(), "ISO 8601", "when the photo was taken, as exact as it is known"),
)


def schema(labelled: bool, optional: Collection[str] = ()) -> pa.Schema:
    """Return the schema of train.parquet (labelled, with some optional columns) or test.parquet (without Id)."""
    return pa.schema(
        pa.field(name, kind, nullable=name in optional, metadata={"unit": unit, "description": description})
        for name, kind, unit, description in (*_FIELDS, *(field for field in _OPTIONAL if field[0] in optional))
        if labelled or name != "Id"
    )


def arrow_table(frame: pd.DataFrame, labelled: bool) -> pa.Table:
    """Return a frame of readable photos as an Arrow table; dictionaries are sorted, so equal rows give equal bytes."""
    declared = schema(labelled, [name for name, *_ in _OPTIONAL if name in frame and frame[name].notna().any()])
    return pa.table([_array(frame[field.name], field.type) for field in declared], schema=declared)


def _array(column: pd.Series, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.array(column.tolist(), kind)
    values = sorted(set(column.dropna()))
    place = {value: index for index, value in enumerate(values)}
    indices = pa.array([place.get(value) for value in column], kind.index_type)
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, kind.value_type))
