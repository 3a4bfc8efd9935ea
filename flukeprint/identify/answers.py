"""Answers: for every photo its candidates, near-duplicates and flags; photos that cannot be read are answers too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.gallery.search import Searcher
from flukeprint.identify.encoder import encode_photos
from flukeprint.identify.flags import Flag, flags_of
from flukeprint.identify.matching import Match, find, match, why_uncalibrated
from flukeprint.identify.neighbours import Duplicate, near_duplicates_of

if TYPE_CHECKING:
    from flukeprint.gallery.contents import Gallery
    from flukeprint.identify.album import Album
    from flukeprint.identify.models import Model
    from flukeprint.identify.reading import ReadPhoto
    from flukeprint.quality.inspection import PhotoRecord


@dataclass(frozen=True)
class Answer:
    """What is known about one photo."""

    path: Path
    record: PhotoRecord
    match: Match
    duplicates: list[Duplicate]
    flags: list[Flag]


@dataclass(frozen=True)
class Answers:
    """All photos that were asked, and what they were compared with."""

    answers: list[Answer]  # in the order given
    failed: list[ReadPhoto]  # with the fault in their record
    gallery: Gallery
    album: Album
    uncalibrated: str | None  # why there are no probabilities


def identify(model: Model, paths: Sequence[Path], top: int) -> Answers:
    """Answer photos.

    Args:
        model: a project's or a bundle's.
        paths: the photos.
        top: most candidates of each.

    Raises:
        FlukeprintError: the model's gallery or album cannot be used.

    """
    # Before the photos, so that a damaged one is told at once.
    gallery, album = model.gallery(), model.album()
    encoded = encode_photos(model.encoder, paths, model.workers, max_pixels=model.limits.max_pixels)
    found = find(Searcher(gallery), encoded.vectors) if encoded.photos else []
    matches = match(gallery, found, model.decision, top)
    records = [photo.record for photo in encoded.photos]
    limits = model.limits
    duplicates = near_duplicates_of(records, gallery.photos, album, limits.bits, limits.mse)
    answers = [
        Answer(photo.path, photo.record, found, same, flags_of(photo.record, limits))
        for photo, found, same in zip(encoded.photos, matches, duplicates, strict=True)
    ]
    return Answers(answers, encoded.failed, gallery, album, why_uncalibrated(model.decision, model.made_by))
