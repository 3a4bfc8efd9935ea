"""Local re-ranking of a photo's first candidates: those whose keypoints match the photo's move up (local.json)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.bundle.album import Box
from flukeprint.bundle.model import Model
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of
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

# Returns a photo of the gallery as a JPEG that fits into the box, or None where there is none.
Pictures = Callable[[Photo, Box], bytes | None]
Networks = tuple[Path, Path] | None  # files of weights: of what finds keypoints, and of what pairs them

# Pictures whose keypoints are kept: an eighth of a megabyte each by SIFT, a quarter by the networks.
_KEPT = 2048


def open_matcher(networks: Networks) -> tuple[LocalMatcher, MatcherRecord]:
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
        self.pictures = pictures
        self.of_photo = lru_cache(_KEPT)(self._of_photo)

    def _of_photo(self, photo: Photo) -> Keypoints | None:
        picture = self.pictures(photo, box_of(self.side))
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


class LocalMatching(NamedTuple):
    """What was fitted to matched keypoints, and what finds and pairs them."""

    fitted: LocalCalibration
    matcher: LocalMatcher

    @classmethod
    def of(cls, model: Model, networks: Networks = None) -> LocalMatching:
        """Read the calibration that lies beside a model's, and open what it was fitted to.

        Raises:
            FlukeprintError: there is none, or it is of other weights or another matcher; or the model gives no
                probabilities.
        """
        if reason := why_uncalibrated(model.calibration, model.provenance):
            raise FlukeprintError(f"without probabilities nothing can be re-ranked ({reason}). Leave --local out.")
        fitted = LocalCalibration.read(model.folder or Path())
        fitted.refuse_other(model.provenance)
        matcher, record = open_matcher(networks)
        fitted.refuse_other_matcher(record)
        return cls(fitted, matcher)


class Reranker:
    """Re-ranks candidates of a gallery by a fitted calibration."""

    def __init__(self, local: LocalMatching, gallery: Gallery, pictures: Pictures) -> None:
        """Take what was fitted, and the gallery with its pictures."""
        fitted = local.fitted
        self.fitted, self.gallery, self.box = fitted, gallery, box_of(fitted.side)
        self.search = KeypointSearch(local.matcher, pictures, fitted.side, fitted.photos)

    def __call__(self, match: Match, picture: Callable[[Box], bytes | None], vector: Vectors) -> Match:
        """Re-rank a photo's first candidates that have a picture; all candidates stay in order of their probabilities.

        A photo without a picture keeps its answer, and so does one that is nearly the same picture as one of a
        candidate, which would match anyhow. The vector (D) is of length 1.
        """
        copied = any(one.copy for one in match.candidates)
        if not match.candidates or copied or (jpeg := picture(self.box)) is None:
            return match
        own = self.search.describe(jpeg)
        first, rest = match.candidates[: self.fitted.first], match.candidates[self.fitted.first :]
        looked_at = [replace(one, local=self._found(own, one, vector)) for one in first]
        seen = [one for one in looked_at if one.local]
        shares = shared_out(
            self.fitted,
            np.array([one.probability for one in seen], np.float64),
            np.array([one.keypoints for one in seen], np.int64),
        )
        changed = [replace(one, probability=share) for one, share in zip(seen, shares.tolist(), strict=True)]
        unseen = [one for one in looked_at if not one.local]
        return replace(match, candidates=sorted(changed + unseen + rest, key=lambda one: -(one.probability or 0.0)))

    def _found(self, own: Keypoints, candidate: RankedCandidate, vector: Vectors) -> MatchedKeypoints | None:
        place = bisect_left(self.gallery.individuals, candidate.id)
        rows = np.arange(*np.searchsorted(self.gallery.individual, [place, place + 1]))
        similar = cosines(vector[None], np.zeros(len(rows), np.int64), self.gallery.vectors, rows)
        return self.search.best(own, [self.gallery.photos[row] for row in rows.tolist()], similar)
