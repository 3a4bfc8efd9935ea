"""Positions that are given away less exactly than they are known.

A position becomes the centre of the cell that it lies in. The cells are the same for every sighting, so that many
sightings of one place tell no more than one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable

# Of a degree of latitude, and of longitude on the equator (WGS 84); the former is 111.69 near the poles.
KM_PER_DEGREE = 111.32
_LONGEST_DEGREE = 111.7
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(deg|km)")
_MOST = {"deg": 45.0, "km": 5000.0}
_DECIMALS = 6  # 0.1 m


@dataclass(frozen=True)
class Precision:
    """The side of the cells, in degrees (`deg`) or kilometres (`km`)."""

    size: float
    unit: str

    @property
    def said(self) -> str:
        """How exact positions are, in words."""
        return f"{self.size:g} {'degrees' if self.unit == 'deg' else 'km'}"

    @property
    def _high(self) -> float:
        """Degrees of latitude of a cell."""
        return self.size if self.unit == "deg" else self.size / KM_PER_DEGREE

    def _wide(self, latitude: float) -> float:
        """Degrees of longitude of the cells around a latitude, which is the centre of a row of cells."""
        if self.unit == "deg":
            return self.size
        return min(360.0, self._high / max(math.cos(math.radians(latitude)), 1e-6))

    def centre(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Return the centre of the cell that a position lies in."""
        row = min(_centre(latitude, -90, self._high), 90.0)
        column = min(_centre(longitude, -180, self._wide(row)), 180.0)
        return round(row, _DECIMALS), round(column, _DECIMALS)

    def uncertainty(self, latitude: float) -> int:
        """Return how far the true position may be from a centre at this latitude: metres, rounded up."""
        widest = max(abs(latitude) - self._high / 2, 0.0)
        wide = self._wide(latitude) * KM_PER_DEGREE * math.cos(math.radians(widest))
        return math.ceil(1000 * math.hypot(self._high * _LONGEST_DEGREE, wide) / 2)


def _centre(value: float, start: float, step: float) -> float:
    return start + (math.floor((value - start) / step) + 0.5) * step


def precision_of(text: str | None) -> Precision | None:
    """Read a precision such as 10km or 0.1deg; refuse one without a unit."""
    if text is None:
        return None
    found = _TEXT.fullmatch(text.strip())
    size, unit = (float(found[1]), found[2]) if found else (0.0, "deg")
    if not 0 < size <= _MOST[unit]:
        raise FlukeprintError(
            f"--precision is {printable(text)!r}, expected a size with its unit, as 10km or 0.1deg, of at most "
            f"{_MOST['km']:g}km or {_MOST['deg']:g}deg."
        )
    return Precision(size, unit)


def blurred(sightings: Iterable[Sighting], precision: Precision | None) -> list[Sighting]:
    """Return sightings with positions as exact as `precision` says; None: as they are."""
    return [_blurred(one, precision) for one in sightings]


def _blurred(one: Sighting, precision: Precision | None) -> Sighting:
    if precision is None or one.latitude is None or one.longitude is None:
        return one
    latitude, longitude = precision.centre(one.latitude, one.longitude)
    return replace(one, latitude=latitude, longitude=longitude)
