"""Jinja templates that lie beside the code that fills them in; pages extend base.html.j2, which lies here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

# What pages that are served share with those that are one file.
SHARED = Path(__file__).parent / "static"


@cache
def template(code: str, name: str) -> Template:
    """Return the template that lies beside a module (`code` is its `__file__`).

    A variable that it names and is not given is an error. In `*.html.j2` what is filled in is escaped, in others not.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([Path(code).parent, Path(__file__).parent]),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
