"""`flukeprint enroll PHOTO --id ID`: one more whale in the gallery, or one more photo of it."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from flukeprint.cli.arguments import Bundle, Gallery
from flukeprint.core.console import say_done


def enroll(
    photos: Annotated[list[Path], Argument(metavar="PHOTO|FOLDER", help="Photos of one individual.")],
    identity: Annotated[str, Option("--id", metavar="ID", help="The individual, known or new.")],
    force: Annotated[bool, Option("--force", help="Also add near-duplicates of another individual's photos.")] = False,
    bundle: Bundle = None,
    gallery: Gallery = None,
) -> None:
    """Add photos of an individual to the gallery, without training.

    `flukeprint identify` knows the individual from then on. All photos are added, or none; of a folder its photos, and
    those of the folders in it.
    """
    from flukeprint.bundle.opening import open_model
    from flukeprint.data.reading import list_photos
    from flukeprint.identify import enrolling

    listed = list_photos(photos)
    model = open_model(bundle, gallery)
    say_done(enrolling.as_text(enrolling.enroll(model, listed, identity, force=force), model.gallery_folder))
