"""Why decisions that were just saved may be mistakes. They hold: what was a mistake is undone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import DecisionRow, PhotoRow, PhotoStateRow
from flukeprint.catalogue.sightings import own_ids, present_ids
from flukeprint.core.safe_text import told_apart
from flukeprint.data.spellings import looks_like, unknown_among


def doubts_about(catalogue: Catalogue, decisions: Sequence[int]) -> list[str]:
    """Say which ids that they gave are hardly meant, and which photos are nearly the same picture as another's.

    Such pictures are those that `identify` last told of the encounter.
    """
    with catalogue.database.reading() as connection:
        query = select(DecisionRow).where(DecisionRow.id.in_(decisions)).order_by(DecisionRow.id)
        rows = connection.execute(query).all()
        own, present = own_ids(connection), present_ids(connection)
        given = sorted({own[row.individual] for row in rows if row.action in ("new", "split", "rename")})
        doubts = [line for name in given for line in _about_id(name, own.values())]
        named = [row for row in rows if row.action in ("confirm", "new", "split")]
        return doubts + [line for row in named for line in _about_pictures(connection, row, present)]


def _about_id(name: str, known: Collection[str]) -> Iterator[str]:
    for other in looks_like(name, known):
        yield f"{name} looks like {told_apart(name, other)}: if both are one whale, merge them"
    if unknown_among([name]):
        yield f"{name} says that nobody knows the whale. Give each unknown whale an id of its own"


def _about_pictures(connection: Connection, decision: Any, present: Mapping[int, str]) -> Iterator[str]:
    query = select(PhotoRow.id).where(PhotoRow.encounter_id == decision.encounter_id)
    own = {decision.photo_id} if decision.photo_id else set(connection.execute(query).scalars())
    whom = present[decision.individual]
    for pair in json.loads(decision.shown or "{}").get("near_duplicates", ()):
        state = select(PhotoStateRow.individual).where(PhotoStateRow.photo_id == pair["of"])
        other = present.get(connection.execute(state).scalar() or 0)
        if pair["photo"] in own and other not in (None, whom):
            yield f"p{pair['photo']} is nearly the same picture as p{pair['of']} of {other}, and now shows {whom}"
