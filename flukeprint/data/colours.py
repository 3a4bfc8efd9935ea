"""Colour profiles: a photo of another colour space than sRGB is converted, as any viewer does.

Networks are trained on sRGB; the same photo in ProPhoto RGB looks pale to them. A photo without a profile, or with one
of the many that say sRGB, keeps its bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from flukeprint.core.safe_text import printable

# Profiles of printers have 0.5 to 3 MiB, those of cameras and screens a few kB.
_LARGEST_PROFILE = 4 << 20
# Of 255: profiles that differ less from sRGB, at every colour of a grid, are sRGB but for their maker's rounding.
_SAME = 3
# The mode of pixels that a profile is about, by its colours.
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
# Names of colours in HEIF (ITU-T H.273, colour primaries): BT.709, which are sRGB's, unspecified, and BT.601's, which
# are nearly those.
_SRGB_PRIMARIES = (1, 2, 5, 6)


class _ProfileError(Exception):
    """A profile that cannot be used; the message completes `its colour profile ...`."""


def in_srgb(image: Image.Image, plain: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return a decoded photo in sRGB, of mode L or RGB; `plain` makes it one of these without a look at its profile.

    A profile that cannot be used is left alone: `profile_fault` says why.
    """
    seen = image if image.mode == "CMYK" else plain(image)
    transform = _conversion(image, seen.mode)
    if transform is None:
        return plain(seen)
    if seen.mode == "CMYK":
        return transform.apply(seen)
    if seen.mode == "L":
        levels = Image.frombytes("L", (256, 1), bytes(range(256))).convert(transform.input_mode)
        return seen.point(list(transform.apply(levels).convert("L").tobytes()))
    transform.apply_in_place(seen)  # a copy would take as much memory again
    return seen


def profile_fault(image: Image.Image, mode: str) -> str:
    """Say why a photo's colour profile could not be used; empty where there is none, or it was.

    `mode` is that of the pixels: L, RGB or CMYK.
    """
    profile = image.info.get("icc_profile")
    primaries = image.info.get("nclx_profile", {}).get("color_primaries", 1)
    if not profile:
        return "" if primaries in _SRGB_PRIMARIES else f"its colours are those of H.273 number {primaries}, not sRGB"
    try:
        _transform(profile, mode)
    except _ProfileError as error:
        return f"its colour profile {error}"
    return ""


def _conversion(image: Image.Image, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what brings pixels of a mode to sRGB, in mode RGB; None where nothing is to be done, or can be."""
    profile = image.info.get("icc_profile")
    try:
        return _transform(profile, mode) if profile else None
    except _ProfileError:
        return None


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a profile's colours to sRGB, or None if the profile is that of sRGB."""
    if len(profile) > _LARGEST_PROFILE:
        raise _ProfileError(f"has {len(profile)} bytes, more than the {_LARGEST_PROFILE} accepted")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        own = _MODES.get(space)
        transform = own and ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), own, "RGB")
    except Exception as error:  # noqa: BLE001 - a parser of hostile bytes
        raise _ProfileError(f"cannot be read ({' '.join(str(error).split())[:80]})") from None
    # Grey pixels may have the profile of the colours that they were.
    if not transform or own not in (mode, "RGB" if mode == "L" else mode):
        raise _ProfileError(f"is one of {printable(space)} colours, but the photo is {mode}")
    return None if own != "CMYK" and _changes_little(transform, own) else transform


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Tell whether a transform leaves all colours where they are, but for rounding."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(len(levels), -1, 3)
    colours = Image.fromarray(cube if mode == "RGB" else levels[None])
    before, after = (np.asarray(one.convert("RGB"), np.int16) for one in (colours, transform.apply(colours)))
    return int(np.abs(after - before).max()) <= _SAME
