"""What answers are made with: a project after `dvc repro`, or an exported bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.bundle.album import Album, Albums, album_path, read_album
from flukeprint.bundle.encoder import Encoder
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.gallery_files import load_gallery

if TYPE_CHECKING:
    from flukeprint.retrieval.gallery import Gallery
    from flukeprint.retrieval.provenance import Provenance
    from flukeprint.scoring.calibration import Calibration


@dataclass(frozen=True)
class Model:
    """Networks with what they were made for, and where their gallery and their calibration are."""

    name: str  # for people
    encoder: Encoder
    provenance: Provenance
    gallery_folder: Path
    calibration: Calibration | None  # None: the model ranks and gives no probabilities
    limits: Limits
    workers: int  # threads that decode photos
    own_album: Album  # of the photos that the model came with

    def gallery(self) -> Gallery:
        """Read the gallery.

        Raises:
            FlukeprintError: it is missing or damaged, or was made with other weights or preprocessing.

        """
        gallery = load_gallery(self.gallery_folder)
        gallery.provenance.refuse_other(self.provenance, self.name)
        return gallery

    def album(self) -> Album:
        """Return the pictures and hashes of the gallery's photos: those beside the gallery, and the model's own."""
        return Albums([read_album(album_path(self.gallery_folder)), self.own_album])
