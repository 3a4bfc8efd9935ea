"""What `validate` records about each photo. Every file is read once and decoded once, in several processes."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flukeprint.core.worker_processes import Workers, spread_map
from flukeprint.data.colours import profile_fault
from flukeprint.data.photos import (
    MAX_PIXELS,
    UnusableError,
    as_seen,
    open_photo,
    orientation,
    photo_path,
    quiet,
    reason,
    resized_rgb,
)

if TYPE_CHECKING:
    from flukeprint.data.cropping import Cropper

# Side of the square grey thumbnail, in pixels. imagehash.phash squashes a photo to the same 32 x 32.
THUMBNAIL_SIDE = 32

_HASH_SIDE = 8
_BLOCK_BYTES = 1 << 20
# Pillow's time for counting a TIFF file's pictures grows with the square of their number.
_MAX_TIFF_FRAMES = 1000
# The fewer chunks, the less the processes wait for this one; the more, the more evenly they finish.
_LARGEST_CHUNK, _CHUNKS_PER_WORKER = 256, 16
# Photos that go to another machine at a time, with their files.
_SHARD = 64
# So many photos are read sooner than a process starts.
_FEW_PHOTOS = 64
_HASHED_TOGETHER = 256

Fields = dict[str, Any]  # of a record


@dataclass(frozen=True)
class PhotoRecord:
    """What was found about one photo's file. Where `fault` is set, what could not be read keeps its default."""

    name: str
    width: int = 0  # px, as stored (before EXIF orientation)
    height: int = 0  # px, as stored
    mode: str = ""  # Pillow's mode string as stored: RGB, L, CMYK, P, I;16, ...
    bytes: int = 0  # file size
    sha256: str = ""  # hex, of the file
    phash: int = 0  # 64-bit unsigned; equals int(str(imagehash.phash(photo)), 16)
    format: str = ""  # JPEG, PNG, ... (MPO: a JPEG that holds several pictures)
    orientation: int = 1  # EXIF's or TIFF's, 1-8; 1 if there is none
    profile: str = ""  # why its colour profile was not used; empty: there is none, or it was
    frames: int = 1
    contrast: float = 0.0  # standard deviation of the thumbnail's grey values, which are 0-255
    thumbnail: builtins.bytes = b""  # THUMBNAIL_SIDE squared grey values, row by row; b"" where there is a fault
    fault: str | None = None  # one line that says why the photo cannot be used
    no_fluke: str = ""  # why no fluke was found, where one was looked for
    upside_down: str = ""  # why its fluke is taken to stand upside down, where one was looked for

    @property
    def short_side(self) -> int:
        """The shorter side, px."""
        return min(self.width, self.height)


def inspect_photo(folder: Path, name: str, max_pixels: int = MAX_PIXELS) -> PhotoRecord:
    """Read and fully decode one photo (its first frame); bad content gives a record with a `fault`, no exception."""
    return _records([_fields(max_pixels, (Path(folder), name))])[0]


def read_photos(
    paths: Sequence[Path], size: tuple[int, int], max_pixels: int = MAX_PIXELS, cropper: Cropper | None = None
) -> list[tuple[PhotoRecord, NDArray[np.uint8] | None]]:
    """Do what `inspect_photo` and `photos.read_rgb` do, in one decoding: return records and pixels.

    The pixels (3 x H x W, `size` is (height, width)) are None where the record has a `fault`. With a `cropper` they are
    those of the fluke that it finds.
    """
    look = partial(_whole if cropper is None else partial(_cropped, cropper), size=size)
    found = [_fields(max_pixels, (path.parent, path.name), look) for path in paths]
    pixels = [fields.pop("pixels", None) for fields in found]
    return list(zip(_records(found), pixels, strict=True))


def inspect_photos(
    photos: Mapping[Path, Sequence[str]],
    workers: Workers = 1,
    max_pixels: int = MAX_PIXELS,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[Path, list[PhotoRecord]]:
    """Inspect the named photos of several folders; records come in the order of the names.

    `workers` processes read (1: this one); they are spawned, so a script that asks for several needs Python's usual
    `if __name__ == "__main__":`. Meanwhile `meanwhile` is called once, in this thread. A process that is killed, for
    example for lack of memory, is a FlukeprintError.
    """
    from tqdm import tqdm

    paths = [(Path(folder), name) for folder, names in photos.items() for name in names]
    with _mapped(partial(_fields, max_pixels), paths, workers) as found:
        meanwhile()
        each = iter(_records(list(tqdm(found, "photos", len(paths), unit="photo", disable=None))))
    return {folder: [next(each) for _ in names] for folder, names in photos.items()}


@contextmanager
def _mapped(
    read: Callable[[tuple[Path, str]], Fields], paths: Sequence[tuple[Path, str]], workers: Workers
) -> Iterator[Iterator[Fields]]:
    """Give what is read of each photo, in order, by several processes where that is quicker."""
    with spread_map(workers if len(paths) > _FEW_PHOTOS else 1) as spread:
        yield spread(read, paths, _chunk(len(paths), workers), files=lambda path: [path[0] / path[1]])


def _chunk(photos: int, workers: Workers) -> int:
    """Return how many photos go to a process at a time."""
    if isinstance(workers, int):
        return min(_LARGEST_CHUNK, 1 + photos // (max(workers, 1) * _CHUNKS_PER_WORKER))
    return _SHARD


def _records(found: Sequence[Fields]) -> list[PhotoRecord]:
    """Return the records of photos, after adding what follows from their thumbnails.

    That is quicker for many at once, and done in one process it spares the others the import of scipy.
    """
    usable = [fields for fields in found if "fault" not in fields]
    for start in range(0, len(usable), _HASHED_TOGETHER):
        some = usable[start : start + _HASHED_TOGETHER]
        thumbnails = np.frombuffer(b"".join(fields["thumbnail"] for fields in some), np.uint8)
        thumbnails = thumbnails.reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
        hashes, contrasts = perceptual_hashes(thumbnails).tolist(), thumbnails.std(axis=(1, 2)).tolist()
        for fields, phash, contrast in zip(some, hashes, contrasts, strict=True):
            fields |= {"phash": phash, "contrast": contrast}
    return [PhotoRecord(**fields) for fields in found]


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return imagehash.phash (hash_size 8) of photos as 64-bit numbers (N), first bit highest.

    `thumbnails` (N x 32 x 32) are the photos in grey, squashed with Lanczos. The transform is the very one that
    imagehash calls, so that even ties (flat photos, symmetric ones) fall as they do there.
    """
    from scipy.fft import dct

    columns = dct(thumbnails, axis=1)[:, :_HASH_SIDE]
    low = dct(columns, axis=2)[:, :, :_HASH_SIDE].reshape(-1, _HASH_SIDE**2)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)


# --- in the processes -------------------------------------------------------------------------------------


def _whole(seen: Image.Image, size: tuple[int, int]) -> Fields:
    return {"pixels": resized_rgb(seen, size)}


def _cropped(cropper: Cropper, seen: Image.Image, size: tuple[int, int]) -> Fields:
    from flukeprint.data.cropping import remarks

    pixels, found = cropper(seen, size)
    return {"pixels": pixels, **remarks(found, cropper.crop.confidence)}


def _fields(max_pixels: int, path: tuple[Path, str], look: Callable[[Image.Image], Fields] | None = None) -> Fields:
    """Return the fields of a photo's record that come from its file, and those that `look` gives of what is seen.

    What is left are those that `_records` adds.
    """
    fields: Fields = {"name": path[1]}
    try:
        with quiet(), photo_path(*path).open("rb", buffering=0) as file:
            stream = _read_once(file)
            fields["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
            fields["bytes"] = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            if fields["bytes"] == 0:
                raise UnusableError("the file is empty")
            with open_photo(stream, max_pixels) as image:
                fields |= _content(image, look)
    except Exception as error:  # noqa: BLE001 - decoders of hostile bytes raise anything, even MemoryError
        fields["fault"] = reason(error)
    return fields


def _read_once(file: io.FileIO) -> io.BytesIO | io.BufferedReader:
    """Return a small file's bytes in memory; a large file, which would fill it, stays a file."""
    size = os.fstat(file.fileno()).st_size
    return io.BytesIO(file.read(size)) if size <= _BLOCK_BYTES else io.BufferedReader(file)


def _frames(image: Image.Image) -> int:
    """Return how many pictures a file holds, in time that is linear in its size."""
    if image.format == "TIFF":
        try:
            # One by one: after a jump Pillow takes the number asked for as that of the last picture.
            for number in range(1, _MAX_TIFF_FRAMES + 1):
                image.seek(number)
            raise UnusableError(f"a TIFF of more than {_MAX_TIFF_FRAMES} pictures, which would take minutes to count")
        except EOFError:
            image.seek(0)
    return int(getattr(image, "n_frames", 1))


def _content(image: Image.Image, look: Callable[[Image.Image], Fields] | None) -> Fields:
    """Decode a photo, once, and return the fields of its record that come from its content."""
    # All before decoding: reading every frame's header, a palette turned into RGB, a TIFF turned change the object.
    frames, mode, turned = _frames(image), image.mode, orientation(image)
    # Pillow gives the size of a TIFF as it will be turned.
    width, height = image.size if image.format != "TIFF" or turned < 5 else image.size[::-1]
    seen = as_seen(image)
    grey = seen if seen.mode == "L" else seen.convert("L")
    looked = {} if look is None else look(seen)
    return looked | {
        "width": width,
        "height": height,
        "mode": mode,
        "format": image.format or "",
        "orientation": turned,
        "profile": profile_fault(image, "CMYK" if image.mode == "CMYK" else seen.mode),
        "frames": frames,
        "thumbnail": grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS).tobytes(),
    }
