"""The log as people read it: what one person imported in a row is one entry, so that it hides nobody's decisions."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, not_, select

from flukeprint.catalogue.entities import IMPORT_NOTE, DecisionRow, PhotoRow
from flukeprint.catalogue.sightings import LoggedDecision, read_log


@dataclass(frozen=True)
class LoggedImport:
    """Decisions in a row by which one person's imports said whom new encounters show."""

    id: int  # of the newest of them
    first: int  # the oldest of them
    who: str
    began_at: str
    at: str  # when the newest was made
    encounters: int
    photos: int  # of these encounters, at present


def read_folded_log(
    connection: Connection, *conditions: ColumnElement[bool], newest: int, before: int | None = None
) -> list[LoggedDecision | LoggedImport]:
    """Read so many of the newest entries, the newest first; with `before` only those older than that decision.

    `conditions` on DecisionRow leave decisions out as if they were not there.
    """
    found: list[LoggedDecision | LoggedImport] = []
    while len(found) < newest:
        older = (*conditions, *(() if before is None else (DecisionRow.id < before,)))
        rows = read_log(connection, *older, newest=newest - len(found))[::-1]
        place = next((place for place, one in enumerate(rows) if one.imported), len(rows))
        found += rows[:place]
        if place == len(rows):
            break
        found.append(run := _import_of(connection, rows[place], *conditions))
        before = run.first
    return found


def _import_of(connection: Connection, last: LoggedDecision, *conditions: ColumnElement[bool]) -> LoggedImport:
    row, until = DecisionRow, DecisionRow.id <= last.id
    own = and_(row.note == IMPORT_NOTE, row.who == last.who)
    other = select(row.id).where(*conditions, until, not_(func.coalesce(own, False))).order_by(row.id.desc()).limit(1)
    after = connection.execute(other).scalar() or 0
    imported = (*conditions, own, until, row.id > after)
    # An import decides once about each encounter.
    facts = connection.execute(select(func.min(row.id), func.min(row.at), func.count()).where(*imported)).one()
    photos = select(func.count()).select_from(PhotoRow).join(row, row.encounter_id == PhotoRow.encounter_id)
    return LoggedImport(
        id=last.id,
        first=facts[0],
        who=last.who,
        began_at=facts[1],
        at=last.at,
        encounters=facts[2],
        photos=connection.execute(photos.where(*imported)).scalar_one(),
    )
