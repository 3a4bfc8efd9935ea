"""Identification: of every photo its candidates, near-duplicates and flags; one that cannot be read is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flukeprint.bundle.album import Album, draw_picture
from flukeprint.bundle.encoder import Encoded
from flukeprint.bundle.model import Model
from flukeprint.core.errors import FlukeprintError
from flukeprint.data.inspection import PhotoRecord
from flukeprint.data.reading import ReadPhoto
from flukeprint.identify.gallery_duplicates import Duplicate, near_duplicates_of
from flukeprint.identify.matching import Match, match, note_of, why_uncalibrated
from flukeprint.metrics.spread import COLLAPSED
from flukeprint.quality.flags import Flag, flags_of
from flukeprint.retrieval.gallery import Gallery

if TYPE_CHECKING:
    from flukeprint.identify.reranking import Reranker
    from flukeprint.scoring.local_calibration import LocalCalibration


@dataclass(frozen=True)
class PhotoAnswer:
    """What is known about one photo."""

    path: Path
    record: PhotoRecord
    match: Match
    duplicates: list[Duplicate]
    flags: list[Flag]


@dataclass(frozen=True)
class Identification:
    """All queries, and what they were compared with."""

    answers: list[PhotoAnswer]  # in the order given
    vectors: NDArray[np.float32]  # of these, N x D
    failed: list[ReadPhoto]  # with the fault in their record
    gallery: Gallery
    album: Album
    uncalibrated: str | None  # why there are no probabilities
    new_share: float | None  # of photos of whales that the gallery lacks, which probabilities assume
    collapsed: str | None = None  # why nobody is named: the model tells nobody apart
    note: str | None = None  # what is to be said of the calibration
    local: LocalCalibration | None = None  # how candidates were re-ranked, if they were


def identify(
    model: Model,
    paths: Sequence[Path],
    top: int,
    *,
    local: bool = False,
    networks: tuple[Path, Path] | None = None,
) -> Identification:
    """Compare photos with a model's gallery: at most `top` candidates of each.

    A model that tells nobody apart names nobody: the reason stands in `collapsed`. With `local` the first candidates
    are re-ranked by matched keypoints, of SIFT or of two `networks` in files (reranking.py).
    """
    # Before the photos, so that a damaged one is told at once.
    gallery, album = model.gallery(), model.album()
    reranker = _reranker(model, gallery, album, networks) if local else None
    encoded = model.encode(paths)
    uncalibrated = why_uncalibrated(model.calibration, model.provenance)
    calibration = None if uncalibrated else model.calibration
    spread = gallery.spread
    collapsed = COLLAPSED.format(spread) if spread is not None and spread.collapsed else None
    records = [photo.record for photo in encoded.photos]
    duplicates = near_duplicates_of(records, gallery.photos, album, model.limits)
    if collapsed:
        matches = [Match([], None) for _ in encoded.photos]
    else:
        copies = [Counter(one.photo.id for one in found) for found in duplicates]
        depth = max(top, reranker.fitted.first) if reranker else top
        matches = match(gallery, encoded.vectors, calibration, depth, copies) if encoded.photos else []
        if reranker:
            matches = [found.first(top) for found in _reranked(reranker, encoded, matches)]
    answers = [
        PhotoAnswer(photo.path, photo.record, found, same, flags_of(photo.record, model.limits))
        for photo, found, same in zip(encoded.photos, matches, duplicates, strict=True)
    ]
    share = None if calibration is None else calibration.share
    fitted = reranker.fitted if reranker else None
    return Identification(
        answers, encoded.vectors, encoded.failed, gallery, album, uncalibrated, share, collapsed,
        note_of(calibration, fitted), fitted,
    )  # fmt: skip


def _reranker(model: Model, gallery: Gallery, album: Album, networks: tuple[Path, Path] | None) -> Reranker:
    from flukeprint.identify.reranking import LocalMatching, Reranker  # only now: they need packages of their own

    if len(gallery) and not album.hashes:
        raise FlukeprintError(
            "the gallery has no pictures to match keypoints in. Export it with pictures, or leave --local out."
        )
    return Reranker(LocalMatching.of(model, networks), gallery, album.picture)


def _reranked(reranker: Reranker, encoded: Encoded, matches: Sequence[Match]) -> list[Match]:
    return [
        reranker(found, partial(draw_picture, photo.path.parent, photo.record), vector)
        for found, photo, vector in zip(matches, encoded.photos, encoded.vectors, strict=True)
    ]
