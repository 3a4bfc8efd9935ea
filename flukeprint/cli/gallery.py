"""`flukeprint gallery info`: look at a gallery."""

import json
from pathlib import Path
from typing import Annotated

from typer import Option, Typer, echo

from flukeprint.cli.arguments import Json
from flukeprint.core.paths import GALLERY

app = Typer(no_args_is_help=True)


@app.callback()
def gallery() -> None:
    """Look at a gallery.

    It is made by the pipeline or part of a bundle, and only read: people change things in the catalogue.
    """


@app.command()
def info(
    folder: Annotated[Path, Option("--gallery", metavar="DIR", help="The gallery's folder.")] = GALLERY,
    as_json: Json = False,
) -> None:
    """Say what is in a gallery, and which model it is for."""
    from flukeprint.retrieval.gallery_description import as_text, describe
    from flukeprint.retrieval.gallery_files import load_gallery

    described = describe(load_gallery(folder))
    echo(json.dumps(described, indent=2, ensure_ascii=False) if as_json else as_text(described))
