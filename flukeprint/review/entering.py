"""Logging in and out, and who may."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from flukeprint.core.errors import FlukeprintError
from flukeprint.review.access import COOKIE, Administering, Filled, Opened, field, remember, secret_of, settings_of
from flukeprint.review.pages import Visitor, page
from flukeprint.review.reviewers import close_session, let_in, open_session, reviewers_of, shut_out

router = APIRouter()


@router.get("/login")
def login(request: Request) -> Response:
    """Ask for a token."""
    return _login_page(request)


def _login_page(request: Request, status: int = 200, refused: str = "") -> Response:
    stranger = Visitor("", "look", secret_of(request), settings_of(request))
    return page("login", None, status, token=stranger.form_token, refused=refused)


@router.post("/login")
def enter(request: Request, catalogue: Opened, form: Filled) -> Response:
    """Let in who has a valid token."""
    session = open_session(catalogue, field(form, "secret").strip())
    if session is None:
        return _login_page(request, 403, "This token is not valid, or has ended. Ask who administers for a new one.")
    response = RedirectResponse("/", 303)
    remember(request, response, session)
    return response


@router.post("/logout")
def leave(request: Request, catalogue: Opened, _form: Filled) -> Response:
    """End the session."""
    close_session(catalogue, request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response


@router.get("/reviewers")
def reviewers(visitor: Administering, catalogue: Opened) -> Response:
    """List who may come in."""
    return page("reviewers", visitor, reviewers=reviewers_of(catalogue), token=None, refused="", named="")


@router.post("/reviewers")
def invite(visitor: Administering, catalogue: Opened, form: Filled) -> Response:
    """Give somebody a role and a token, which is shown once."""
    name, days = field(form, "name").strip(), field(form, "days")
    token, refused = None, ""
    try:
        token = let_in(catalogue, name, field(form, "role"), int(days) if days.isdecimal() else 0)
    except FlukeprintError as error:
        refused = str(error)
    content = {"reviewers": reviewers_of(catalogue), "token": token, "refused": refused, "named": name}
    return page("reviewers", visitor, 422 if refused else 200, **content)


@router.post("/reviewers/end")
def end(visitor: Administering, catalogue: Opened, form: Filled) -> Response:
    """End all access of somebody."""
    try:
        shut_out(catalogue, field(form, "name"))
    except FlukeprintError as error:
        content = {"reviewers": reviewers_of(catalogue), "token": None, "refused": str(error), "named": ""}
        return page("reviewers", visitor, 422, **content)
    return RedirectResponse("/reviewers", 303)
