"""preprocessing.json of a bundle: what a photo goes through before its vector is compared."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, write_json
from flukeprint.core.manifests import Record
from flukeprint.core.sections import AtLeastOne, Channels, Float, MemberName, PositiveChannels, Side
from flukeprint.quality.flags import Limits

NAME = "preprocessing.json"


class LimitsRecord(Record):
    """The bounds of flukeprint/quality/flags.py."""

    min_side: AtLeastOne
    min_contrast: Annotated[Float, Field(ge=0, le=127)]
    max_pixels: Annotated[int, Field(ge=1, le=100_000_000)]
    bits: Annotated[int, Field(ge=0, le=16)]
    mse: Annotated[Float, Field(ge=0, le=2)]
    modes: list[str] = Field(default_factory=lambda: ["L", "RGB"])  # what bundles without the key compare with


class Preprocessing(Record):
    """What the networks of a bundle want to see, in the order in which it is done."""

    resize: str  # in words
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]  # height, width in px
    mean: Channels  # of RGB scaled to 0..1; the ONNX files hold it
    std: PositiveChannels
    views: Annotated[int, Field(ge=1, le=2)]  # 2: also the mirror image
    members: Annotated[list[MemberName], Field(min_length=1)]  # in the order in which their embeddings are joined
    vector: str  # in words
    pictures: bool  # whether there is an album
    limits: LimitsRecord


def write_preprocessing(path: Path, content: Preprocessing) -> None:
    """Write the file."""
    write_json(path, content.model_dump())


def read_preprocessing(path: Path) -> Preprocessing:
    """Read the file.

    Raises:
        FlukeprintError: it is missing, or not what it should be.

    """
    try:
        return Preprocessing.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise FlukeprintError(f"{path} is not a bundle's: {key}: {fault['msg']}. Get the bundle again.") from None


def limits_record(limits: Limits) -> LimitsRecord:
    """Return bounds as the file holds them."""
    return LimitsRecord(**asdict(limits))
