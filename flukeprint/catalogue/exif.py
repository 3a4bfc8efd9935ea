"""What a photo's own metadata says: when and where it was taken. What is absent or broken is None."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flukeprint.data.photos import MAX_PIXELS, open_photo, photo_path, quiet

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TAKEN, _OFFSET, _CHANGED = 0x9003, 0x9011, 0x0132
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET_TEXT = re.compile(r"[+-]\d\d:\d\d")
_SMALL = 1 << 24  # bytes up to which a file is read into memory, once for both the hash and the metadata


class OwnFacts(NamedTuple):
    """What a file says of itself."""

    sha256: str
    taken_at: str | None = None  # ISO 8601, in the camera's time, with its offset where it is known
    latitude: float | None = None  # degrees, WGS 84
    longitude: float | None = None


def own_facts(path: Path) -> OwnFacts:
    """Read a file's SHA-256 and metadata. An OSError or UnusableError says why it cannot be read at all."""
    with photo_path(path.parent, path.name).open("rb") as file:
        small = path.stat().st_size <= _SMALL
        stream = io.BytesIO(file.read()) if small else file
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        try:
            with quiet(), open_photo(stream, MAX_PIXELS) as image:
                exif = image.getexif()
                return OwnFacts(sha256, _taken_at(exif), *_position(exif.get_ifd(_GPS_IFD)))
        except Exception:  # noqa: BLE001 - a parser of hostile bytes; whether the photo can be used is asked later
            return OwnFacts(sha256)


def _taken_at(exif: Any) -> str | None:
    details = exif.get_ifd(_EXIF_IFD)
    found = _TIME.match(str(details.get(_TAKEN) or exif.get(_CHANGED) or ""))
    if found is None or int(found[1]) < 1900 or not 1 <= int(found[2]) <= 12 or not 1 <= int(found[3]) <= 31:
        return None
    offset = str(details.get(_OFFSET) or "").strip()
    time = "{}-{}-{}T{}:{}:{}".format(*found.groups())
    return time + (offset if _OFFSET_TEXT.fullmatch(offset) else "")


def _position(gps: Mapping[int, Any]) -> tuple[float | None, float | None]:
    """Return latitude and longitude, or nothing where either is absent or no place on Earth."""
    latitude, longitude = _degrees(gps.get(2), gps.get(1), "S"), _degrees(gps.get(4), gps.get(3), "W")
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):
        return None, None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else (None, None)


def _degrees(parts: Any, side: Any, negative: str) -> float | None:
    """Return degrees from (degrees, minutes, seconds) and the letter of the hemisphere."""
    try:
        value = sum((float(part) / 60.0**power for power, part in enumerate(parts)), 0.0)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return round(-value if str(side).upper().startswith(negative) else value, 7)
