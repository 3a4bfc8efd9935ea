"""Who asks: by the session that the browser's cookie names; where nobody logs in, whom the command named."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, HTTPException, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.entities import Role
from flukeprint.review.pages import Visitor
from flukeprint.review.reviewers import new_secret, reviewer_of
from flukeprint.review.settings import ReviewSettings

COOKIE = "flukeprint_session"
_LONGEST_SECRET = 100
_MOST_FIELDS = 200

Form = dict[str, list[str]]


class LoginNeededError(Exception):
    """The page is for those who logged in."""


def catalogue_of(request: Request) -> Catalogue:
    """Return the catalogue that the application serves."""
    catalogue: Catalogue = request.app.state.catalogue
    return catalogue


def settings_of(request: Request) -> ReviewSettings:
    """Return how it is served."""
    settings: ReviewSettings = request.app.state.settings
    return settings


class Remembering:
    """Sets the cookie of a browser that had none."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; add the cookie to what is answered."""

        async def send_with_cookie(message: Message) -> None:
            request = Request(scope) if scope["type"] == "http" else None
            fresh = getattr(request.state, "fresh", None) if request else None
            if request and fresh and message["type"] == "http.response.start":
                cookie = Response()
                remember(request, cookie, fresh)
                set_already = any(name == b"set-cookie" for name, _ in message["headers"])
                new = [item for item in cookie.raw_headers if item[0] == b"set-cookie" and not set_already]
                message["headers"] = [*message["headers"], *new]
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def secret_of(request: Request) -> str:
    """Return the secret in the browser's cookie; a new one where there is none, which `remember` sets."""
    secret: str | None = request.cookies.get(COOKIE)
    if not secret or len(secret) > _LONGEST_SECRET:
        secret = request.state.fresh = new_secret()
    return secret


def remember(request: Request, response: Response, secret: str) -> None:
    """Set the cookie. Scripts do not see it, and no other site's page sends it along with a form."""
    response.set_cookie(COOKIE, secret, httponly=True, samesite="lax", secure=request.url.scheme == "https")


def visitor_of(
    request: Request,
    catalogue: Annotated[Catalogue, Depends(catalogue_of)],
    settings: Annotated[ReviewSettings, Depends(settings_of)],
) -> Visitor:
    """Return who asks; where a login is needed, only those who have a session."""
    secret = secret_of(request)
    if not settings.login:
        return Visitor(settings.who, "decide", secret, settings)
    with catalogue.database.reading() as connection:
        found = reviewer_of(connection, secret)
    if found is None:
        raise LoginNeededError
    return Visitor(found.name, found.role, secret, settings)


def may(role: Role) -> Callable[[Visitor], Visitor]:
    """Return what lets only those pass who have a role."""

    def passed(visitor: Annotated[Visitor, Depends(visitor_of)]) -> Visitor:
        if not visitor.may(role):
            raise HTTPException(403, f"Your role is '{visitor.role}', this needs '{role}'. Ask who administers.")
        return visitor

    return passed


async def form_of(request: Request) -> Form:
    """Return a form's fields, if it is one of our own pages': it hands back the token of the visitor's session."""
    try:
        text = (await request.body()).decode()
        form = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HTTPException(400, "This is no form of these pages.") from None
    secret = request.cookies.get(COOKIE, "")
    expected = Visitor("", "look", secret, settings_of(request)).form_token
    if not secret or not hmac.compare_digest(field(form, "token").encode(), expected.encode()):
        raise HTTPException(403, "This form is not of this session. Open the page anew, then send it again.")
    return form


def field(form: Form, name: str) -> str:
    """Return what a field says; nothing where it is not there."""
    return form.get(name, [""])[0]


Looking = Annotated[Visitor, Depends(may("look"))]
Deciding = Annotated[Visitor, Depends(may("decide"))]
Administering = Annotated[Visitor, Depends(may("administer"))]
Filled = Annotated[Form, Depends(form_of)]
Opened = Annotated[Catalogue, Depends(catalogue_of)]
