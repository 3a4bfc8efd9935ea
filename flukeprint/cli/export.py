"""`flukeprint export FOLDER`: a bundle for machines without the project."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from flukeprint.core.console import say_done
from flukeprint.core.wording import counted


def export(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="A new or an empty folder, or a bundle to replace.")],
    gallery: Annotated[
        Path | None, Option(metavar="DIR", help="Export another gallery, made by the same model.")
    ] = None,
    without_pictures: Annotated[
        bool, Option("--without-pictures", help="Leave out small copies of the photos, which tell near-duplicates.")
    ] = False,
) -> None:
    """Export the model with its gallery, for use on other machines.

    FOLDER becomes a bundle of weights, ONNX, preprocessing, gallery, calibration and a model card, with checksums.
    `flukeprint identify --bundle FOLDER` needs nothing else, neither the project nor its photos.
    """
    from flukeprint.bundle.export import export_bundle

    shown = export_bundle(folder, gallery, pictures=not without_pictures)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say_done(f"{folder}: {size / 1e6:.1f} MB, pictures of {counted(shown, 'photo')}. Read its README.md.")
