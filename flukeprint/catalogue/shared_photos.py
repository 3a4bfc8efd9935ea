"""Copies of photos to be handed to others: without EXIF (position, time, camera, owner) and all other metadata.

JPEG and PNG are not decoded: the parts of the file that do not make up the picture are left out. What stays is how the
photo is turned, and its colour profile. Photos of other formats become PNG, which loses nothing that is seen of them.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_bytes
from flukeprint.core.safe_text import printable
from flukeprint.data.photos import MAX_PIXELS, UnusableError, as_seen, open_photo, orientation, quiet, reason

_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that say how the picture looks. Of an animated PNG, the picture that others show is left.
_PNG_KEPT = frozenset(
    (
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"cHRM",
        b"gAMA",
        b"iCCP",
        b"sRGB",
        b"sBIT",
        b"cICP",
        b"bKGD",
        b"pHYs",
    )
)
# JPEG: the start of a scan, whose data end at a marker that is neither 00 nor a restart; APP and COM segments.
_SCAN, _END, _APPLICATION, _COMMENT = 0xDA, 0xD9, range(0xE0, 0xF0), 0xFE
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
# EXIF that says nothing but the orientation.
_TURNED = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00%c\x00\x00\x00\x00\x00\x00"


@dataclass(frozen=True)
class SharedPhoto:
    """A copy without metadata."""

    suffix: str
    content: bytes
    encoded_anew: bool


def shared_photo(sighting: Sighting) -> SharedPhoto:
    """Return a copy of a photo without metadata.

    Raises:
        FlukeprintError: the file cannot be read, or is not the one that was decided about.
    """
    try:
        if not sighting.file.is_file():
            raise UnusableError("the file is missing")
        content = read_bytes(sighting.file, "a photo", "")
        if hashlib.sha256(content).hexdigest() != sighting.sha256:
            raise UnusableError("it is another file than the one that was imported")
        return without_metadata(content)
    except Exception as error:  # noqa: BLE001 - decoders of hostile bytes raise anything, even MemoryError
        raise FlukeprintError(
            f"photo p{sighting.photo}, {printable(sighting.file)}, cannot be copied: {reason(error)}. Put the file "
            "back (`flukeprint catalogue check` names all that are missing)."
        ) from None


def without_metadata(content: bytes) -> SharedPhoto:
    """Return a photo without metadata, of a JPEG or PNG file without decoding it."""
    with quiet(), open_photo(io.BytesIO(content), MAX_PIXELS) as image:
        turned, form = orientation(image), image.format
        # A file that only a tolerant decoder reads is decoded.
        with suppress(ValueError, IndexError, struct.error):
            if form in ("JPEG", "MPO"):
                return SharedPhoto(".jpg", b"".join(_jpeg_parts(content, turned)), encoded_anew=False)
            if form == "PNG":
                return SharedPhoto(".png", b"".join(_png_parts(content, turned)), encoded_anew=False)
        stream = io.BytesIO()
        as_seen(image).save(stream, "PNG")
        return SharedPhoto(".png", stream.getvalue(), encoded_anew=True)


def _jpeg_parts(content: bytes, turned: int) -> Iterator[bytes]:
    """Yield what is left of a JPEG file: up to the end of its first picture."""
    yield b"\xff\xd8"
    if turned != 1:
        yield _segment(0xE1, b"Exif\x00\x00" + _TURNED % turned)
    place = 2
    while True:
        place = content.index(b"\xff", place)
        while content[place] == 0xFF:
            place += 1
        marker, place = content[place], place + 1
        if marker == _END:
            yield b"\xff\xd9"
            return
        size = int.from_bytes(content[place : place + 2], "big")
        body, place = content[place + 2 : place + size], place + size
        kept = _kept(marker, body)
        if kept is not None:
            yield _segment(marker, kept)
        if marker == _SCAN:
            found = _AFTER_SCAN.search(content, place)
            end = found.start() if found else len(content)
            yield content[place:end]
            if not found:
                yield b"\xff\xd9"
                return
            place = end


def _kept(marker: int, body: bytes) -> bytes | None:
    """Return what is kept of a JPEG segment: of applications' own, JFIF's without a thumbnail, Adobe's, the profile."""
    if marker == 0xE0:
        return body[:12] + b"\x00\x00" if body.startswith(b"JFIF\x00") else None
    if marker == 0xE2:
        return body if body.startswith(b"ICC_PROFILE\x00") else None
    if marker == 0xEE:
        return body if body.startswith(b"Adobe") else None
    return None if marker in _APPLICATION or marker == _COMMENT else body


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def _png_parts(content: bytes, turned: int) -> Iterator[bytes]:
    yield _PNG
    place, kind = len(_PNG), b""
    while kind != b"IEND":
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        if kind in _PNG_KEPT:
            yield content[place : place + size + 12]
        if kind == b"IHDR" and turned != 1:
            exif = b"eXIf" + _TURNED % turned
            yield struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
        place += size + 12


def unique_names(photos: Iterable[tuple[str, str]]) -> list[str]:
    """Return a name for each photo, given as (name, SHA-256), that no other has, also where case does not count.

    The first photo of a name keeps it; a later one gets the beginning of its SHA-256 before the suffix.
    """
    taken: set[str] = set()
    names = []
    for name, sha256 in photos:
        own = name
        if own.casefold() in taken:
            own = f"{Path(name).stem}-{sha256[:8]}{Path(name).suffix}"
        if own.casefold() in taken:
            own = f"{sha256}{Path(name).suffix}"
        taken.add(own.casefold())
        names.append(own)
    return names
