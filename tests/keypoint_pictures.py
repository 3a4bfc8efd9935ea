"""Pictures with keypoints, and local.json for tests."""

from __future__ import annotations

import io

import numpy as np
from gallery_folder import PROVENANCE
from PIL import Image

from flukeprint.scoring.local_calibration import LocalCalibration, MatcherRecord


def speckled(seed: int, size: tuple[int, int] = (320, 160)) -> Image.Image:
    """Return a picture of blurred spots of several sizes."""
    generator = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0]))
    for cells in (10, 24, 60):
        spots = Image.fromarray(generator.integers(0, 256, (cells, 2 * cells), dtype=np.uint8))
        total += np.asarray(spots.resize(size, Image.Resampling.BICUBIC), float)
    return Image.fromarray((total / 3).astype(np.uint8)).convert("RGB")


def jpeg_of(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def local_calibration(**changes) -> LocalCalibration:
    """A calibration with figures that make the arithmetic easy to follow."""
    fields = {
        "version": LocalCalibration.VERSION, "matcher": MatcherRecord(name="sift", weights=[]), "side": 320, "first": 5,
        "photos": 2, "slope": 2.0, "intercept": -5.0, "sharpness": 1.5, "provenance": PROVENANCE, "queries": 9,
        "right": 6, "candidates": 40, "log_loss": 1.0, "log_loss_before": 1.5,
    }  # fmt: skip
    return LocalCalibration(**fields | changes)
