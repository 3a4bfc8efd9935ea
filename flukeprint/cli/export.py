"""`flukeprint export FOLDER`: a bundle for machines without the project."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to an argparse parser's subparsers."""
    parser = commands.add_parser(
        "export",
        help="write the model, its gallery and its calibration into one folder, for other machines",
        description="Write a bundle: weights, ONNX, preprocessing, gallery, calibration and a model card, all with "
        "checksums. `flukeprint identify --bundle FOLDER` needs nothing else, neither the project nor its photos.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new, empty, or a bundle to replace")
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="another gallery, made by this project's model")
    parser.add_argument(
        "--without-pictures", action="store_true",
        help="leave out small copies of the gallery's photos; near-duplicates are not told then",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from flukeprint.bundle.export import export_bundle

    shown = export_bundle(arguments.folder, arguments.gallery, pictures=not arguments.without_pictures)
    size = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    sys.stdout.write(f"{arguments.folder}: {size / 1e6:.1f} MB, pictures of {shown} photos. Read its README.md.\n")
