"""Folders of pixels as stage pixels leaves them, of arrays or of photos, for tests of what reads them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flukeprint.core.files import sha256_of, write_npy
from flukeprint.data.cropping import Crop, Found
from flukeprint.data.pixel_shards import PixelShards, Shard, write_index
from flukeprint.data.pixels import CheckedPhoto, write_pixels


def pixel_folder(folder: Path, photos: np.ndarray) -> PixelShards:
    """Write photos, N x 3 x H x W, into shards of 16."""
    parts = [photos[start : start + 16] for start in range(0, len(photos), 16)]
    shards = [Shard.of(part) for part in parts]
    for shard, part in zip(shards, parts, strict=True):
        write_npy(folder / shard.name, part)
    write_index(folder, photos.shape[2:], ((shards[row // 16], row % 16) for row in range(len(photos))))
    return PixelShards(folder)


def checked(source: Path, names: Sequence[str], found: Mapping[str, Found] | None = None) -> list[CheckedPhoto]:
    """Return photos of a folder as stage validate would accept them."""
    return [CheckedPhoto(name, sha256_of(source / name), (found or {}).get(name)) for name in names]


def decoded(
    folder: Path,
    source: Path,
    names: Sequence[str],
    size: tuple[int, int],
    crop: Crop | None = None,
    found: Mapping[str, Found] | None = None,
) -> np.ndarray:
    """Return the pixels of photos, by way of shards in `folder`."""
    write_pixels(folder, source, checked(source, names, found), size, 1, crop)
    return PixelShards(folder)[:]
