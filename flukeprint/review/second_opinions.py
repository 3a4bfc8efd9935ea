"""What waits for a second opinion is kept from whoever is still to give it, so that nobody is told what to see."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection, select

from flukeprint.catalogue.entities import PhotoRow
from flukeprint.catalogue.folded_log import LoggedImport
from flukeprint.catalogue.sightings import LoggedDecision
from flukeprint.review.pages import Visitor
from flukeprint.review.work_list import WorkList

# What takes the place of an action where a visitor may not know it.
WAITS = "waits"
_Entry = TypeVar("_Entry", LoggedDecision, LoggedDecision | LoggedImport)


def kept_from(connection: Connection, visitor: Visitor, encounters: Collection[int]) -> set[int]:
    """Return of some encounters those of which a visitor may not know yet what was decided."""
    if visitor.may("administer"):
        return set()
    return WorkList(connection, visitor.name, visitor.settings.two_reviewers).waiting(encounters)


def as_told(connection: Connection, visitor: Visitor, log: Sequence[_Entry]) -> list[_Entry]:
    """Return a log in which others' decisions about such encounters and their photos do not say what was decided."""
    kept = untold(connection, visitor, [one for one in log if isinstance(one, LoggedDecision)])
    return [_told(one) if one.id in kept and isinstance(one, LoggedDecision) else one for one in log]


def untold(connection: Connection, visitor: Visitor, log: Sequence[LoggedDecision]) -> set[int]:
    """Return the numbers of the decisions of which a visitor may know no more than that they were made."""
    if not visitor.settings.two_reviewers:
        return set()
    others = [one for one in log if one.who != visitor.name]
    photos = select(PhotoRow.id, PhotoRow.encounter_id).where(PhotoRow.id.in_([one.photo for one in others]))
    of_photo = dict(connection.execute(photos).all())
    about = {one.id: one.encounter or of_photo.get(one.photo or 0) for one in others}
    kept = kept_from(connection, visitor, {encounter for encounter in about.values() if encounter is not None})
    return {number for number, encounter in about.items() if encounter in kept}


def _told(one: LoggedDecision) -> LoggedDecision:
    return replace(one, action=WAITS, individual=None, other=None, shown=None, note=None)
