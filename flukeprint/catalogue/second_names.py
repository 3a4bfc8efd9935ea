"""Files that sources have under two ids. The photo is in the catalogue once, as the first source said.

The second individual is there as well, even if no photo shows it, and that it may be the same whale is kept as a
question. People answer it: `merge` the two, `confirm` that the photo shows the second one, or `reject` that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select
from sqlalchemy.orm import aliased

from flukeprint.catalogue.catalogues import command
from flukeprint.catalogue.entities import (
    DecisionRow,
    EncounterStateRow,
    IndividualStateRow,
    PhotoRow,
    PhotoStateRow,
    SecondNameRow,
)
from flukeprint.catalogue.import_plan import PlannedPhoto
from flukeprint.catalogue.individual_ids import ever_called, new_individual
from flukeprint.catalogue.kept_state import keys_of
from flukeprint.core.safe_text import printable


@dataclass(frozen=True)
class SecondName:
    """A photo that a source has under another id than the catalogue."""

    photo: int
    encounter: int
    sha256: str
    key: int | None  # of whom it shows at present
    id: str | None
    second_key: int  # of whom a source says that it shows, who that is at present
    second: str
    seen: int  # the last decision about its encounter

    def merge(self, place: str) -> str:
        """Return the command for: both are one whale. `place` is the catalogue's."""
        return command(place, "decide", "merge", self.second, self.id or "")

    def about_photo(self, action: str, place: str) -> str:
        """Return the command that confirms or rejects that the photo shows the second individual."""
        seen = ["--seen", str(self.seen)] if self.seen else []
        return command(place, "decide", action, f"p{self.photo}", self.second, *seen)


def keep_second_names(
    connection: Connection, plan: Iterable[PlannedPhoto], who: str
) -> tuple[list[SecondName], list[str]]:
    """Keep what rows say of photos that are there under another id; return the open questions, and new individuals.

    What was said of the photo before, by a source or by people, is no question again, nor is an individual's old id.
    """
    rows = [one for one in plan if one.verdict in ("twice", "known") and one.identity is not None]
    if not rows:
        return [], []
    facts = {row.sha256: row for row in connection.execute(_FACTS)}
    keys, made, asked = ever_called(connection), [], set()
    root = _roots(connection)
    for one in rows:
        photo = facts.get(one.own.sha256)
        name = one.identity or ""
        if photo is None or (name in keys and root[keys[name]] == root.get(photo.individual)):
            continue
        if name not in keys:
            keys[name] = key = new_individual(connection, name, one.display_name)
            root[key] = key
            made.append(name)
        asked.add(photo.id)
        if root[keys[name]] not in _said(connection, photo.id, photo.encounter_id, root):
            _add(connection, photo.id, keys[name], who)
    return [one for one in open_second_names(connection) if one.photo in asked], made


_FACTS = select(PhotoRow.sha256, PhotoRow.id, PhotoRow.encounter_id, PhotoStateRow.individual).join(
    PhotoStateRow, PhotoStateRow.photo_id == PhotoRow.id
)


def _roots(connection: Connection) -> dict[int | None, int]:
    """Return of every individual who it is: itself, or whom it was merged into."""
    rows = connection.execute(select(IndividualStateRow))
    return {row.key: row.merged_into or row.key for row in rows}


def _said(connection: Connection, photo: int, encounter: int, root: Mapping[int | None, int]) -> set[int]:
    """Return the individuals that were ever named of a photo, by decisions or as a second name."""
    decided = select(DecisionRow.individual).where(
        or_(DecisionRow.photo_id == photo, DecisionRow.encounter_id == encounter), DecisionRow.individual.is_not(None)
    )
    named = select(SecondNameRow.individual).where(SecondNameRow.photo_id == photo)
    return {root[key] for query in (decided, named) for key in connection.execute(query).scalars()}


def _add(connection: Connection, photo: int, individual: int, who: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute(insert(SecondNameRow).values(photo_id=photo, individual=individual, at=now, who=who))


def open_second_names(
    connection: Connection, *, encounter: int | None = None, individual: int | None = None
) -> list[SecondName]:
    """Return the questions that nobody answered yet, in order of the photos.

    With `encounter`, those about its photos; with `individual`, the key of one that was not merged, those that name it.
    """
    query, second, present = _questions()
    if encounter is not None:
        query = query.where(PhotoRow.encounter_id == encounter)
    if individual is not None:
        query = query.where(or_(second.key == individual, present.key == individual))
    rows = connection.execute(query).all()
    rejected = {row.photo_id: keys_of(row.rejected) for row in rows}
    states = select(IndividualStateRow.key, IndividualStateRow.merged_into)
    states = states.where(IndividualStateRow.key.in_(frozenset[int]().union(*rejected.values())))
    root = {key: into or key for key, into in connection.execute(states)}
    return [
        SecondName(row.photo_id, row.encounter_id, row.sha256, row.key, row.id, row.second_key, row.second, row.version)
        for row in rows
        if row.second_key not in {root[key] for key in rejected[row.photo_id]}
    ]


def _questions() -> tuple[Any, Any, Any]:
    """Select second names of photos that show somebody else; return whom they name and whom they show as well."""
    state = IndividualStateRow
    named, second, shown, present = aliased(state), aliased(state), aliased(state), aliased(state)
    query = (
        select(SecondNameRow.photo_id, PhotoRow.encounter_id, PhotoRow.sha256, PhotoStateRow.rejected)
        .add_columns(EncounterStateRow.version, present.key, present.id)
        .add_columns(second.key.label("second_key"), second.id.label("second"))
        .join(named, named.key == SecondNameRow.individual)
        .join(second, second.key == func.coalesce(named.merged_into, named.key))
        .join(PhotoRow, PhotoRow.id == SecondNameRow.photo_id)
        .join(PhotoStateRow, PhotoStateRow.photo_id == SecondNameRow.photo_id)
        .join(EncounterStateRow, EncounterStateRow.encounter_id == PhotoRow.encounter_id)
        .outerjoin(shown, shown.key == PhotoStateRow.individual)
        .outerjoin(present, present.key == func.coalesce(shown.merged_into, shown.key))
        .where(or_(present.key.is_(None), present.key != second.key))
        .order_by(SecondNameRow.photo_id, SecondNameRow.individual)
    )
    return query, second, present


def second_name_lines(found: Collection[SecondName], place: str) -> Iterator[str]:
    """Yield for each question what is asked, and the commands that answer it."""
    for one in found:
        confirm, reject = one.about_photo("confirm", place), one.about_photo("reject", place)
        if one.id is None:
            yield printable(f"p{one.photo} shows nobody yet, and a source has it as {one.second}: {confirm}")
            continue
        yield printable(f"one file, two ids: p{one.photo} is of {one.id} here, and of {one.second} in a source")
        yield printable(f"  if both are one whale: {one.merge(place)}")
        yield printable(f"  if it shows {one.second}: {confirm}; if not: {reject}")
