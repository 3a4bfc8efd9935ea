"""A snapshot: labelled photos of a catalogue as an immutable table, named by its content. The pipeline trains on it.

The name is the SHA-256 of all columns but `file`: the same decisions about the same photos give the same name wherever
the photos lie, and each photo is compared with its own SHA-256 when it is copied.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_parquet, sha256_of, write_parquet
from flukeprint.data.labels import ENCOUNTER, TAKEN_AT

FILE = "file"
_COLUMNS: tuple[tuple[str, pa.DataType, str, str], ...] = (
    ("Image", pa.string(), "", "name of the photo, which no other photo of the snapshot has"),
    ("Id", pa.string(), "", "whom it shows: an individual's id, or new_whale"),
    (ENCOUNTER, pa.string(), "", "occasion on which it was taken, by its number in the catalogue"),
    (TAKEN_AT, pa.string(), "ISO 8601", "as exact as it is known"),
    ("place", pa.string(), "", "of the encounter"),
    ("latitude", pa.float64(), "degrees, WGS 84", ""),
    ("longitude", pa.float64(), "degrees, WGS 84", ""),
    ("viewpoint", pa.string(), "", "as the catalogue has it"),
    ("quality", pa.string(), "", "as the catalogue has it"),
    ("sha256", pa.string(), "hex", "of the photo's file"),
    (FILE, pa.string(), "", "where the photo is: absolute, or relative to the snapshot's folder"),
)
_ALWAYS_KNOWN = ("Image", "Id", ENCOUNTER, "sha256", FILE)
SNAPSHOT = pa.schema(
    pa.field(name, kind, name not in _ALWAYS_KNOWN, metadata={"unit": unit, "description": what})
    for name, kind, unit, what in _COLUMNS
)
_DIGITS = 16
_REPAIR = "Make it anew: `flukeprint catalogue snapshot`."

Rows = list[dict[str, Any]]


def write_snapshot(folder: Path, rows: Rows) -> Path:
    """Write a snapshot into a folder; return its path."""
    path = folder / _name(rows)
    write_parquet(path, pa.Table.from_pylist(rows, SNAPSHOT))
    return path


def read_snapshot(path: Path) -> Rows:
    """Read a snapshot; one that is not what its name says is a FlukeprintError."""
    rows: Rows = read_parquet(path, SNAPSHOT, repair=_REPAIR).to_pylist()
    # Photos are copied under these names.
    if leading := [row["Image"] for row in rows if Path(row["Image"]).name != row["Image"]]:
        raise FlukeprintError(f"{path} names a photo {leading[0]!r}, which leads out of its folder; refused.")
    if path.name != _name(rows):
        raise FlukeprintError(
            f"{path} is not what its name says, {_name(rows)} expected: it was changed or renamed. {_REPAIR}"
        )
    return rows


def _name(rows: Rows) -> str:
    content = [[row[field.name] for field in SNAPSHOT if field.name != FILE] for row in rows]
    digest = hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
    return f"snapshot-{digest[:_DIGITS]}.parquet"


def lay_out_snapshot(path: Path, target: Path) -> None:
    """Copy a snapshot's photos into train/ of an empty folder, and make train.csv.

    Its columns are Image, Id, encounter and taken_at. A photo that is missing or is another one by now is a
    FlukeprintError.
    """
    rows = read_snapshot(path)
    (target / "train").mkdir()
    columns = ["Image", "Id", ENCOUNTER, TAKEN_AT]
    with (target / "train.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in tqdm(rows, "copy photos", unit="photo", disable=None):
        _copy(path.parent / row[FILE], target / "train" / row["Image"], row["sha256"])


def _copy(photo: Path, target: Path, expected: str) -> None:
    try:
        shutil.copyfile(photo, target)
    except OSError as error:
        raise FlukeprintError(
            f"the photo {str(photo)!r} cannot be read ({error.strerror or error}). Put it back, or, if the catalogue "
            "was moved, make the snapshot again: `flukeprint catalogue snapshot`; its name stays the same."
        ) from None
    if sha256_of(target) != expected:
        raise FlukeprintError(
            f"the photo {str(photo)!r} is another one than the catalogue knows (SHA-256 {expected}). Put that one "
            "back, or import the new one."
        )
