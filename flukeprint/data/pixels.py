"""Photos to shards of pixels: decoded once, and again only where a photo of the shard, or how it is made, changes."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import create_npy, read_json, read_npy, reading, sha256_of, write_json
from flukeprint.core.replacement import replacing
from flukeprint.core.worker_processes import Workers, spread_map
from flukeprint.data.photos import read_rgb
from flukeprint.data.pixel_shards import INDEX, Shard, checksum, write_index

if TYPE_CHECKING:
    from flukeprint.data.cropping import Crop, Found

logger = logging.getLogger(__name__)

_CHUNK = 64
# Photos of a shard: so many on average, and at most.
_MEAN, _MOST = 256, 1024
# What decides on pixels: our modules, beside this one, and packages. A change of them makes all shards anew.
MODULES = ("colours.py", "cropping.py", "photo_folders.py", "photos.py", "pixel_shards.py", "pixels.py")
_PACKAGES = ("pillow", "pillow-heif")


class CheckedPhoto(NamedTuple):
    """A photo that stage validate accepted, and what was found in it; one without is seen whole."""

    name: str
    sha256: str  # of the file
    found: Found | None = None


def write_pixels(
    folder: Path,
    source: Path,
    photos: Sequence[CheckedPhoto],
    size: tuple[int, int],
    workers: Workers,
    crop: Crop | None = None,
) -> None:
    """Decode photos of the folder `source` into shards of pixels, uint8 RGB, with an index in the given order.

    They are squashed to `size`, (height, width) in px, after they were cropped, if they are to be. Shards that are
    there, made of the same photos in the same way, are kept. One that cannot be read, or is not the one that was
    checked, is a FlukeprintError. Several `workers` are spawned, so a script that asks for them needs Python's usual
    `if __name__ == "__main__":`.
    """
    keyed = [(_key(some, size, crop), some) for some in cut(photos)]
    shards = dict(keyed)  # equal photos under other names make one
    made = dict(_kept(folder, shards, size))
    missing = {key: some for key, some in shards.items() if key not in made}
    logger.info("%s: %d of %d shards of photos are to be decoded", folder, len(missing), len(shards))
    for key, shard in _made(folder, source, missing, size, workers, crop):
        made[key] = shard
        _remember(folder, made)  # so that a killed stage goes on there
    places = {photo.name: (made[key], place) for key, some in keyed for place, photo in enumerate(some)}
    write_index(folder, size, (places[photo.name] for photo in photos))
    _remove_others(folder, {INDEX, *(shard.name for shard in made.values())})
    _remember(folder, made)


def cut(photos: Iterable[CheckedPhoto]) -> list[list[CheckedPhoto]]:
    """Share out photos, in the order of their names, into shards that end after some of these names.

    Which ones hangs on the name alone, so that a photo more or less changes the one shard that it is in. Where no name
    ends one for too long it is cut all the same, and then what follows up to the next such name changes too.
    """
    shards: list[list[CheckedPhoto]] = [[]]
    for _, photo in sorted({photo.name: photo for photo in photos}.items()):
        shards[-1].append(photo)
        if len(shards[-1]) == _MOST or int(checksum(photo.name.encode()), 16) % _MEAN == 0:
            shards.append([])
    return [shard for shard in shards if shard]


def _key(photos: Sequence[CheckedPhoto], size: tuple[int, int], crop: Crop | None) -> str:
    """Return the checksum of all that a shard's pixels hang on."""
    made_by = [_code(), [version(name) for name in _PACKAGES], size, crop and crop.model_dump()]
    return checksum(json.dumps([made_by, [photo[1:] for photo in photos]], sort_keys=True).encode())


@cache
def _code() -> str:
    return sha256_of(*(Path(__file__).with_name(name) for name in MODULES))


def _record(folder: Path) -> Path:
    """Return the file that tells what shards were made of: {key: name}.

    It lies beside the folder: what reads the pixels is not to run again where they were made anew and are the same.
    """
    return folder.with_name(f"{folder.name}_made.json")


def _remember(folder: Path, made: Mapping[str, Shard]) -> None:
    write_json(_record(folder), {key: shard.name for key, shard in made.items()})


def _kept(
    folder: Path, shards: Mapping[str, Sequence[CheckedPhoto]], size: tuple[int, int]
) -> Iterator[tuple[str, Shard]]:
    """Yield the shards that are there under their keys, whole: with the pixels that they are named after."""
    known: dict[str, str] = {}
    path = _record(folder)
    with suppress(FlukeprintError), reading(path, "a record of shards"):  # without one, nothing is known to be there
        known = {key: Path(name).name for key, name in read_json(path).items() if key in shards}
    for key, name in known.items():
        with suppress(FlukeprintError):
            shard = Shard.of(read_npy(folder / name, np.uint8, (len(shards[key]), 3, *size)))
            if shard.name == name:
                yield key, shard


def _made(
    folder: Path,
    source: Path,
    shards: Mapping[str, Sequence[CheckedPhoto]],
    size: tuple[int, int],
    workers: Workers,
    crop: Crop | None,
) -> Iterator[tuple[str, Shard]]:
    """Decode photos and yield the shards that they have become."""
    chunks = [some[start : start + _CHUNK] for some in shards.values() for start in range(0, len(some), _CHUNK)]
    with spread_map(workers if len(chunks) > 1 else 1) as mapped:
        decoded = mapped(
            partial(_read_chunk, source, size, crop), chunks, files=lambda some: [source / photo.name for photo in some]
        )
        bar = iter(tqdm(decoded, f"pixels of {source.name}", len(chunks), unit="batch", disable=None))
        for key, some in shards.items():
            unnamed = folder / f"{key}.npy"
            with replacing(unnamed) as temporary:
                array = create_npy(temporary, np.uint8, (len(some), 3, *size))
                for start in range(0, len(some), _CHUNK):
                    array[start : start + _CHUNK] = next(bar)
                array.flush()
            shard = Shard.of(array)
            unnamed.replace(folder / shard.name)
            yield key, shard


def _read_chunk(
    folder: Path, size: tuple[int, int], crop: Crop | None, photos: Sequence[CheckedPhoto]
) -> NDArray[np.uint8]:
    return np.stack([_read(folder, photo, size, crop) for photo in photos])


def _read(folder: Path, photo: CheckedPhoto, size: tuple[int, int], crop: Crop | None) -> NDArray[np.uint8]:
    if crop is None:
        # Processes that decode whole photos start sooner without the import below.
        pixels = read_rgb(folder, photo.name, size)
    else:
        from flukeprint.data.cropping import cropped

        part = partial(cropped, found=photo.found, crop=crop, size=size)
        pixels = read_rgb(folder, photo.name, size, part=part)
    # Else its pixels would be kept as those of the other file.
    if (found := sha256_of(folder / photo.name)) != photo.sha256:
        raise FlukeprintError(
            f"{folder / photo.name} is not the photo that stage validate checked: its SHA-256 is {found[:12]}..., "
            f"expected {photo.sha256[:12]}... Run `dvc repro` without --single-item, which checks it first."
        )
    return pixels


def _remove_others(folder: Path, wanted: set[str]) -> None:
    """Remove what is not wanted from a folder: shards of before, and what killed writers left."""
    for path in folder.iterdir():
        if path.name in wanted:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
