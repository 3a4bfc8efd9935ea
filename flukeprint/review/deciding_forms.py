"""The forms that change something: decisions, and undoing them."""

from __future__ import annotations

import re
from dataclasses import replace

from fastapi import APIRouter, HTTPException
from sqlalchemy import Connection, func, select
from starlette.responses import RedirectResponse, Response

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.deciding import ConflictError, Wish, decide
from flukeprint.catalogue.entities import DecisionRow, EncounterStateRow, IndividualStateRow, PhotoRow
from flukeprint.catalogue.sightings import read_log
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable
from flukeprint.review.access import Deciding, Filled, Form, Opened, field
from flukeprint.review.looking import Number, encounter_page, individual_page, work_of
from flukeprint.review.pages import Visitor, page
from flukeprint.review.second_opinions import WAITS, as_told

router = APIRouter()
_ACTIONS = ("confirm", "reject", "unsure", "new")
_LONGEST_NOTE = 2000
_SUBJECT = re.compile(r"p(\d{1,9})")
_SEEN = re.compile(r"(\d{1,9}):(\d{1,9})")
# Where a form may lead back to: a page of these, never another site's.
_BACK = re.compile(r"/(encounters/\d+|individuals/\d+|log|second-names)?")


@router.post("/encounters/{number}/decide")
def decide_encounter(visitor: Deciding, catalogue: Opened, number: Number, form: Filled) -> Response:
    """Save what somebody decided about an encounter, and go on with the next one."""
    newest = field(form, "newest") == "1"
    with catalogue.database.reading() as connection:
        work = work_of(connection, visitor, newest=newest)
        kind = work.kind_of(number)
    try:
        saved = decide(catalogue, wishes_of(form, number), visitor.name)
    except ConflictError:
        refused = _conflict(catalogue, visitor, form, number)
        return encounter_page(visitor, catalogue, number, status=409, refused=refused, newest=newest)
    except FlukeprintError as error:
        typed = field(form, "individual")
        return encounter_page(visitor, catalogue, number, status=422, refused=str(error), typed=typed, newest=newest)
    if back := _back(form, ""):
        return RedirectResponse(f"{back}?saved={saved[-1]}", 303)
    # Only now: what was decided together with it need not be looked at.
    with catalogue.database.reading() as connection:
        following = replace(work, connection=connection).following(number, kind)
    stays = field(form, "action") == "reject" or following is None
    return RedirectResponse(f"/encounters/{number if stays else following}?saved={saved[-1]}{_among(form)}", 303)


def _among(form: Form) -> str:
    """Return what keeps whoever decides only about the newest source within it."""
    return "&newest=1" if field(form, "newest") == "1" else ""


def wishes_of(form: Form, encounter: int) -> list[Wish]:
    """Return what a form wishes: about the encounter, or one of its photos, and about others with it.

    Raises:
        FlukeprintError: it makes no sense.
    """
    action = field(form, "action")
    if action not in _ACTIONS:
        raise FlukeprintError(f"the decision is {printable(action)!r}, expected one of {', '.join(_ACTIONS)}.")
    individual = None if action == "unsure" else field(form, "individual").strip()
    note = field(form, "note").strip()[:_LONGEST_NOTE] or None
    photo = _SUBJECT.fullmatch(field(form, "subject"))
    seen = field(form, "seen")
    if not re.fullmatch(r"\d{1,9}", seen):
        raise FlukeprintError("the form does not say which decision was seen. Open the page anew.")
    about = {"photo": int(photo[1])} if photo else {"encounter": encounter}
    wishes = [Wish(action, **about, individual=individual, note=note, seen=int(seen))]  # type: ignore[arg-type]
    for other in form.get("also", []) if photo is None else []:
        found = _SEEN.fullmatch(other)
        if found is None:
            raise FlukeprintError("the form names other encounters wrongly. Open the page anew.")
        wishes.append(Wish(action, int(found[1]), individual=individual, note=note, seen=int(found[2])))  # type: ignore[arg-type]
    return wishes


def _conflict(catalogue: Catalogue, visitor: Visitor, form: Form, encounter: int) -> str:
    """Say what somebody else decided after the page was shown, about the encounter or one decided with it."""
    asked = {encounter: field(form, "seen")}
    asked |= {int(found[1]): found[2] for other in form.get("also", []) if (found := _SEEN.fullmatch(other))}
    state = EncounterStateRow
    with catalogue.database.reading() as connection:
        rows = connection.execute(select(state.encounter_id, state.version).where(state.encounter_id.in_(asked)))
        changed = {number: version for number, version in rows if str(version) != asked[number]}
        log = as_told(connection, visitor, read_log(connection, DecisionRow.id.in_(changed.values())))
    told = "; ".join(
        one.who if one.action == WAITS else f"{one.who}: {one.action} {one.individual or ''}".strip() for one in log
    )
    wished = f"{field(form, 'action')} {field(form, 'individual')}".strip()
    names = ", ".join(f"e{number}" for number in changed)
    return f"Not saved ({wished}): somebody decided about {names} after this page was shown ({told}). Look again."


@router.post("/individuals/{key}/merge")
def merge(visitor: Deciding, catalogue: Opened, key: Number, form: Filled) -> Response:
    """Make two individuals one."""
    wish = Wish("merge", individual=_id_of(catalogue, key), other=field(form, "other").strip(), note=_note(form))
    return _about_individual(visitor, catalogue, key, wish, form)


@router.post("/individuals/{key}/rename")
def rename(visitor: Deciding, catalogue: Opened, key: Number, form: Filled) -> Response:
    """Give an individual another id or name."""
    old, new, name = _id_of(catalogue, key), field(form, "id").strip(), field(form, "name").strip()
    wish = Wish("rename", individual=old, new_id=new if new != old else None, new_name=name or None, note=_note(form))
    return _about_individual(visitor, catalogue, key, wish, form)


def _about_individual(visitor: Visitor, catalogue: Catalogue, key: int, wish: Wish, form: Form) -> Response:
    try:
        saved = decide(catalogue, [wish], visitor.name)
    except FlukeprintError as error:
        return individual_page(visitor, catalogue, key, status=422, refused=str(error))
    return RedirectResponse(f"{_back(form, f'/individuals/{key}')}?saved={saved[-1]}{_among(form)}", 303)


@router.post("/decisions/{number}/undo")
def undo(visitor: Deciding, catalogue: Opened, number: Number, form: Filled) -> Response:
    """Take a decision back, and what was decided together with it."""
    numbers = {number, *(int(other) for other in form.get("also", []) if re.fullmatch(r"\d{1,9}", other))}
    wishes = [Wish("undo", undoes=one) for one in sorted(numbers, reverse=True)]
    try:
        saved = decide(catalogue, wishes, visitor.name)
    except FlukeprintError as error:
        return page("refused", visitor, 409, refused=str(error), back=_back(form, "/log"))
    with catalogue.database.reading() as connection:
        encounter = _encounter_of(connection, number)
    # What was undone is shown again, so that it can be decided otherwise.
    back = f"/encounters/{encounter}" if encounter is not None else _back(form, "/log")
    return RedirectResponse(f"{back}?saved={saved[-1]}{_among(form)}", 303)


def _encounter_of(connection: Connection, decision: int) -> int | None:
    """Return the encounter that a decision is about, itself or one of its photos; an undo is about what it undid."""
    row = DecisionRow
    query = select(row.undoes, func.coalesce(row.encounter_id, PhotoRow.encounter_id).label("encounter"))
    query = query.outerjoin(PhotoRow, PhotoRow.id == row.photo_id)
    found = connection.execute(query.where(row.id == decision)).one()
    return found.encounter if found.undoes is None else _encounter_of(connection, found.undoes)


def _id_of(catalogue: Catalogue, key: int) -> str:
    with catalogue.database.reading() as connection:
        found = connection.execute(select(IndividualStateRow.id).where(IndividualStateRow.key == key)).scalar()
    if found is None:
        raise HTTPException(404, f"there is no individual with the number {key}.")
    return found


def _note(form: Form) -> str | None:
    return field(form, "note").strip()[:_LONGEST_NOTE] or None


def _back(form: Form, otherwise: str) -> str:
    wanted = field(form, "back")
    return wanted if wanted and _BACK.fullmatch(wanted) else otherwise
