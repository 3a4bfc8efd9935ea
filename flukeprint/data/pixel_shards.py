"""The pixels of photos as stage pixels leaves them: data/pixels/<part>/, .npy files and an index of their rows.

A shard is named after its pixels, and the index holds nothing but where they are and their checksums: what was made
anew and came out the same leaves the same files, so no later stage runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flukeprint.core.files import read_npy, read_parquet, reading, write_parquet

INDEX = "index.parquet"
# A row for each photo, in the order of the validated table; the size (height, width) is in the schema's metadata.
_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), False, metadata={"unit": "", "description": "name of the shard's file"}),
        pa.field("place", pa.int32(), False, metadata={"unit": "row", "description": "of the photo in the shard"}),
        pa.field("key", pa.string(), False, metadata={"unit": "hex", "description": "checksum of the photo's pixels"}),
    ]
)
# Shards that are mapped at a time: each holds a descriptor, of which a process may have but 1,024 on many systems.
_MOST_MAPPED = 256


@dataclass(frozen=True)
class Shard:
    """A file of pixels, named after their checksums."""

    name: str
    keys: list[str]

    @classmethod
    def of(cls, photos: NDArray[np.uint8]) -> Shard:
        """Describe the shard that holds photos, n x 3 x H x W."""
        keys = [checksum(np.ascontiguousarray(photo).data) for photo in photos]
        return cls(f"{checksum(json.dumps([photos.shape, keys]).encode())}.npy", keys)


def checksum(content: bytes | memoryview) -> str:
    """Return 128 bits of the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


def write_index(folder: Path, size: tuple[int, int], rows: Iterable[tuple[Shard, int]]) -> None:
    """Write the index of photos of a size (height, width in px), each of which is at a place of a shard."""
    found = [dict(zip(_SCHEMA.names, (shard.name, place, shard.keys[place]), strict=True)) for shard, place in rows]
    schema = _SCHEMA.with_metadata({"size": json.dumps(size)})
    write_parquet(folder / INDEX, pa.Table.from_pylist(found, schema))


class PixelShards:
    """The pixels of a folder's photos, uint8 N x 3 x H x W: read as rows are asked for, from mapped files."""

    def __init__(self, folder: Path) -> None:
        """Read the index. It is a FlukeprintError if that is missing or malformed, or a shard is, once it is read."""
        table = read_parquet(folder / INDEX, _SCHEMA)
        with reading(folder / INDEX, "an index of pixels"):
            height, width = json.loads(table.schema.metadata[b"size"])
        self._folder = folder
        shards = table["shard"].combine_chunks().dictionary_encode()
        self._names, self._shards = shards.dictionary.to_pylist(), shards.indices.to_numpy()
        self._places = table["place"].to_numpy()
        self._lengths = np.zeros(len(self._names), np.int64)
        np.maximum.at(self._lengths, self._shards, self._places + 1)
        self._mapped = lru_cache(_MOST_MAPPED)(self._map)
        self.shape = (len(table), 3, height, width)
        self.keys: list[str] = table["key"].to_pylist()  # equal where pixels are

    def __len__(self) -> int:
        """Return the number of photos."""
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a copy of some rows."""
        shards, places = self._shards[rows].tolist(), self._places[rows].tolist()
        found = np.empty((len(shards), *self.shape[1:]), np.uint8)
        # Row by row, so that each is copied once; shard by shard, so that none is mapped twice.
        for row in sorted(range(len(shards)), key=shards.__getitem__):
            found[row] = self._mapped(shards[row])[places[row]]
        return found

    def _map(self, number: int) -> NDArray[np.uint8]:
        path = self._folder / self._names[number]
        # A plain array: of a memory map each index is one more object.
        return np.asarray(read_npy(path, np.uint8, (self._lengths[number], *self.shape[1:])))
