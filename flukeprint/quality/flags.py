"""What about a photo makes its answer less trustworthy: the rules on single photos of flukeprint/quality/rules.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flukeprint.data.near_duplicates import MAX_BITS, MAX_MSE
from flukeprint.data.photos import MAX_PIXELS

if TYPE_CHECKING:
    from flukeprint.core.params import ValidateParams
    from flukeprint.data.inspection import PhotoRecord

_GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


class Flag(NamedTuple):
    """Something about a photo."""

    rule: str  # its name in flukeprint/quality/rules.py
    says: str


@dataclass(frozen=True)
class Limits:
    """The bounds that photos are compared with, as under `validate` in params.yaml."""

    min_side: int = 32  # px
    min_contrast: float = 5.0  # standard deviation of grey values 0 to 255
    max_pixels: int = MAX_PIXELS
    bits: int = MAX_BITS
    mse: float = MAX_MSE

    @classmethod
    def of(cls, params: ValidateParams) -> Limits:
        """Return the bounds of a project."""
        same = params.duplicates
        return cls(params.min_side, params.min_contrast, params.max_pixels, same.bits, same.mse)


def flags_of(record: PhotoRecord, limits: Limits) -> list[Flag]:
    """Return what is wrong or odd about a photo that could be read."""
    return list(_flags(record, limits))


def _flags(record: PhotoRecord, limits: Limits) -> Iterator[Flag]:
    if min(record.width, record.height) < limits.min_side:
        yield Flag(
            "photo_size",
            f"small: {record.width} x {record.height} px; below {limits.min_side} px the trailing edge cannot be seen",
        )
    if record.contrast < limits.min_contrast:
        yield Flag("photo_contrast", f"almost constant: grey values vary by {record.contrast:.1f} of 255")
    if record.mode in _GREY:
        yield Flag("photo_grey", "grey")
    elif record.mode != "RGB":
        yield Flag("photo_mode", f"converted from mode {record.mode}: colours may differ from what was meant")
    if record.orientation != 1:
        yield Flag("photo_orientation", f"turned, as EXIF orientation {record.orientation} asks: is it upright?")
    if record.frames > 1:
        yield Flag("photo_frames", f"holds {record.frames} pictures; only the first was used")
