"""preprocessing.json of a bundle: what a photo goes through before its vector is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from flukeprint.bundle.bundle_manifest import REPAIR
from flukeprint.core.files import read_json
from flukeprint.core.manifests import Record, validated
from flukeprint.core.params import MOST_PIXELS
from flukeprint.data.cropping import Crop
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.provenance import Provenance

NAME = "preprocessing.json"
# Largest values that a bundle may ask for: of pixels, which take memory, and of what makes two photos near-duplicates.
_MOST_BITS, _MOST_MSE = 16, 2.0


def _bounded(limits: Limits) -> Limits:
    if not (1 <= limits.max_pixels <= MOST_PIXELS and 0 <= limits.bits <= _MOST_BITS and 0 <= limits.mse <= _MOST_MSE):
        raise ValueError(f"expected at most {MOST_PIXELS} max_pixels, {_MOST_BITS} bits and an mse of {_MOST_MSE}")
    return limits


class Preprocessing(Record, strict=False):  # a strict one would not read `limits`, a dataclass
    """What the networks of a bundle want to see, and how their embeddings become one vector."""

    provenance: Provenance  # the ONNX files hold the scaling by mean and standard deviation
    vector: str  # in words
    pictures: bool  # whether there is an album
    limits: Annotated[Limits, AfterValidator(_bounded)]
    crop: Crop | None = None  # to the fluke that the bundle's localiser finds


def read_preprocessing(path: Path) -> Preprocessing:
    """Read the file; refuse one that is not what it should be."""
    return validated(path, Preprocessing, read_json(path, REPAIR), REPAIR)
