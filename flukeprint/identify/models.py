"""What answers are made with: a project after `dvc repro`, or an exported bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.core.layout import DECISION, FINETUNED, GALLERY, PARAMS, RAW, VALIDATED
from flukeprint.gallery.files import load_gallery
from flukeprint.identify.album import Album, Albums, FolderAlbum, album_path, read_album
from flukeprint.identify.encoder import Encoder, torch_encoder
from flukeprint.identify.flags import Limits

if TYPE_CHECKING:
    from flukeprint.gallery.contents import Gallery
    from flukeprint.gallery.fingerprint import Fingerprint


@dataclass(frozen=True)
class Model:
    """Networks with what they were made for, and where their gallery and their calibration are."""

    name: str  # for people
    encoder: Encoder
    made_by: Fingerprint
    gallery_folder: Path
    decision: Path  # it may be missing
    limits: Limits
    workers: int  # threads that decode photos
    own_album: Album  # of the photos that the model came with

    def gallery(self) -> Gallery:
        """Read the gallery.

        Raises:
            FlukeprintError: it is missing or damaged, or was made with other weights or preprocessing.

        """
        gallery = load_gallery(self.gallery_folder)
        gallery.fingerprint.refuse_other(self.made_by, self.name)
        return gallery

    def album(self) -> Album:
        """Return the pictures and hashes of the gallery's photos: those beside the gallery, and the model's own."""
        return Albums([read_album(album_path(self.gallery_folder)), self.own_album])


def open_model(bundle: Path | None, gallery: Path | None) -> Model:
    """Open a bundle, or without one the project in the current folder.

    Args:
        bundle: a folder that `flukeprint export` wrote.
        gallery: a gallery's folder, in place of the model's own.

    Raises:
        FlukeprintError: something is missing, damaged or does not fit together.

    """
    if bundle is None:
        return _open_project(gallery)
    from flukeprint.bundle.opening import open_bundle

    return open_bundle(bundle, gallery)


def _open_project(gallery: Path | None) -> Model:
    from flukeprint.core.errors import FlukeprintError
    from flukeprint.core.params import load_params
    from flukeprint.gallery.fingerprint import fingerprint_of

    if not PARAMS.is_file():
        raise FlukeprintError(
            f"this folder ({Path.cwd().name}/) is no project: {PARAMS} is missing. Go to a project's root, or name a "
            "bundle (--bundle DIR)."
        )
    params = load_params(("ensemble.members", "embed", "recipes.*.embed", "validate"))
    views = 2 if params.embed.flip_test else 1
    files = {member: FINETUNED / f"{member}.safetensors" for member in params.ensemble.members}
    made_by = fingerprint_of(files, views)  # first: it says what is wrong with a file
    return Model(
        "this project's model",
        torch_encoder(list(files.values()), views, params.runtime),
        made_by,
        gallery or GALLERY,
        DECISION,
        Limits.of(params.validate),
        params.runtime.workers,
        FolderAlbum.of(RAW / "train", VALIDATED / "train.parquet"),
    )
