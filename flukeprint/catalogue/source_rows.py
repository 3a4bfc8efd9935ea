"""What a source says about each photo, whether it is a folder or a table; and what people's words in it mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.wording import counted
from flukeprint.data.photo_folders import SUFFIXES
from flukeprint.data.spellings import unknown_among
from flukeprint.retrieval.names import check_ids

_ISO = re.compile(r"(\d{4})(?:[-/.](\d{1,2})(?:[-/.](\d{1,2}))?)?(?:[T ](\d{1,2}):(\d\d)(?::(\d\d))?(?:\.\d+)?)?Z?")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)")
_LOCAL = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?:[T ]+(\d{1,2}):(\d\d)(?::(\d\d))?)?")


@dataclass(frozen=True)
class SourceRow:
    """What a source says about one photo; None where it says nothing."""

    where: str  # where it stands in the source, for people
    file: Path | None  # None: there is none, `fault` says why
    individual: str | None = None  # as the source has it
    encounter: str | None = None
    taken_at: str | None = None  # ISO 8601
    place: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    photographer: str | None = None
    viewpoint: str | None = None
    quality: str | None = None
    notes: str | None = None  # on the encounter
    fault: str | None = None  # why the row cannot be taken


@dataclass(frozen=True)
class Source:
    """All that a source says."""

    name: str  # absolute path: encounters of one name in two sources are two
    rows: list[SourceRow]
    remarks: list[str]  # what was guessed, and what was left alone


def is_nobody(text: str | None) -> bool:
    """Tell whether a source's word for an individual says that nobody knows the whale."""
    return text is None or text == "new_whale" or not text.strip() or bool(unknown_among([text]))


def id_of(text: str) -> str:
    """Return the id of an individual as a source calls it: blanks become `_`; refuse what cannot be an id."""
    name = "_".join(text.split())
    check_ids([name])
    return name


def moment(value: Any, *, day_first: bool | None) -> str | None:
    """Return a cell's date or time in ISO 8601, as exact as it is; None for an empty one.

    `day_first` says how 3/4/2024 is to be read; None: such dates are refused.

    Raises:
        FlukeprintError: it is no date.
    """
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds").removesuffix("T00:00:00")
    if isinstance(value, date):
        return value.isoformat()
    text = str(value or "").strip()
    if not text:
        return None
    parts = _parts(text, day_first)
    try:
        year, month, day, *time = [None if part is None else int(part) for part in parts]
        return _iso(year or 0, month, day, time)
    except (ValueError, TypeError):
        raise FlukeprintError(f"{text!r} is no date, expected one such as 2024-07-01 or 2024-07-01 09:30.") from None


def _parts(text: str, day_first: bool | None) -> tuple[str | None, ...]:
    """Return year, month, day, hours, minutes and seconds; nothing where the text is no date."""
    if found := _COMPACT.fullmatch(text):
        return (*found.groups(), None, None, None)
    if found := _ISO.fullmatch(text):
        return found.groups()
    if found := _LOCAL.fullmatch(text):
        first, second, year, *time = found.groups()
        by_value = None if int(first) <= 12 and int(second) <= 12 and first != second else int(first) > 12
        is_day = by_value if by_value is not None else day_first
        if is_day is None:
            raise FlukeprintError(f"{text!r} can be read in two ways. Say which: --dates day-first or month-first.")
        return (year, second, first, *time) if is_day else (year, first, second, *time)
    return ()


def _iso(year: int, month: int | None, day: int | None, time: list[int | None]) -> str:
    if month is None:
        datetime(year, 1, 1)  # refuses what is no year
        return f"{year:04}"
    if day is None:
        return date(year, month, 1).isoformat()[:7]
    if not time or time[0] is None:
        return date(year, month, day).isoformat()
    return datetime(year, month, day, time[0], time[1] or 0, time[2] or 0).isoformat()


def day_first_of(values: Iterable[Any]) -> bool | None:
    """Tell by a column's dates such as 31/4/2024 how 3/4/2024 is to be read there; None if they do not say."""
    found = [match for value in values if (match := _LOCAL.fullmatch(str(value or "").strip()))]
    first, second = (any(int(match[group]) > 12 for match in found) for group in (1, 2))
    return first if first != second else None


def degrees(value: Any, most: float) -> float | None:
    """Return a cell's latitude (`most` 90) or longitude (180) in degrees, with a decimal point or comma."""
    text = str("" if value is None else value).strip().replace(",", ".").removesuffix("°")
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = most + 1
    if not abs(number) <= most:
        raise FlukeprintError(f"{text!r} is no position, expected decimal degrees from -{most:g} to {most:g}.")
    return number


def photos_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the photos in a folder and its subfolders, and its other files, each sorted; hidden ones are left out."""
    photos: list[Path] = []
    others: list[Path] = []
    for path in _files_below(folder):
        (photos if path.suffix.lower() in SUFFIXES else others).append(path)
    return photos, others


def _files_below(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise FlukeprintError(f"the folder {str(folder)!r} cannot be listed ({error.strerror}).") from None
    for entry in entries:
        if entry.name.startswith((".", "@")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _files_below(entry)
        elif not entry.is_dir():
            yield entry


def left_alone(others: Iterable[Path]) -> list[str]:
    """Say how many files are no photos, by their suffix."""
    suffixes = [path.suffix.lower() or "no suffix" for path in others]
    if not suffixes:
        return []
    counts = ", ".join(f"{suffixes.count(suffix)} {suffix}" for suffix in sorted(set(suffixes)))
    return [f"{counted(len(suffixes), 'other file')} left alone: {counts}"]
