"""`flukeprint identify|verify|enroll`: whales on new photos."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flukeprint.bundle.model import Model
    from flukeprint.data.reading import Listing
    from flukeprint.identify.enrolling import Enrolled


def add_parsers(commands: Any) -> None:
    """Add the three commands to an argparse parser's subparsers."""
    _add_identify(commands)
    _add_verify(commands)
    _add_enroll(commands)


def _add_identify(commands: Any) -> None:
    parser = commands.add_parser(
        "identify",
        help="name the individuals that a photo may show, best first",
        description="Compare photos with the gallery and name the individuals that each may show, best first, with the "
        "probability that it shows none of them. People decide: this is a ranking, not a verdict. Exit code 1 if a "
        "photo could not be read; the others are answered.",
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO|FOLDER", help="subfolders are not entered")
    parser.add_argument(
        "--top", type=_top, default=5, metavar="N", help="candidates, at most 20 (default: %(default)s)"
    )
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table", help="default: %(default)s")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page: photos beside their candidates")
    _add_model(parser)
    parser.set_defaults(run=_run_identify)


def _add_verify(commands: Any) -> None:
    parser = commands.add_parser(
        "verify",
        help="say how likely two photos show the same whale",
        description="Compare two photos: their similarity, the probability that both show one whale, and what the "
        "thresholds at declared rates of false accepts say.",
    )
    parser.add_argument("first", type=Path, metavar="A", help="a photo")
    parser.add_argument("second", type=Path, metavar="B", help="another one")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="use an exported model instead of this project's")
    parser.set_defaults(run=_run_verify, gallery=None)


def _add_enroll(commands: Any) -> None:
    parser = commands.add_parser(
        "enroll",
        help="add photos of an individual to the gallery, without training",
        description="Add photos of one individual, known or not, to the gallery: `identify` knows it from then on. "
        "All photos are added, or none.",
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos of one individual")
    parser.add_argument("--id", required=True, dest="identity", metavar="ID", help="the individual")
    parser.add_argument(
        "--force", action="store_true", help="also if one is nearly the same picture as another whale's"
    )
    _add_model(parser)
    parser.set_defaults(run=_run_enroll)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="use an exported model instead of this project's")
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="use another gallery, made by the same model")


def _top(text: str) -> int:
    from flukeprint.retrieval.search import DEPTH

    value = int(text)
    if not 1 <= value <= DEPTH:
        raise argparse.ArgumentTypeError(f"must be 1 to {DEPTH}: probabilities are calibrated for so many candidates")
    return value


# --- identify ---


def _run_identify(arguments: argparse.Namespace) -> None:
    from flukeprint.data.reading import list_photos
    from flukeprint.identify import formats
    from flukeprint.identify.answers import identify

    listings = [list_photos(given) for given in arguments.photos]
    photos = list(dict.fromkeys(photo for listing in listings for photo in listing.photos))
    if arguments.html:
        _check_page(arguments.html, photos)
    _say_what_is_left_out(arguments.photos, listings)
    answers = identify(_model(arguments), photos, arguments.top)
    write = {"table": formats.as_table, "json": formats.as_json, "csv": formats.as_csv}[arguments.format]
    # Before anything is printed: whoever reads only the start (`| head`) gets the page all the same.
    if arguments.html:
        from flukeprint.identify.identification_page import write_page

        write_page(arguments.html, answers)
    sys.stdout.write(write(answers).rstrip("\n") + "\n")
    if answers.failed:
        sys.exit(1)


def _model(arguments: argparse.Namespace) -> Model:
    from flukeprint.bundle.opening import open_model

    return open_model(arguments.bundle, arguments.gallery)


def _check_page(page: Path, photos: Sequence[Path]) -> None:
    """Refuse a name that cannot be written, or that would overwrite a photo."""
    from flukeprint.core.errors import FlukeprintError

    if page.is_dir() or not page.absolute().parent.is_dir():
        raise FlukeprintError(f"--html {page} cannot be written, expected the name of a file in a folder that exists.")
    # Unlike Path.resolve, realpath takes a link that leads to itself.
    if os.path.realpath(page) in {os.path.realpath(photo) for photo in photos}:
        raise FlukeprintError(f"--html {page} is one of the photos. Choose another name for the page.")


def _say_what_is_left_out(given: Sequence[Path], listings: Sequence[Listing]) -> None:
    for folder, listing in zip(given, listings, strict=True):
        if listing.others:
            sys.stderr.write(f"{folder}: {listing.others} other file(s) or folder(s) left alone\n")


# --- verify ---


def _run_verify(arguments: argparse.Namespace) -> None:
    from flukeprint.identify.pair import as_json, as_text, compare

    found = compare(_model(arguments), arguments.first, arguments.second)
    sys.stdout.write((as_json(found) if arguments.json else as_text(found)) + "\n")


# --- enroll ---


def _run_enroll(arguments: argparse.Namespace) -> None:
    from flukeprint.identify.enrolling import enroll

    model = _model(arguments)
    done = enroll(model, arguments.photos, arguments.identity, force=arguments.force)
    sys.stdout.write("".join(f"{line}\n" for line in _enrolment(done, model, arguments)))


def _enrolment(done: Enrolled, model: Model, arguments: argparse.Namespace) -> list[str]:
    """Say what was done, and how to undo it."""
    import shlex

    from flukeprint.core.paths import GALLERY

    folder = model.gallery_folder
    had = f"which had {done.before}" if done.before else "which is new"
    images = [f"--image={image}" for image in done.images]  # names may start with a dash
    undo = shlex.join(["flukeprint", "gallery", "remove", *images, "--gallery", str(folder)])
    lines = [f"! {warning}" for warning in done.warnings]
    lines += [
        f"{folder}: {len(done.images)} photo(s) added to {done.id}, {had}; now {len(done.gallery)} photos of "
        f"{len(done.gallery.individuals)} individuals",
        f"To undo: {undo}",
    ]
    if arguments.bundle is None and folder == GALLERY:
        lines.append(
            f"{GALLERY} is an output of the pipeline: the next `dvc repro` makes it anew, without these "
            "photos. To keep them, add them to the raw data, or work on a copy of the folder (--gallery DIR)."
        )
    return lines
