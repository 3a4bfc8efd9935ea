"""Local re-ranking of a photo's first candidates: those whose keypoints match the photo's move up (local.json)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flukeprint.bundle.album import Album, Box, draw_picture
from flukeprint.bundle.model import Model
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of
from flukeprint.data.reading import ReadPhoto
from flukeprint.identify.matching import Match, RankedCandidate, why_uncalibrated
from flukeprint.retrieval.gallery import Gallery, Photo
from flukeprint.retrieval.local_matching import (
    Keypoints,
    LocalMatcher,
    MatchedKeypoints,
    SiftMatcher,
    describe,
    matched,
    most_similar,
)
from flukeprint.retrieval.vectors import cosines
from flukeprint.scoring.local_calibration import LocalCalibration, MatcherRecord, shared_out

if TYPE_CHECKING:
    from flukeprint.retrieval.vectors import Vectors

Pictures = Callable[[Photo], bytes | None]

# Pictures of a gallery whose keypoints are kept: a quarter of a megabyte each.
_KEPT = 512


def open_matcher(networks: tuple[Path, Path] | None) -> tuple[LocalMatcher, MatcherRecord]:
    """Return what finds and pairs keypoints: SIFT, or two networks in files of weights; and what is recorded of it."""
    if networks is None:
        return SiftMatcher(), MatcherRecord(name="sift", weights=[])
    from flukeprint.identify.learned_matching import LightGlueMatcher

    return LightGlueMatcher(*networks), MatcherRecord(name="lightglue", weights=[sha256_of(path) for path in networks])


def box_of(side: int) -> Box:
    """Return the box for pictures in which keypoints are looked for: a fluke is about twice as wide as high."""
    return side, side // 2


class KeypointSearch:
    """Compares the keypoints of a photo with those of individuals' photos, whose keypoints it keeps."""

    def __init__(self, matcher: LocalMatcher, pictures: Pictures, side: int, photos: int) -> None:
        """Take where pictures come from, their longer side in px, and how many photos of an individual to look at."""
        self.matcher, self.side, self.photos = matcher, side, photos
        self._pictures = pictures
        self.of_photo = lru_cache(_KEPT)(self._of_photo)

    def _of_photo(self, photo: Photo) -> Keypoints | None:
        picture = self._pictures(photo)
        return None if picture is None else self.describe(picture)

    def describe(self, picture: bytes) -> Keypoints:
        """Return the keypoints of a picture."""
        return describe(self.matcher, picture, self.side)

    def best(
        self, own: Keypoints, photos: Sequence[Photo], similarities: NDArray[np.floating]
    ) -> MatchedKeypoints | None:
        """Return what matches best in an individual's most similar photos; None where they have no picture."""
        found = []
        for place in most_similar(similarities, self.photos):
            if other := self.of_photo(photos[place]):
                found.append(MatchedKeypoints(photos[place].image, matched(self.matcher, own, other)))
        return max(found, key=lambda one: len(one.lines), default=None)


class Reranker:
    """Re-ranks candidates of a gallery by a fitted calibration."""

    def __init__(self, fitted: LocalCalibration, matcher: LocalMatcher, gallery: Gallery, album: Album) -> None:
        """Take what was fitted, and the gallery with its pictures."""
        self.fitted, self.gallery = fitted, gallery
        box = box_of(fitted.side)
        self.search = KeypointSearch(matcher, lambda photo: album.picture(photo, box), fitted.side, fitted.photos)

    @classmethod
    def of(cls, model: Model, gallery: Gallery, album: Album, networks: tuple[Path, Path] | None) -> Reranker:
        """Read the calibration that lies beside a model's.

        Raises:
            FlukeprintError: there is none, or it is of other weights or another matcher; the model gives no
                probabilities, or its gallery has no pictures.
        """
        if reason := why_uncalibrated(model.calibration, model.provenance):
            raise FlukeprintError(f"without probabilities nothing can be re-ranked ({reason}). Leave --local out.")
        fitted = LocalCalibration.read(model.folder or Path())
        fitted.refuse_other(model.provenance)
        if len(gallery) and not album.hashes:
            raise FlukeprintError(
                "the gallery has no pictures to match keypoints in. Export it with pictures, or leave --local out."
            )
        matcher, record = open_matcher(networks)
        fitted.refuse_other_matcher(record)
        return cls(fitted, matcher, gallery, album)

    def of_photo(self, match: Match, photo: ReadPhoto, vector: Vectors, top: int) -> Match:
        """Re-rank the candidates of a photo that was read, and keep the `top` best.

        Whom a near-duplicate shows is not asked again: nearly the same picture matches anyhow.
        """
        if match.candidates and not any(one.copy for one in match.candidates):
            match = self(match, draw_picture(photo.path.parent, photo.record, box_of(self.fitted.side)), vector)
        return replace(match, candidates=match.candidates[:top])

    def __call__(self, match: Match, picture: bytes, vector: Vectors) -> Match:
        """Re-rank a photo's first candidates that have a picture; all candidates stay in order of their probabilities.

        The picture is a JPEG that fits into the calibration's box, the vector (D) is of length 1.
        """
        own = self.search.describe(picture)
        first, rest = match.candidates[: self.fitted.first], match.candidates[self.fitted.first :]
        found = [self._found(own, one, vector) for one in first]
        seen = [(one, local) for one, local in zip(first, found, strict=True) if local is not None]
        rest += [one for one, local in zip(first, found, strict=True) if local is None]
        chances = np.array([one.probability for one, _ in seen], np.float64)
        shares = shared_out(self.fitted, chances, np.array([len(local.lines) for _, local in seen], np.int64))
        changed = [
            replace(one, probability=float(share), local=local)
            for (one, local), share in zip(seen, shares, strict=True)
        ]
        return replace(match, candidates=sorted(changed + rest, key=lambda one: -(one.probability or 0.0)))

    def _found(self, own: Keypoints, candidate: RankedCandidate, vector: Vectors) -> MatchedKeypoints | None:
        place = bisect_left(self.gallery.individuals, candidate.id)
        rows = np.arange(*np.searchsorted(self.gallery.individual, [place, place + 1]))
        similar = cosines(vector[None], np.zeros(len(rows), np.int64), self.gallery.vectors, rows)
        return self.search.best(own, [self.gallery.photos[row] for row in rows.tolist()], similar)
