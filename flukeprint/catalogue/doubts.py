"""Why decisions that were just saved may be mistakes. They hold: what was a mistake is undone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import DecisionRow, IndividualStateRow, PhotoRow, PhotoStateRow
from flukeprint.core.safe_text import told_apart
from flukeprint.data.spellings import looks_like, unknown_among


def doubts_about(catalogue: Catalogue, decisions: Sequence[int]) -> list[str]:
    """Say which ids that they gave are hardly meant, and which photos are nearly the same picture as another's.

    Such pictures are those that `identify` last told of the encounter.
    """
    with catalogue.database.reading() as connection:
        query = select(DecisionRow).where(DecisionRow.id.in_(decisions)).order_by(DecisionRow.id)
        rows = connection.execute(query).all()
        keys = {row.individual for row in rows if row.action in ("new", "split", "rename")}
        # All ids are read only where one was given: a catalogue may have many thousands.
        ids = connection.execute(select(IndividualStateRow.key, IndividualStateRow.id)).all() if keys else ()
        given, known = sorted(name for key, name in ids if key in keys), [name for _, name in ids]
        doubts = [line for name in given for line in _about_id(name, known)]
        named = [row for row in rows if row.action in ("confirm", "new", "split")]
        return doubts + [line for row in named for line in _about_pictures(connection, row)]


def _about_id(name: str, known: Collection[str]) -> Iterator[str]:
    for other in looks_like(name, known):
        yield f"{name} looks like {told_apart(name, other)}: if both are one whale, merge them"
    if unknown_among([name]):
        yield f"{name} says that nobody knows the whale. Give each unknown whale an id of its own"


def _about_pictures(connection: Connection, decision: Any) -> Iterator[str]:
    query = select(PhotoRow.id).where(PhotoRow.encounter_id == decision.encounter_id)
    own = {decision.photo_id} if decision.photo_id else set(connection.execute(query).scalars())
    whom = _present_id(connection, decision.individual)
    for pair in json.loads(decision.shown or "{}").get("near_duplicates", ()):
        state = select(PhotoStateRow.individual).where(PhotoStateRow.photo_id == pair["of"])
        other = _present_id(connection, connection.execute(state).scalar())
        if pair["photo"] in own and other not in (None, whom):
            yield f"p{pair['photo']} is nearly the same picture as p{pair['of']} of {other}, and now shows {whom}"


def _present_id(connection: Connection, key: int | None) -> str | None:
    """Return the present id of an individual, of one that was merged that of whom it was merged into."""
    own, into = aliased(IndividualStateRow), aliased(IndividualStateRow)
    query = select(func.coalesce(into.id, own.id)).select_from(own).outerjoin(into, into.key == own.merged_into)
    return connection.execute(query.where(own.key == key)).scalar()
