"""Local matching: which keypoints of two pictures show the same spot, and agree on how one picture lies on the other.

A matcher describes a picture once (`describe`) and pairs the keypoints of two of them (`pairs`). What counts is how
many pairs agree on one turn, shift and scale: a fluke is nearly flat and far away, and what it bends is tolerated.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flukeprint.data.photos import open_photo, quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float32]
# (x, y) in the one picture and (x, y) in the other, as shares of their widths and heights, for each pair.
Lines = tuple[tuple[float, float, float, float], ...]

# A pair agrees with a map that takes its one end so near to the other, as a share of the longer side: flukes bend.
_TOLERANCE = 0.04
_TRIALS, _SURE = 2000, 0.99
# Two pairs always agree, and a third one often by chance.
_FEWEST = 4
_MOST_PIXELS = 1 << 24

# SIFT (Lowe 2004): most keypoints of a picture; the least contrast of one, below OpenCV's default of 0.04, since
# small pictures have little; the ratio of the nearest descriptor's distance to the next one's.
_KEYPOINTS, _CONTRAST, _RATIO = 500, 0.02, 0.9
# Contrast-limited adaptive histogram equalization: the limit, and tiles along a side.
_CLIP, _TILES = 3.0, 8


class Keypoints(NamedTuple):
    """The keypoints of a picture."""

    points: Floats  # N x 2: x, y in px
    descriptors: NDArray[np.floating]  # N x D
    size: tuple[int, int]  # (width, height) of the picture in px


class MatchedKeypoints(NamedTuple):
    """What matches in a photo of an individual."""

    image: str  # name of the photo
    lines: Lines


class LocalMatcher(Protocol):
    """Finds keypoints in pictures and pairs those of two."""

    def describe(self, picture: NDArray[np.uint8]) -> Keypoints:
        """Return the keypoints of a picture, H x W x 3 in RGB."""

    def pairs(self, one: Keypoints, other: Keypoints) -> NDArray[np.int64]:
        """Return which keypoints of two pictures may be the same spot, P x 2 rows, none of them twice."""


class SiftMatcher:
    """SIFT keypoints after adaptive equalization, compared by RootSIFT (Arandjelovic and Zisserman 2012)."""

    def __init__(self) -> None:
        """Load OpenCV (extra `local`), and let it use one thread: pictures are small."""
        import cv2

        cv2.setNumThreads(1)
        self._equal = cv2.createCLAHE(_CLIP, (_TILES, _TILES))
        self._sift = cv2.SIFT_create(_KEYPOINTS, contrastThreshold=_CONTRAST)

    def describe(self, picture: NDArray[np.uint8]) -> Keypoints:
        """Return the keypoints of a picture."""
        import cv2

        grey = self._equal.apply(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        found, descriptors = self._sift.detectAndCompute(grey, None)
        points = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
        values = np.zeros((0, 128), np.float32) if descriptors is None else descriptors
        root = np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-9))
        # Half precision: those of many pictures are kept.
        return Keypoints(points, root.astype(np.float16), (grey.shape[1], grey.shape[0]))

    def pairs(self, one: Keypoints, other: Keypoints) -> NDArray[np.int64]:
        """Pair a keypoint with the nearest of the other picture if the next one is clearly farther (ratio test).

        Of several keypoints with the same nearest one the nearest of them is kept.
        """
        if len(other.points) < 2:
            return np.zeros((0, 2), np.int64)
        # Descriptors have length 1: the squared distance is 2 - 2 x their product.
        squared = 2 - 2 * one.descriptors.astype(np.float32) @ other.descriptors.astype(np.float32).T
        nearest, following = np.partition(squared, 1, axis=1)[:, :2].T
        rows = np.flatnonzero(nearest < _RATIO**2 * following)
        rows = rows[np.argsort(nearest[rows], kind="stable")]
        places = squared[rows].argmin(axis=1)
        first = np.sort(np.unique(places, return_index=True)[1])
        return np.column_stack([rows, places])[first].astype(np.int64)


def describe(matcher: LocalMatcher, jpeg: bytes, side: int) -> Keypoints:
    """Return the keypoints of a picture of an album, made larger or smaller until its longer side has `side` px."""
    with quiet(), open_photo(io.BytesIO(jpeg), _MOST_PIXELS) as picture:
        scale = side / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        return matcher.describe(np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)))


def matched(matcher: LocalMatcher, one: Keypoints, other: Keypoints) -> Lines:
    """Return the pairs of keypoints that agree on one map, in the order of the first picture's keypoints.

    The same pictures give the same pairs: trials of RANSAC (Fischler and Bolles 1981) start from a fixed seed.
    """
    pairs = matcher.pairs(one, other)
    ends = one.points[pairs[:, 0]], other.points[pairs[:, 1]]
    kept = pairs[np.sort(_agreeing(*ends, _TOLERANCE * max(other.size)))]
    lines = np.column_stack([one.points[kept[:, 0]] / one.size, other.points[kept[:, 1]] / other.size])
    return tuple(map(tuple, lines.round(4).tolist()))


def _agreeing(here: Floats, there: Floats, tolerance: float) -> NDArray[np.int64]:
    """Return the rows of pairs of points (P x 2 each) that the best map takes within `tolerance` px."""
    import cv2

    if len(here) < _FEWEST:
        return np.zeros(0, np.int64)
    cv2.setRNGSeed(0)
    found: tuple[Any, Any] = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=_TRIALS, confidence=_SURE
    )
    mask = found[1]
    rows = np.zeros(0, np.int64) if mask is None else np.flatnonzero(mask)
    return rows if len(rows) >= _FEWEST else np.zeros(0, np.int64)


def most_similar(similarities: Sequence[float] | NDArray[np.floating], photos: int) -> NDArray[np.int64]:
    """Return the places of the `photos` largest of an individual's similarities, largest first, equal ones in order."""
    return np.argsort(-np.asarray(similarities), kind="stable")[:photos]
