"""Positions as a small map: an SVG with a scale, drawn without any tiles from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flukeprint.catalogue.positions import KM_PER_DEGREE

_WIDTH, _HEIGHT, _EDGE = 320, 200, 24  # px
_LEAST_KM = 2.0  # that the map shows at least


@dataclass(frozen=True)
class PositionMap:
    """Where each position is drawn, and how long the scale is."""

    width: int
    height: int
    points: list[tuple[float, float, str]]  # x and y in px, from the upper left corner; what was there
    scale_km: float
    scale_px: float
    corner: str  # the middle of the map, in words


def drawn_map(positions: Sequence[tuple[float, float, str]]) -> PositionMap | None:
    """Place positions (latitude, longitude, what was there) on a plane around their middle; None if there are none."""
    if not positions:
        return None
    latitude = (min(one[0] for one in positions) + max(one[0] for one in positions)) / 2
    # Longitudes around the first one, so that those on both sides of 180 degrees are neighbours.
    turned = [(one[1] - positions[0][1] + 180) % 360 - 180 for one in positions]
    middle = (min(turned) + max(turned)) / 2
    across = KM_PER_DEGREE * max(math.cos(math.radians(latitude)), 0.01)
    places = [
        ((turn - middle) * across, (one[0] - latitude) * KM_PER_DEGREE)
        for one, turn in zip(positions, turned, strict=True)
    ]
    wide, high = (max(2 * max(abs(place[axis]) for place in places), _LEAST_KM) for axis in (0, 1))
    per_km = min((_WIDTH - 2 * _EDGE) / wide, (_HEIGHT - 2 * _EDGE) / high)
    points = [
        (round(_WIDTH / 2 + x * per_km, 1), round(_HEIGHT / 2 - y * per_km, 1), one[2])
        for (x, y), one in zip(places, positions, strict=True)
    ]
    scale = _round_down(80 / per_km)
    centre = (positions[0][1] + middle + 180) % 360 - 180
    return PositionMap(_WIDTH, _HEIGHT, points, scale, round(scale * per_km, 1), f"around {latitude:.2f}, {centre:.2f}")


def _round_down(value: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is no more than a value."""
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (5, 2, 1) if step * power <= value))
