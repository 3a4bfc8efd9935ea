"""Filling in the templates: what every page needs, beside what it shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from starlette.responses import HTMLResponse

from flukeprint.catalogue.entities import ROLES, Role
from flukeprint.core.files import read_bytes
from flukeprint.core.safe_text import printable
from flukeprint.pages.templates import SHARED, template
from flukeprint.review.settings import ReviewSettings

STATIC = Path(__file__).parent / "static"
PEOPLE_DECIDE = "People decide: this is a ranking to look through, not a verdict."
_LONG = 300  # characters of a text that are shown at first


@dataclass(frozen=True)
class Visitor:
    """Who asks for a page."""

    name: str
    role: Role
    secret: str  # of the session
    settings: ReviewSettings

    def may(self, role: Role) -> bool:
        """Tell whether the visitor has at least this role."""
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def form_token(self) -> str:
        """Return what forms of this visitor's pages hand back: no other site can know it."""
        return hashlib.sha256(f"form {self.secret}".encode()).hexdigest()


def page(name: str, visitor: Visitor | None, status: int = 200, **content: Any) -> HTMLResponse:
    """Return a page made with a template of this package."""
    filled = template(__file__, f"{name}.html.j2").render(
        visitor=visitor, shown=printable, percent=percent, short=_short, versioned=versioned, **content
    )
    return HTMLResponse(filled, status)


def percent(value: float | None) -> str:
    """Return a probability as people read it; a dash where there is none."""
    if value is None:
        return "–"
    return "< 1 %" if value < 0.01 else "> 99 %" if value > 0.99 else f"{100 * value:.0f} %"


def _short(text: object) -> str:
    """Return the start of a text that is too long for a heading or a list."""
    whole = printable(text)
    return whole if len(whole) <= _LONG else f"{whole[:_LONG]}…"


@cache
def versioned(name: str) -> str:
    """Return the address of a static file; another content has another one."""
    path = next(folder / name for folder in (STATIC, SHARED) if (folder / name).is_file())
    digest = hashlib.sha256(read_bytes(path, "a file of this package")).hexdigest()
    return f"/static/{name}?v={digest[:12]}"
