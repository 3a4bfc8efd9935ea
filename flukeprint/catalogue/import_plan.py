"""What an import would do, row by row, before it does anything: the same plan is shown by a dry run and carried out.

Photos make an encounter where the source says so; else those of one individual on one day; else each is one of its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sqlalchemy import ColumnElement, Connection, func, or_, select

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import EncounterRow, PhotoRow, PhotoStateRow
from flukeprint.catalogue.exif import OwnFacts, own_facts
from flukeprint.catalogue.folder_source import Layout, read_folder
from flukeprint.catalogue.sightings import own_ids, present_ids
from flukeprint.catalogue.source_rows import Source, SourceRow, id_of
from flukeprint.catalogue.table_source import read_table_source, said_columns
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable, told_apart
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.photos import UnusableError, reason
from flukeprint.data.spellings import spelling_key

# new: it will be added; known: it is in the catalogue; twice: the source has the same file before; refused: `why`.
Verdict = Literal["new", "known", "twice", "refused"]
_UNREAD = OwnFacts("")
_WORKERS = 2  # threads that look at files
_DAY = 10  # characters of a date that names a day


@dataclass(frozen=True)
class PlannedPhoto:
    """A row of a source, and what becomes of it."""

    row: SourceRow
    verdict: Verdict
    own: OwnFacts = _UNREAD
    identity: str | None = None  # id of the individual
    encounter: str = ""  # what the catalogue knows the encounter by
    encounter_name: str = ""
    why: str | None = None  # of a row that is not taken; what is odd about one that is

    @property
    def taken_at(self) -> str | None:
        """When it was taken: as the source says, or as the photo says where that only is more exact."""
        said, own = self.row.taken_at, self.own.taken_at
        return own if said is None or (own is not None and own.startswith(said)) else said

    @property
    def display_name(self) -> str | None:
        """The individual's name where the source spells it otherwise than its id."""
        return None if self.row.individual == self.identity else self.row.individual


def read_source(
    path: Path,
    layout: Layout,
    photos: Path | None = None,
    columns: Iterable[str] = (),
    *,
    day_first: bool | None = None,
) -> Source:
    """Read a folder, or a table whose photos are below the folder `photos` (else beside it)."""
    if path.is_dir():
        if photos or tuple(columns) or day_first is not None:
            raise FlukeprintError(f"{str(path)!r} is a folder; --photos, --column and --dates are about a table.")
        return read_folder(path, layout)
    return read_table_source(path, photos or path.absolute().parent, said_columns(columns), day_first=day_first)


def planned(catalogue: Catalogue, source: Source) -> list[PlannedPhoto]:
    """Look at every file of a source; say of every row, in order, what becomes of it. Nothing is changed."""
    from tqdm import tqdm

    with catalogue.database.reading() as connection:
        judge = _Judge(source, _Holds.of(connection))
    with ThreadPoolExecutor(_WORKERS) as pool:
        looked = pool.map(_looked_at, source.rows)
        rows = list(tqdm(looked, "files", len(source.rows), unit="file", disable=None))
    # Of one file twice the one that names somebody counts, wherever it stands.
    order = sorted(range(len(rows)), key=lambda place: rows[place].row.individual is None)
    judged = {place: judge(rows[place]) for place in order}
    return [judged[place] for place in range(len(rows))]


def tried(plan: Iterable[PlannedPhoto]) -> list[PlannedPhoto]:
    """Read the photos that a plan would add, as its import will; refuse those that cannot be used."""
    from tqdm import tqdm

    with ThreadPoolExecutor(_WORKERS) as pool:
        rows = list(plan)
        return list(tqdm(pool.map(_tried, rows), "photos", len(rows), unit="photo", disable=None))


def _tried(photo: PlannedPhoto) -> PlannedPhoto:
    if photo.verdict != "new" or photo.row.file is None:
        return photo
    fault = inspect_photo(photo.row.file.parent, photo.row.file.name).fault
    return photo if fault is None else replace(photo, verdict="refused", why=fault)


def _looked_at(row: SourceRow) -> PlannedPhoto:
    if row.file is None:
        return PlannedPhoto(row, "refused", why=row.fault)
    try:
        return PlannedPhoto(row, "new", own_facts(row.file))
    except (OSError, UnusableError) as error:
        return PlannedPhoto(row, "refused", why=reason(error))


@dataclass(frozen=True)
class _Holds:
    """What the catalogue holds already."""

    photos: Mapping[str, str | None]  # SHA-256 -> whom the photo shows
    ids: Mapping[str, str]  # id -> present id: another one for those that were merged

    @classmethod
    def of(cls, connection: Connection) -> _Holds:
        own, present = own_ids(connection), present_ids(connection)
        rows = connection.execute(
            select(PhotoRow.sha256, PhotoStateRow.individual).join(PhotoStateRow, PhotoStateRow.photo_id == PhotoRow.id)
        )
        photos = {sha256: None if key is None else present[key] for sha256, key in rows}
        return cls(photos, {own[key]: present[key] for key in own})


@dataclass
class _Judge:
    """Says of one row after the other what becomes of it."""

    source: Source
    holds: _Holds
    rows: dict[str, PlannedPhoto] = field(default_factory=dict)  # by SHA-256
    spellings: dict[str, str] = field(default_factory=dict)  # id -> how the source spells it
    alike: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # spelling_key -> ids

    def __post_init__(self) -> None:
        """Take in the ids that there are."""
        for name in (NEW_WHALE, *self.holds.ids):
            self.alike[spelling_key(name)].add(name)

    def __call__(self, photo: PlannedPhoto) -> PlannedPhoto:
        if photo.verdict == "refused":
            return photo
        try:
            identity, odd = self._identity(photo.row)
        except FlukeprintError as error:
            return replace(photo, verdict="refused", why=str(error))
        named = replace(photo, identity=identity, why=odd)
        if named.own.sha256 in self.holds.photos:
            return replace(named, verdict="known", why=self._said_otherwise(named))
        first = self.rows.setdefault(named.own.sha256, named)
        if first is not named:
            return replace(named, verdict="twice", why=_same_file(first, named))
        key, name = _encounter(self.source, named)
        return replace(named, encounter=key, encounter_name=name)

    def _identity(self, row: SourceRow) -> tuple[str | None, str | None]:
        """Return the id of a row's individual, and what is odd about it."""
        if row.individual is None:
            return None, None
        identity = id_of(row.individual)
        spelling = self.spellings.setdefault(identity, row.individual)
        if spelling != row.individual:
            raise FlukeprintError(
                f"{printable(row.individual)!r} would have the same id as {printable(spelling)!r}: {identity}. If both "
                "are one whale, spell them alike; else rename one."
            )
        group = self.alike[spelling_key(identity)]
        group.add(identity)
        alike = [] if identity in self.holds.ids else sorted(group - {identity})
        near = ", ".join(told_apart(identity, other) for other in alike)
        return identity, f"{identity} looks like {near}" if alike else None

    def _said_otherwise(self, photo: PlannedPhoto) -> str | None:
        there = self.holds.photos[photo.own.sha256]
        if photo.identity is None or self.holds.ids.get(photo.identity) == there is not None:
            return None
        return f"the catalogue has it as {there or 'nobody'}, the source as {photo.identity}: it stays as it is"


def _same_file(first: PlannedPhoto, second: PlannedPhoto) -> str:
    alike = second.identity in (None, first.identity)
    other = "" if alike else f", there as {first.identity}; that it is {second.identity} as well is kept as a question"
    return f"the same file as {printable(first.row.where)}{other}"


def _encounter(source: Source, photo: PlannedPhoto) -> tuple[str, str]:
    """Return what the catalogue, and people, know the encounter of a photo by."""
    row, day = photo.row, (photo.taken_at or "")[:_DAY]
    if row.encounter is not None:
        key, name = ["encounter", source.name, row.encounter, photo.identity], row.encounter
    elif photo.identity is not None and len(day) == _DAY:
        key, name = ["day", source.name, photo.identity, day], f"{photo.identity} {day}"
    else:
        key, name = ["photo", source.name, photo.own.sha256], row.file.name if row.file else row.where
    return json.dumps(key), name


def source_of(key: str) -> str | None:
    """Return the source of an encounter by what the catalogue knows it by; older single photos do not say it."""
    parts = json.loads(key)
    return parts[1] if len(parts) > 2 else None


def is_of_source(name: str) -> ColumnElement[bool]:
    """Tell of an EncounterRow whether it came from a source."""
    starts = [json.dumps([kind, name]).removesuffix("]") + "," for kind in ("encounter", "day", "photo")]
    return or_(*(func.substr(EncounterRow.key, 1, len(start)) == start for start in starts))
