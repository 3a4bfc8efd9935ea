"""Photos cropped to the fluke that a localiser found: one function for the pipeline's pixels and for new photos."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from flukeprint.core.files import REPAIR, read_json
from flukeprint.core.manifests import Record, Sha256, validated
from flukeprint.core.param_types import Float, Side, UnitInterval
from flukeprint.data.photos import resized_rgb

Part = tuple[int, int, int, int]  # left, top, right, bottom in px

# Of a grey border where a crop keeps its shape: what a photo's values are centred at.
_GREY = (128, 128, 128)


class Found(NamedTuple):
    """What a localiser says of a photo: a box as shares of its sides, and two probabilities."""

    x0: float
    y0: float
    x1: float
    y1: float
    confidence: float  # that there is a fluke
    upside_down: float  # that it stands on its head


class Crop(Record):
    """How photos are cropped, and by which localiser; without one they are seen whole."""

    localiser: Sha256  # of the file with its weights
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]  # height, width in px that it sees photos in
    confidence: UnitInterval  # from which on there is a fluke
    margin: Annotated[Float, Field(ge=0, le=1)]  # beyond each side of the box, as a share of the box's side
    shape: Literal["squashed", "true"]
    upright: bool  # turn what stands upside down

    def in_words(self) -> str:
        """Return what tells vectors of photos so cropped from others."""
        turned = ", turned upright" if self.upright else ""
        return (
            f"cropped to the fluke that localiser {self.localiser} finds in {self.size[0]} x {self.size[1]} px with a "
            f"confidence of {self.confidence:g} or more (margin {self.margin:g}, {self.shape}{turned})"
        )


def read_crop(path: Path) -> Crop | None:
    """Read how a project's pixels were cropped; None where they are whole photos."""
    content = read_json(path) if path.exists() else None
    return None if content is None else validated(path, Crop, content, REPAIR)


def cropped(seen: Image.Image, found: Found | None, crop: Crop, size: tuple[int, int]) -> Image.Image:
    """Return the part of a photo, as it is seen, that shows its fluke, for pixels of `size` (height, width).

    A photo without a fluke is returned whole. `squashed`: the box with its margin, whatever its shape. `true`: the box
    is widened or heightened to the shape of `size` as far as the photo reaches; what is missing then becomes grey.
    """
    if found is None or found.confidence < crop.confidence:
        return seen
    part = part_of(found, crop.margin, seen.size, size if crop.shape == "true" else None)
    shown = seen.crop(part)
    if crop.upright and found.upside_down > 0.5:
        shown = shown.transpose(Image.Transpose.ROTATE_180)
    if crop.shape == "true":
        height, width = size
        return ImageOps.pad(shown.convert("RGB"), (width, height), Image.Resampling.BILINEAR, color=_GREY)
    return shown


def part_of(found: Found, margin: float, photo: tuple[int, int], shape: tuple[int, int] | None = None) -> Part:
    """Return the part of a photo, (width, height) px, that holds a box with its margin, in whole px.

    It is cut at the photo's border and at least one pixel large. With a `shape` (height, width) the shorter side grows
    about its middle until the part has that shape, or the photo ends.
    """
    width, height = photo
    across, down = _span(found.x0, found.x1, margin, width), _span(found.y0, found.y1, margin, height)
    if shape is not None:
        aspect = shape[1] / shape[0]
        across = _grown(*across, aspect * (down[1] - down[0]), width)
        down = _grown(*down, (across[1] - across[0]) / aspect, height)
    (left, right), (top, bottom) = _whole(*across, width), _whole(*down, height)
    return left, top, right, bottom


def _span(low: float, high: float, margin: float, side: int) -> tuple[float, float]:
    wider = margin * (high - low)
    return max(0.0, low - wider) * side, min(1.0, high + wider) * side


def _grown(low: float, high: float, length: float, side: int) -> tuple[float, float]:
    """Grow a span to a length, about its middle where there is room, and never beyond the side."""
    length = min(max(high - low, length), side)
    low = min(max((low + high - length) / 2, 0.0), side - length)
    return low, low + length


def _whole(low: float, high: float, side: int) -> tuple[int, int]:
    first = min(max(math.floor(low), 0), side - 1)
    return first, max(min(math.ceil(high), side), first + 1)


@dataclass(frozen=True)
class Cropper:
    """Finds the fluke in a photo that was just decoded, and crops to it."""

    find: Callable[[NDArray[np.uint8]], NDArray[np.float64]]  # 1 x 3 x H x W of crop.size in, 1 x 6 out
    crop: Crop

    def __call__(self, seen: Image.Image, size: tuple[int, int]) -> tuple[NDArray[np.uint8], Found]:
        """Return the pixels that networks see, 3 x H x W of `size`, and what was found."""
        height, width = self.crop.size
        found = Found(*self.find(resized_rgb(seen, (height, width))[None])[0].tolist())
        return resized_rgb(cropped(seen, found, self.crop, size), size), found


def remarks(found: Found, confidence: float) -> Mapping[str, str]:
    """Return what a photo's record says of its fluke: `no_fluke` and `upside_down`, empty where there is nothing."""
    without = found.confidence < confidence
    turned = not without and found.upside_down > 0.5
    return {
        "no_fluke": f"confidence {found.confidence:.2f}, expected {confidence:g}" if without else "",
        "upside_down": f"probability {found.upside_down:.2f}" if turned else "",
    }
