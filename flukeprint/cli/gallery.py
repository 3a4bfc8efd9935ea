"""`flukeprint gallery info|remove|rename|merge`: look at a gallery and change it, without training anything."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, Typer, echo

from flukeprint.cli.arguments import Json
from flukeprint.core.console import say_done
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import GALLERY

if TYPE_CHECKING:
    from flukeprint.retrieval.gallery import Gallery

Folder = Annotated[Path, Option("--gallery", metavar="DIR", help="The gallery's folder.")]

app = Typer(no_args_is_help=True)


@app.callback()
def gallery() -> None:
    """Look at a gallery; remove, rename or merge individuals.

    Nothing is trained, and a change is made whole or not at all. models/gallery is an output of the pipeline: the next
    `dvc repro` makes it anew, so keep a gallery that people change in a folder of its own, such as a copy of it.
    """


@app.command()
def info(folder: Folder = GALLERY, as_json: Json = False) -> None:
    """Say what is in a gallery, and which model it is for."""
    from flukeprint.retrieval.gallery_description import as_text, describe
    from flukeprint.retrieval.gallery_files import load_gallery

    described = describe(load_gallery(folder))
    echo(json.dumps(described, indent=2, ensure_ascii=False) if as_json else as_text(described))


@app.command()
def remove(
    ids: Annotated[list[str] | None, Option("--id", metavar="ID", help="An individual; may be repeated.")] = None,
    images: Annotated[list[str] | None, Option("--image", metavar="NAME", help="A photo; may be repeated.")] = None,
    folder: Folder = GALLERY,
) -> None:
    """Remove individuals with all their photos, or single photos."""
    from flukeprint.bundle.album import remove_from

    if not (ids or images):
        raise FlukeprintError("nothing to remove: name an individual (--id ID) or a photo (--image NAME).")
    _say(folder, remove_from(folder, ids or (), images or ()))


@app.command()
def rename(
    old: Annotated[str, Argument(metavar="OLD", help="The individual.")],
    new: Annotated[str, Argument(metavar="NEW", help="Its new id, or the individual that it turned out to be.")],
    folder: Folder = GALLERY,
) -> None:
    """Rename an individual; if NEW is there already, both become one."""
    from flukeprint.retrieval.gallery_files import update_gallery

    _say(folder, update_gallery(folder, lambda gallery: gallery.rename(old, new)))


@app.command()
def merge(
    other: Annotated[Path, Argument(metavar="OTHER", help="The other gallery's folder; it stays as it is.")],
    allow_copies: Annotated[bool, Option("--allow-copies", help="Also add copies under another id.")] = False,
    folder: Folder = GALLERY,
) -> None:
    """Add the photos of another gallery, made by the same model."""
    from flukeprint.bundle.album import merge_into

    _say(folder, merge_into(folder, other, allow_copies=allow_copies))


def _say(folder: Path, now: "Gallery") -> None:
    say_done(f"{folder}: {len(now)} photos of {len(now.individuals)} individuals")
