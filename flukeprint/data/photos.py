"""Safe reading of untrusted photos, and the pixels that models see."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.colours import in_srgb
from flukeprint.data.photo_folders import SUFFIXES_OF_FORMAT, hint_beside, is_raw

# Unless `validate.max_pixels` says otherwise; core.params.MOST_PIXELS is the most that it may say.
MAX_PIXELS = 100_000_000

_BLOCK_BYTES = 1 << 20
# px; the longest side of a JPEG. The weights for resizing a longer one would take gigabytes.
_LONGEST_SIDE = 65_535
# Memory that a photo may take at once, while it is decoded and looked at.
_MOST_BYTES = 900_000_000
# Of one pixel as Pillow keeps it; other modes take 4 bytes.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
# What decoders of whole pictures hold besides: WebP's two canvases and a copy, HEIF's planes, a picture and a copy.
_WHOLE_BYTES = {"WEBP": 10, "HEIF": 8}
# A progressive JPEG comes in about 10 scans. Each costs a pass over all pixels, whatever its few bytes hold.
_USUAL_SCANS, _MAX_SCANS = 20, 100
_MAX_SCANNED = 1_000_000_000  # pixels, in all scans of a progressive JPEG
_STRIP_PIXELS = 1 << 20  # that are changed together
_START_OF_SCAN = b"\xff\xda"
# Boxes of HEIF (ISO/IEC 23008-12): width and height of a picture or of a tile; an item that is an overlay.
_HEIF_SIZE = re.compile(rb"ispe\0.{3}(.{4})(.{4})", re.DOTALL)
_HEIF_OVERLAY = re.compile(rb"infe.{8,10}iovl", re.DOTALL)
_ORIENTATION_TAG = 0x0112
# What undoes each EXIF orientation (the same table as PIL.ImageOps.exif_transpose).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableError(Exception):
    """A photo that cannot be used; the message is one line."""


def plain_file_name(name: str) -> bool:
    """Tell whether `name` is a plain, visible file name: no path, no '..', no control characters.

    Unpaired surrogates, which stand for bytes that are not UTF-8, are refused as well: no CSV can hold them.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or name[1:2] == ":":
        return False
    if name.isascii() and name.isprintable():
        return True
    # Cc: control; Cf: invisible, such as direction overrides; Cs: surrogates; Zl, Zp: line separators.
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name)


def _as_it_is(seen: Image.Image) -> Image.Image:
    return seen


def read_rgb(
    folder: Path,
    name: str,
    size: tuple[int, int],
    max_pixels: int = MAX_PIXELS,
    part: Callable[[Image.Image], Image.Image] = _as_it_is,
) -> NDArray[np.uint8]:
    """Return the upright photo as uint8, 3 x H x W in RGB, resized to `size` = (height, width).

    The aspect is not kept. The resizing is torchvision's for a Pillow image: bilinear, with antialiasing. `part` may
    return a part of the photo, which is then resized. A photo that cannot be read is a FlukeprintError that names it.
    """
    try:
        with photo_path(Path(folder), name).open("rb") as stream, quiet(), open_photo(stream, max_pixels) as image:
            return resized_rgb(part(as_seen(image)), size)
    except Exception as error:  # noqa: BLE001 - decoders of hostile bytes raise anything, even MemoryError
        path = Path(folder) / name
        raise FlukeprintError(
            f"cannot read the photo {str(path)!r}: {reason(error)}. Replace the file or leave the photo out."
        ) from None


def resized_rgb(seen: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a photo of mode L or RGB as the pixels of `read_rgb`."""
    height, width = size
    # Three equal channels are made of the few pixels that are left: that is the same, and takes less memory.
    resized = seen.resize((width, height), Image.Resampling.BILINEAR).convert("RGB")
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def photo_path(folder: Path, name: str) -> Path:
    """Return the path of a regular file inside `folder`, or say why there is none.

    Pipes and devices are never opened: reading one could wait for ever.
    """
    if not plain_file_name(name):
        raise UnusableError("not a plain file name")
    if is_raw(name):
        raise UnusableError("a raw file of a camera, which is not read: export it as JPEG")
    path = folder / name
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise UnusableError(f"the file is missing{hint_beside(path)}") from None
    if stat.S_ISLNK(found.st_mode):
        path = path.resolve(strict=True)
        if not path.is_relative_to(folder.resolve()):
            raise UnusableError("a symbolic link that leaves the folder")
        found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UnusableError("not a regular file")
    return path


def quiet() -> warnings.catch_warnings[None]:
    """Silence Pillow's warnings (odd metadata, large photos): what matters about a photo is in its record."""
    return warnings.catch_warnings(action="ignore")


def open_photo(stream: BinaryIO, max_pixels: int) -> Image.Image:
    """Return the photo with its header read and its pixels not yet, after a look at what decoding would take."""
    if heif := _is_heif(stream):
        _prepare_heif(stream, max_pixels)
    image = Image.open(stream, formats=["HEIF"] if heif else [name for name in SUFFIXES_OF_FORMAT if name != "HEIF"])
    _refuse_large(*image.size, max_pixels)
    if image.format in ("JPEG", "MPO"):
        _refuse_scans(image, _scans(stream))
    if (needed := image.width * image.height * _bytes_per_pixel(image)) > _MOST_BYTES:
        raise UnusableError(
            f"{image.width} x {image.height} pixels of mode {image.mode} would take {needed / 1e6:.0f} MB of memory, "
            f"more than the {_MOST_BYTES / 1e6:.0f} accepted (decompression bomb?). Save it smaller, or as a plain JPEG"
        )
    return image


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    size = f"{width} x {height} pixels"
    if width * height > max_pixels:
        raise UnusableError(f"{size} are more than the {max_pixels} of validate.max_pixels (decompression bomb?)")
    if max(width, height) > _LONGEST_SIDE:
        raise UnusableError(f"{size} have a side longer than {_LONGEST_SIDE} (decompression bomb?)")


def _refuse_scans(image: Image.Image, scans: int) -> None:
    most = min(_MAX_SCANS, max(_USUAL_SCANS, _MAX_SCANNED // max(image.width * image.height, 1)))
    if scans > most:
        raise UnusableError(f"a JPEG of more than {most} scans, which would take minutes to decode")


def _bytes_per_pixel(image: Image.Image) -> float:
    """Return the memory that a photo takes in `as_seen` and its caller: itself, as it is seen, in grey, its decoder."""
    own = _PIXEL_BYTES.get(image.mode, 4)
    plain = image.mode in ("L", "RGB") and not image.has_transparency_data
    one_channel = image.mode[0] in "1IF" and not image.has_transparency_data
    seen = 0 if plain else 1 if one_channel else 4
    return own + seen + (image.mode != "L") + _decoder_bytes(image)


def _decoder_bytes(image: Image.Image) -> float:
    if image.format in _WHOLE_BYTES:
        return _WHOLE_BYTES[image.format]
    if image.info.get("progressive"):
        # All coefficients, of 16 bits; image.layer has (id, horizontal, vertical sampling, table) of the components.
        samples = [horizontal * vertical for _, horizontal, vertical, _ in image.layer]  # type: ignore[attr-defined]
        return float(2 * sum(samples) / max(samples))
    if image.format == "TIFF":
        # Strips and tiles are unpacked one by one, of up to 8 bytes for a pixel; tags as in the TIFF 6.0 specification.
        tags = image.tag_v2  # type: ignore[attr-defined]
        strip = min(tags.get(278, image.height), image.height) * image.width
        return float(8 * max(strip, tags.get(322, 0) * tags.get(323, 0)) / max(image.width * image.height, 1))
    return 0


def _is_heif(stream: BinaryIO) -> bool:
    """Tell whether a file starts like HEIF, and leave the stream at its start."""
    start = stream.read(8)
    stream.seek(0)
    return start[4:] == b"ftyp"


def _prepare_heif(stream: BinaryIO, max_pixels: int) -> None:
    """Refuse a HEIF file that would take more memory than its size in Pillow tells, and make Pillow read the others.

    What is shown may be cropped from more; libheif decodes at most what is declared for any picture in the file. An
    overlay's canvas is declared nowhere, and no camera writes one.
    """
    content = stream.read()
    stream.seek(0)
    for width, height in _HEIF_SIZE.findall(content):
        _refuse_large(int.from_bytes(width), int.from_bytes(height), max_pixels)
    if _HEIF_OVERLAY.search(content):
        raise UnusableError("a HEIF overlay of several pictures")
    from pillow_heif import register_heif_opener  # only now: most files are none

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


def _scans(stream: BinaryIO) -> int:
    """Return how many scans a JPEG has, to within those cut by a block's edge; leave the stream where it was."""
    position = stream.tell()
    stream.seek(0)
    scans = sum(block.count(_START_OF_SCAN) for block in iter(lambda: stream.read(_BLOCK_BYTES), b""))
    stream.seek(position)
    return scans


def as_seen(image: Image.Image) -> Image.Image:
    """Decode a photo to its last row; return it as it is meant to be seen: upright, 8 bits, sRGB, in mode L or RGB."""
    image.load()
    turn = _UPRIGHT.get(orientation(image))  # Pillow has turned a TIFF by now
    plain = in_srgb(image, _plain)
    return plain if turn is None else plain.transpose(turn)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 where it is absent or broken: metadata is no reason to refuse a photo."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - a parser of hostile bytes
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _plain(image: Image.Image) -> Image.Image:
    """Return a decoded image in mode L or RGB, without alpha (on white) and in 8 bits."""
    if image.has_transparency_data:
        return _by_strips(image, "RGB", _on_white)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode[0] in "IF":
        return _by_strips(image, "L", partial(_in_8_bits, *_range(image)))
    return image.convert("L" if image.mode == "1" else "RGB")


def _by_strips(image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Change an image a few rows at a time: a large one would take several times its memory."""
    changed = Image.new(mode, image.size)
    for strip, top in _strips(image):
        changed.paste(change(strip), (0, top))
    return changed


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    rows = max(_STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _on_white(strip: Image.Image) -> Image.Image:
    seen = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """Return what is black and white: of grey of 16 bits its range; of 32 bits, which nobody declares, its extremes."""
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    ends = [(float(values.min()), float(values.max())) for strip, _ in _strips(image) for values in [_values(strip)]]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _values(image: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(image, dtype=np.float32))


def _in_8_bits(low: float, high: float, image: Image.Image) -> Image.Image:
    scaled = (_values(image) - low) * (255.0 / max(high - low, 1e-9))
    return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8))


def reason(error: Exception) -> str:
    """Say in one line why a photo cannot be used."""
    if isinstance(error, UnidentifiedImageError):
        return f"not an image in one of the formats {', '.join(SUFFIXES_OF_FORMAT)}"
    if isinstance(error, Image.DecompressionBombError):
        return "far more pixels than validate.max_pixels may allow (decompression bomb?)"
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    text = " ".join(str(error).split())[:200]
    if isinstance(error, UnusableError):
        return text
    if "truncated" in text.lower():
        return f"truncated: {text}"
    return f"cannot be decoded: {text or type(error).__name__}"
