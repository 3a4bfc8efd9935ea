"""`flukeprint gallery info|remove|rename|merge`: look at a gallery and change it, without training anything."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.core.paths import GALLERY
from flukeprint.core.text import printable

if TYPE_CHECKING:
    from flukeprint.retrieval.gallery import Gallery


def add_parser(commands: Any) -> None:
    """Add the command to an argparse parser's subparsers."""
    parser = commands.add_parser(
        "gallery",
        help="look at a gallery; remove, rename or merge individuals",
        description="Look at a gallery and change it. Nothing is trained, and a change is made whole or not at all. "
        "models/gallery is an output of the pipeline: the next `dvc repro` makes it anew, so keep a "
        "gallery that people change in a folder of its own (a copy of models/gallery will do).",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    info = _add(actions, "info", _run_info, "say what is in a gallery and what made it")
    info.add_argument("--json", action="store_true", help="print it as JSON")
    remove = _add(actions, "remove", _run_remove, "remove individuals with all their photos, or single photos")
    remove.add_argument("--id", action="append", default=[], metavar="ID", help="an individual; may be repeated")
    remove.add_argument("--image", action="append", default=[], metavar="NAME", help="a photo; may be repeated")
    rename = _add(actions, "rename", _run_rename, "give an individual another id; one that is there takes its photos")
    rename.add_argument("old", metavar="OLD", help="the individual")
    rename.add_argument("new", metavar="NEW", help="its new id, or the individual that it turned out to be")
    merge = _add(actions, "merge", _run_merge, "add the photos of another gallery, made by the same model")
    merge.add_argument("other", type=Path, metavar="OTHER", help="the other gallery's folder; it stays as it is")
    merge.add_argument("--allow-copies", action="store_true", help="also if a file is there under another id")


def _add(actions: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
    parser.add_argument("--gallery", type=Path, default=GALLERY, metavar="DIR", help="default: %(default)s")
    parser.set_defaults(run=run)
    return parser


def _run_info(arguments: argparse.Namespace) -> None:
    import json

    from flukeprint.retrieval.gallery_files import load_gallery

    gallery = load_gallery(arguments.gallery)
    about = described(gallery)
    if arguments.json:
        sys.stdout.write(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("".join(f"{printable(key):22}{printable(value)}\n" for key, value in _lines(about)))


def described(gallery: Gallery) -> dict[str, Any]:
    """Return what `info` says of a gallery, JSON-able."""
    import numpy as np

    per_individual = np.bincount(gallery.individual, minlength=len(gallery.individuals))
    return {
        "photos": len(gallery),
        "individuals": len(gallery.individuals),
        "with_one_photo": int((per_individual == 1).sum()),
        "most_photos": int(per_individual.max(initial=0)),
        "dimension": gallery.vectors.shape[1],
        "index": "exact"
        if gallery.cells is None
        else f"{gallery.cells.probes} of {len(gallery.cells.centroids)} cells",
        "members": gallery.provenance.weights,
        "preprocessing": gallery.provenance.model_dump(exclude={"members"}),
    }


def _lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (key, value) for each line; members and preprocessing have several."""
    lines = []
    for key, value in about.items():
        if isinstance(value, dict):
            lines += [(f"{key}.{name}", str(part)) for name, part in value.items()]
        else:
            lines.append((key, str(value)))
    return lines


def _run_remove(arguments: argparse.Namespace) -> None:
    from flukeprint.bundle.album import drop_pictures
    from flukeprint.core.errors import FlukeprintError

    if not (arguments.id or arguments.image):
        raise FlukeprintError("nothing to remove: name an individual (--id ID) or a photo (--image NAME).")
    # What is removed may have been asked to be removed: no picture of it stays.
    _change(
        arguments.gallery,
        lambda gallery: gallery.remove(arguments.id, arguments.image),
        lambda gallery: drop_pictures(arguments.gallery, gallery.photos),
    )


def _run_rename(arguments: argparse.Namespace) -> None:
    _change(arguments.gallery, lambda gallery: gallery.rename(arguments.old, arguments.new))


def _run_merge(arguments: argparse.Namespace) -> None:
    from flukeprint.bundle.album import bring_pictures
    from flukeprint.retrieval.gallery_files import load_gallery

    other = load_gallery(arguments.other)

    def change(gallery: Gallery) -> Gallery:
        merged = gallery.merge(other, allow_copies=arguments.allow_copies)
        bring_pictures(arguments.gallery, arguments.other, other.photos)
        return merged

    _change(arguments.gallery, change)


def _change(folder: Path, change: Callable[[Gallery], Gallery], after: Callable[[Gallery], None] | None = None) -> None:
    """Change a gallery on disk and say what it holds now."""
    from flukeprint.retrieval.gallery_files import update_gallery

    changed = update_gallery(folder, change, after)
    sys.stdout.write(f"{folder}: {len(changed)} photos of {len(changed.individuals)} individuals\n")
