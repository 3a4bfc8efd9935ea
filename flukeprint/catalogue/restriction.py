"""Which sightings are looked at: those of a time, a place, an area, a viewpoint, a quality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flukeprint.catalogue.sightings import Sighting
from flukeprint.catalogue.source_rows import moment
from flukeprint.core.errors import FlukeprintError


@dataclass(frozen=True)
class Restriction:
    """Conditions that a sighting has to meet; without any, all do."""

    conditions: Mapping[str, str]

    def __call__(self, sighting: Sighting) -> bool:
        """Tell whether a sighting meets all of them. What is not recorded meets none."""
        return all(_TESTS[name](sighting, value) for name, value in self.conditions.items())


def restriction(given: Iterable[str]) -> Restriction:
    """Read conditions such as `since=2026-01-01`; refuse what is none."""
    conditions: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        if name not in _TESTS or not value:
            raise FlukeprintError(f"{text!r} is no condition, expected one of {', '.join(_SAID)}.")
        if name == "area":
            _corners(value)
        if name in ("since", "until"):
            value = _date(text, value)
        conditions[name] = value
    return Restriction(conditions)


def _date(text: str, value: str) -> str:
    """Return a date as dates are kept, by which they are compared: 2026-5-1 is 2026-05-01."""
    try:
        return moment(value, day_first=None) or value
    except FlukeprintError:
        raise FlukeprintError(f"{text!r} names no date, expected one such as 2026, 2026-05 or 2026-05-01.") from None


def _corners(text: str) -> tuple[float, ...]:
    """Read south, west, north, east in degrees."""
    try:
        corners = tuple(float(part) for part in text.split(","))
    except ValueError:
        corners = ()
    if len(corners) != 4 or not -90 <= corners[0] <= corners[2] <= 90:
        raise FlukeprintError(f"area={text} is no area, expected area=SOUTH,WEST,NORTH,EAST in degrees.")
    return corners


def _in_area(sighting: Sighting, text: str) -> bool:
    south, west, north, east = _corners(text)
    if sighting.latitude is None or sighting.longitude is None or not south <= sighting.latitude <= north:
        return False
    # An area whose west is larger than its east lies across the 180th meridian.
    inside = west <= sighting.longitude, sighting.longitude <= east
    return all(inside) if west <= east else any(inside)


def _alike(name: str) -> Callable[[Sighting, str], bool]:
    return lambda sighting, value: (getattr(sighting, name) or "").casefold() == value.casefold()


# A date as exact as 2026 or 2026-07 begins with that year or month: texts are compared up to the shorter one's length.
_TESTS: Mapping[str, Callable[[Sighting, str], bool]] = {
    "since": lambda sighting, value: sighting.date is not None and sighting.date >= value[: len(sighting.date)],
    "until": lambda sighting, value: sighting.date is not None and sighting.date[: len(value)] <= value,
    "place": _alike("place"),
    "area": _in_area,
    "photographer": _alike("photographer"),
    "viewpoint": _alike("viewpoint"),
    "quality": _alike("quality"),
    "flags": lambda sighting, value: not sighting.flags if value == "none" else value in sighting.flags,
}  # fmt: skip
_SAID = (
    "since=2026-01-01", "until=2026-12-31", "place=NAME", "area=SOUTH,WEST,NORTH,EAST", "photographer=NAME",
    "viewpoint=WORD", "quality=WORD", "flags=none",
)  # fmt: skip
