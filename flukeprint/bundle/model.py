"""What answers are made with: a project after `dvc repro`, or an exported bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flukeprint.bundle.album import Album, Albums, album_path, read_album
from flukeprint.bundle.encoder import Encoded, Encoder, encode_photos, encoded_batches
from flukeprint.bundle.encoding_shards import encoded_shards
from flukeprint.data.cropping import Crop
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.gallery_files import load_gallery
from flukeprint.retrieval.provenance import Provenance
from flukeprint.scoring.calibration import Calibration


@dataclass(frozen=True)
class Model:
    """Networks with what they were made for, and where their gallery and their calibration are."""

    name: str  # for people
    load_encoder: Callable[[], Encoder]
    provenance: Provenance
    gallery_folder: Path
    calibration: Calibration | None  # None: the model ranks and gives no probabilities
    limits: Limits
    workers: int  # threads that decode photos
    own_album: Album  # of the photos that the model came with
    crop: Crop | None = None  # how photos are cropped before they are compared
    folder: Path | None = None  # where the calibration of local matching is, if there is one
    # The `map` of core/worker_processes.py by machines that encode batches; None: this one does.
    machines: Callable[..., Iterator[Any]] | None = None

    @cached_property
    def encoder(self) -> Encoder:
        """The networks, loaded once they are needed."""
        return self.load_encoder()

    def encode(self, paths: Sequence[Path]) -> Encoded:
        """Return photos with their vectors, and those that cannot be read."""
        return encode_photos(self.encoder, paths, self.workers, max_pixels=self.limits.max_pixels)

    def encode_batches(self, paths: Sequence[Path]) -> Iterator[Encoded]:
        """Yield what `encode` returns batch by batch, in the order given, while the next ones are worked on."""
        if self.machines is not None:
            return encoded_shards(self.encoder, paths, self.machines, self.limits.max_pixels)
        return encoded_batches(self.encoder, paths, self.workers, max_pixels=self.limits.max_pixels)

    def gallery(self) -> Gallery:
        """Read the gallery; refuse one that was made with other weights or preprocessing."""
        gallery = load_gallery(self.gallery_folder)
        gallery.provenance.refuse_other(self.provenance, self.name)
        return gallery

    def album(self) -> Album:
        """Return the pictures and hashes of the gallery's photos: those beside the gallery, and the model's own."""
        return Albums([read_album(album_path(self.gallery_folder)), self.own_album])
