"""The pages that show something: nothing is changed by them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Path, Query
from sqlalchemy import Connection, func, select
from starlette.responses import RedirectResponse, Response

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.doubts import doubts_about
from flukeprint.catalogue.entities import (
    IMPORT_NOTE,
    AnswerRow,
    DecisionRow,
    EncounterRow,
    IndividualStateRow,
    PhotoRow,
)
from flukeprint.catalogue.folded_log import LoggedImport, read_folded_log
from flukeprint.catalogue.second_names import open_second_names
from flukeprint.catalogue.sightings import LoggedDecision, read_log
from flukeprint.core.errors import FlukeprintError
from flukeprint.review.access import Looking, Opened
from flukeprint.review.encounter_view import EncounterView, about_percentages, encounter_view
from flukeprint.review.guards import KEPT
from flukeprint.review.individual_view import Order, found_by, individual_view, listed_individuals
from flukeprint.review.pages import Visitor, page
from flukeprint.review.position_map import drawn_map
from flukeprint.review.previews import Previews, Size
from flukeprint.review.second_opinions import WAITS, as_told, kept_from
from flukeprint.review.work_list import COUNTED, KINDS, TITLES, Kind, WorkList, deciders, is_settled, newest_source

router = APIRouter()

PER_PAGE = 48
_RECENT = 8
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Page = Annotated[int, Query(ge=1, le=100_000, alias="page")]
Word = Annotated[str, Query(max_length=200)]
Decided = Annotated[int | None, Query(ge=1, le=2**31 - 1)]  # number of a decision


@router.get("/")
def start(visitor: Looking, catalogue: Opened) -> Response:
    """Say what is to do."""
    with catalogue.database.reading() as connection:
        work, newest = work_of(connection, visitor), work_of(connection, visitor, newest=True)
        counts, first = work.counts(), work.first()
        totals = [connection.execute(select(func.count(column))).scalar_one() for column in _COUNTED_COLUMNS]
        log = as_told(connection, visitor, read_folded_log(connection, newest=_RECENT))
        answer = select(AnswerRow.content).where(AnswerRow.encounter_id == first)
        says = about_percentages(json.loads(connection.execute(answer).scalar() or "{}"))
        names = len(open_second_names(connection))
        left = newest.left() if newest.source else 0
    return page(
        "start", visitor, counts=counts, most=COUNTED, first=first, totals=totals, log=log, titles=TITLES,
        place=catalogue.place.rpartition("@")[2], about_percentages=says, second_names=names, left=left,
        newest=newest.source and PurePath(newest.source).name,
    )  # fmt: skip


_COUNTED_COLUMNS = (PhotoRow.id, EncounterRow.id, IndividualStateRow.key)


def work_of(connection: Connection, visitor: Visitor, *, newest: bool = False) -> WorkList:
    """Return what a visitor is to decide; with `newest` only of the source that came last."""
    source = newest_source(connection) if newest else None
    return WorkList(connection, visitor.name, visitor.settings.two_reviewers, source)


@router.get("/queue")
def queue(
    visitor: Looking, catalogue: Opened, kind: Kind | None = None, number: Page = 1, *, newest: bool = False
) -> Response:
    """List what is to be decided: of a kind, else of the first kind of which there is something."""
    with catalogue.database.reading() as connection:
        work = work_of(connection, visitor, newest=newest)
        counts = work.counts()
        first = next((one for one in KINDS if counts[one]), KINDS[0])
        listed = first if kind is None else kind
        items = work.items(listed, (number - 1) * PER_PAGE, PER_PAGE + 1)
    return page(
        "queue", visitor, kind=listed, kinds=KINDS, titles=TITLES, counts=counts, most=COUNTED, number=number,
        filled=[one for one in KINDS if counts[one]], items=items[:PER_PAGE], more=len(items) > PER_PAGE,
        newest=work.source,
    )  # fmt: skip


@router.get("/second-names")
def second_names(visitor: Looking, catalogue: Opened, number: Page = 1, saved: int = 0) -> Response:
    """List the files that sources have under two ids."""
    with catalogue.database.reading() as connection:
        asked = open_second_names(connection)
        kept = kept_from(connection, visitor, {one.encounter for one in asked})
        found = [one for one in asked if one.encounter not in kept][(number - 1) * PER_PAGE :]
    return page(
        "second_names", visitor, second_names=found[:PER_PAGE], number=number, more=len(found) > PER_PAGE,
        said=said_of(catalogue, visitor, saved),
    )  # fmt: skip


@router.get("/encounters/{number}")
def encounter(
    visitor: Looking, catalogue: Opened, number: Number, saved: int = 0, candidate: int = 1, *, newest: bool = False
) -> Response:
    """Show an encounter beside its candidates; `newest`: what follows is of the source that came last."""
    return encounter_page(visitor, catalogue, number, saved=saved, candidate=candidate, newest=newest)


def encounter_page(  # noqa: PLR0913
    visitor: Visitor, catalogue: Catalogue, number: int, *, saved: int = 0, candidate: int = 1, status: int = 200,
    refused: str = "", typed: str = "", newest: bool = False,
) -> Response:  # fmt: skip
    """Return the page of an encounter; `refused` says why what was just wished was not saved."""
    try:
        view = encounter_view(catalogue, number, visitor)
    except FlukeprintError as error:
        raise HTTPException(404, str(error)) from None
    with catalogue.database.reading() as connection:
        work = work_of(connection, visitor, newest=newest)
        kind = work.kind_of(number)
        next_ = work.following(number, kind)
        opinions = deciders(connection, number) if visitor.settings.two_reviewers else {}
        settled = not visitor.settings.two_reviewers or is_settled(connection, number)
    blind = view.status == "confirmed" and not settled and visitor.name not in opinions and view.asked
    return page(
        "encounter", visitor, status, view=view, kind=kind, titles=TITLES, next=next_, blind=blind, settled=settled,
        opinions=opinions, chosen=min(max(candidate, 1), max(len(view.candidates), 1)), refused=refused, typed=typed,
        said=said_of(catalogue, visitor, saved), proposed_id=_proposed_id(view, catalogue),
        newest=newest,
    )  # fmt: skip


def _proposed_id(view: EncounterView, catalogue: Catalogue) -> str:
    """Return an id that is not taken yet for a new individual."""
    name, number = f"new-e{view.id}", 1
    with catalogue.database.reading() as connection:
        while connection.execute(select(IndividualStateRow.key).where(IndividualStateRow.id == name)).first():
            number += 1
            name = f"new-e{view.id}-{number}"
    return name


def said_of(catalogue: Catalogue, visitor: Visitor, saved: int) -> tuple[list[LoggedDecision], list[str]] | None:
    """Return decisions that were just saved, as the log has them, and what may be wrong with them."""
    if saved < 1:
        return None
    with catalogue.database.reading() as connection:
        found = as_told(connection, visitor, read_log(connection, DecisionRow.id == min(saved, 2**31 - 1)))
    told = [one.id for one in found if one.action != WAITS]
    return (found, doubts_about(catalogue, told)) if found else None


@router.get("/individuals")
def individuals(visitor: Looking, catalogue: Opened, q: Word = "", order: Order = "id", number: Page = 1) -> Response:
    """List the individuals."""
    with catalogue.database.reading() as connection:
        found = listed_individuals(connection, q.strip(), (number - 1) * PER_PAGE, PER_PAGE + 1, order)
    return page(
        "individuals", visitor, q=q, order=order, number=number, individuals=found[:PER_PAGE],
        more=len(found) > PER_PAGE,
    )  # fmt: skip


@router.get("/individuals/{key}")
def individual(visitor: Looking, catalogue: Opened, key: Number, saved: int = 0) -> Response:
    """Show an individual with its sightings."""
    return individual_page(visitor, catalogue, key, saved=saved)


def individual_page(
    visitor: Visitor, catalogue: Catalogue, key: int, *, saved: int = 0, status: int = 200, refused: str = ""
) -> Response:
    """Return the page of an individual; `refused` says why what was just wished was not saved."""
    try:
        view = individual_view(catalogue, key, visitor)
    except FlukeprintError as error:
        raise HTTPException(404, str(error)) from None
    if view.key != key and status == 200:
        return RedirectResponse(f"/individuals/{view.key}" + (f"?saved={saved}" if saved else ""), 303)
    said = said_of(catalogue, visitor, saved)
    drawn = drawn_map(view.positions)
    return page("individual", visitor, status, view=view, map=drawn, refused=refused, said=said)


@router.get("/search")
def search(visitor: Looking, catalogue: Opened, q: Word = "") -> Response:
    """Find what holds a word."""
    word = q.strip()
    with catalogue.database.reading() as connection:
        found = found_by(connection, word) if word else None
    return page("search", visitor, q=q, found=found)


@router.get("/log")
def log(
    visitor: Looking, catalogue: Opened, who: Word = "", before: Decided = None, first: Decided = None,
    last: Decided = None,
) -> Response:  # fmt: skip
    """List the decisions, the newest first; those of one person, older than `before`, or an import's single ones."""
    conditions = [DecisionRow.who == who] if who else []
    single = first is not None and last is not None
    found: Sequence[LoggedDecision | LoggedImport]
    with catalogue.database.reading() as connection:
        if single:
            conditions += [DecisionRow.note == IMPORT_NOTE, DecisionRow.id.between(first, last)]
            older = [] if before is None else [DecisionRow.id < before]
            found = read_log(connection, *conditions, *older, newest=PER_PAGE + 1)[::-1]
        else:
            found = read_folded_log(connection, *conditions, newest=PER_PAGE + 1, before=before)
        shown = as_told(connection, visitor, found[:PER_PAGE])
    oldest = shown[-1].first if shown and isinstance(shown[-1], LoggedImport) else shown[-1].id if shown else None
    given = {"who": who or None, "first": first, "last": last}
    address = "/log?" + urlencode({name: value for name, value in given.items() if value is not None})
    return page(
        "log", visitor, log=shown, older=oldest if len(found) > PER_PAGE else None, who=who, single=single,
        before=before, address=address,
    )  # fmt: skip


@router.get("/photos/{sha256}/{size}.jpg")
def photo(
    _visitor: Looking, catalogue: Opened, sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], size: Size
) -> Response:
    """Return a photo's preview. Its address names its content, so that a browser keeps it."""
    try:
        content = Previews(catalogue).of(sha256, size)
    except FlukeprintError as error:
        raise HTTPException(404, str(error)) from None
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": KEPT.decode()})
