"""Capture histories: who was seen on which occasion, for MARK, for R's marked, RMark and secr.

An occasion is a day, month or year in which any photo was taken: what was photographed shows that somebody was there.
Periods without any are no occasions, but time between them (`interval`). Photos that are dated less exactly than the
occasions, and individuals without any other, are left out.

For secr, the sea is divided in square cells; those in which any photo was taken are the detectors (of type proximity:
an individual may be in several on one occasion). Coordinates are metres east and north of a whole degree, in a plane
that touches there; in an area of some hundred kilometres that is good to about a percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from flukeprint.catalogue.exported_files import csv_bytes, new_folder
from flukeprint.catalogue.positions import KM_PER_DEGREE
from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.errors import FlukeprintError

Period = Literal["day", "month", "year"]
# Characters of an ISO 8601 date that name each.
_LENGTH: Mapping[Period, int] = {"year": 4, "month": 7, "day": 10}
Cell = tuple[int, int]  # east and north, in cells from the origin


@dataclass(frozen=True)
class Histories:
    """Who was seen when, and where as far as that is known."""

    period: Period
    occasions: list[str]  # such as 2024-07, in the order of time
    seen: dict[str, set[int]]  # individual -> occasions, by their place in the list; sorted by id
    without_date: int  # photos of individuals that were left out
    cells: list[Cell]  # detectors; none without positions
    captures: list[tuple[str, int, int]]  # individual, occasion and detector, by their places; sorted
    origin: tuple[int, int]  # whole degrees of latitude and longitude
    cell_km: float

    @property
    def intervals(self) -> list[int]:
        """The time from each occasion to the next, in periods."""
        numbers = [_number(one) for one in self.occasions]
        return [later - earlier for earlier, later in pairwise(numbers)]

    def history(self, individual: str) -> str:
        """Return a capture history such as 0110."""
        return "".join("1" if place in self.seen[individual] else "0" for place in range(len(self.occasions)))


def _number(occasion: str) -> int:
    """Return a period's number in the order of time."""
    parts = [int(part) for part in occasion.split("-")]
    match parts:
        case [year]:
            return year
        case [year, month]:
            return 12 * year + month
        case _:
            return date(*parts).toordinal()


def histories_of(sightings: Sequence[Sighting], period: Period, cell_km: float) -> Histories:
    """Work capture histories out.

    Raises:
        FlukeprintError: no individual has a date that is exact enough.
    """
    dated = [one for one in sightings if _occasion(one, period)]
    occasions = sorted({_occasion(one, period) for one in dated})
    place = {occasion: number for number, occasion in enumerate(occasions)}
    seen: dict[str, set[int]] = {}
    for one in sorted(dated, key=lambda one: one.individual or ""):
        if one.individual is not None:
            seen.setdefault(one.individual, set()).add(place[_occasion(one, period)])
    if not seen:
        raise FlukeprintError(
            f"no individual has a photo of which the {period} is known. Take longer occasions (--by), or add dates."
        )
    located = [one for one in dated if one.latitude is not None and one.longitude is not None]
    origin = (round(located[0].latitude or 0), round(located[0].longitude or 0)) if located else (0, 0)
    where = [_cell(one, origin, cell_km) for one in located]
    cells = sorted(set(where))
    detector = {cell: number for number, cell in enumerate(cells)}
    captures = {
        (one.individual, place[_occasion(one, period)], detector[cell])
        for one, cell in zip(located, where, strict=True)
        if one.individual is not None
    }
    left_out = sum(one.individual is not None and not _occasion(one, period) for one in sightings)
    return Histories(period, occasions, seen, left_out, cells, sorted(captures), origin, cell_km)


def _occasion(one: Sighting, period: Period) -> str:
    """Return the period in which a photo was taken; empty where it is not known."""
    length = _LENGTH[period]
    return one.date[:length] if one.date is not None and len(one.date) >= length else ""


def _cell(one: Sighting, origin: tuple[int, int], cell_km: float) -> Cell:
    latitude, longitude = origin
    east = ((one.longitude or 0) - longitude + 180) % 360 - 180
    metres = KM_PER_DEGREE * math.cos(math.radians(latitude)) * east, KM_PER_DEGREE * ((one.latitude or 0) - latitude)
    return math.floor(metres[0] / cell_km), math.floor(metres[1] / cell_km)


# --- files ---------------------------------------------------------------------------------------------------


def write_histories(folder: Path, found: Histories) -> None:
    """Write a new folder: histories.inp, histories.csv, occasions.csv; traps.txt, captures.txt, matrix.csv."""
    with new_folder(folder) as new:
        files = {"histories.inp": _inp(found), "histories.csv": _csv(found), "occasions.csv": _occasions(found)}
        if found.cells:
            files |= {"traps.txt": _traps(found), "captures.txt": _captures(found), "matrix.csv": _matrix(found)}
        for name, content in files.items():
            (new / name).write_bytes(content)


def _inp(found: Histories) -> bytes:
    """Return MARK's encounter histories of one group."""
    lines = [
        f"/* {len(found.seen)} individuals, {len(found.occasions)} occasions: each a {found.period} with photos */",
        f"/* occasions: {' '.join(found.occasions)} */",
        f"/* intervals in {found.period}s: {' '.join(map(str, found.intervals))} */",
        *(f"/* {one.replace('*/', '* /')} */ {found.history(one)} 1;" for one in found.seen),
    ]
    return _lines(lines)


def _csv(found: Histories) -> bytes:
    return csv_bytes(("ch", "id"), ({"ch": found.history(one), "id": one} for one in found.seen))


def _occasions(found: Histories) -> bytes:
    intervals = [*found.intervals, None]
    rows = (
        {"occasion": number, found.period: name, "interval": interval}
        for number, (name, interval) in enumerate(zip(found.occasions, intervals, strict=True), 1)
    )
    return csv_bytes(("occasion", found.period, "interval"), rows)


def _traps(found: Histories) -> bytes:
    latitude, longitude = found.origin
    lines = [
        f"# detectors: cells of {found.cell_km:g} km; x and y: their centres, m east and north of "
        f"latitude {latitude}, longitude {longitude}",
        *(f"{n} {_metres(x, found)} {_metres(y, found)}" for n, (x, y) in enumerate(found.cells, 1)),
    ]
    return _lines(lines)


def _metres(cells: int, found: Histories) -> str:
    return f"{(cells + 0.5) * found.cell_km * 1000:.0f}"


def _captures(found: Histories) -> bytes:
    """Return secr's captures; characters that would end an identifier there are written as in web addresses."""
    header = "# session individual occasion detector"
    return _lines([header, *(f"1 {quote(who, safe='')} {when + 1} {where + 1}" for who, when, where in found.captures)])


def _matrix(found: Histories) -> bytes:
    """Return on how many occasions each individual (row) was in each cell (column)."""
    counts: dict[str, dict[str, int]] = {one: {} for one in found.seen}
    for who, _, where in found.captures:
        counts[who][str(where + 1)] = counts[who].get(str(where + 1), 0) + 1
    names = [str(number + 1) for number in range(len(found.cells))]
    return csv_bytes(("id", *names), ({"id": who, **dict.fromkeys(names, 0), **own} for who, own in counts.items()))


def _lines(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
