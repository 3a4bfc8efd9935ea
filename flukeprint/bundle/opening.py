"""Opening a bundle: every file is checked, then networks start without torch. Nothing in a bundle is run as code."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.bundle.manifest import ALBUM, GALLERY, check_files
from flukeprint.bundle.networks import onnx_member
from flukeprint.bundle.preprocessing import NAME, Preprocessing, read_preprocessing
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json
from flukeprint.core.text import printable
from flukeprint.gallery.fingerprint import Fingerprint, fingerprint_of
from flukeprint.identify.album import FileAlbum, read_album
from flukeprint.identify.encoder import Encoder
from flukeprint.identify.flags import Limits
from flukeprint.identify.models import Model

if TYPE_CHECKING:
    from flukeprint.identify.encoder import Member

# Threads that decode photos.
_WORKERS = 2
# Most batches that run at once, a core for each: every one of them takes memory.
_MOST_AT_ONCE = 8
_REPAIR = "Copy the bundle again from where it came."


@dataclass(frozen=True)
class _NoPairs:
    """`verification` where there were no pairs to calibrate with."""

    without: str


def open_bundle(folder: Path, gallery: Path | None = None) -> Model:
    """Open a bundle.

    Args:
        folder: what `flukeprint export` wrote.
        gallery: another gallery, made by the same model.

    Raises:
        FlukeprintError: a file is missing, changed, too many, or not what it should be.

    """
    check_files(folder)
    described = read_preprocessing(folder / NAME)
    made_by = _fingerprint(folder, described)
    _check_decision(folder / "decision.json")
    if described.pictures and not (folder / ALBUM).is_file():
        raise FlukeprintError(f"{folder / ALBUM} is missing: near-duplicates could not be told without it. {_REPAIR}")
    members = [
        onnx_member(_onnx(folder, member).read_bytes(), str(_onnx(folder, member))) for member in described.members
    ]
    height, width = described.size
    for name, member in zip(described.members, members, strict=True):
        _try_out(_onnx(folder, name), member, (height, width))
    return Model(
        f"the model in {folder}",
        Encoder(members, (height, width), described.views, at_once=min(_cores(), _MOST_AT_ONCE)),
        made_by,
        gallery or folder / GALLERY,
        folder / "decision.json",
        Limits(**described.limits.model_dump()),
        _WORKERS,
        # With the bundle's own gallery its album is the one beside the gallery, which is read for every request.
        read_album(folder / ALBUM) if gallery else FileAlbum(),
    )


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _onnx(folder: Path, member: str) -> Path:
    path = folder / "members" / f"{member}.onnx"
    if not path.is_file():
        raise FlukeprintError(f"{path} is missing, but {NAME} names the member. {_REPAIR}")
    return path


def _fingerprint(folder: Path, described: Preprocessing) -> Fingerprint:
    """Return what made the bundle's vectors, from the weights themselves."""
    weights = {member: folder / "members" / f"{member}.safetensors" for member in described.members}
    for path in weights.values():
        _check_weights(path)
    made_by = fingerprint_of(weights, described.views)
    said = described.model_dump(include={"size", "mean", "std", "resize", "views"})
    if dict(made_by.preprocessing) != said:
        raise FlukeprintError(
            f"{folder / NAME} says {said}, but the weights were made for {dict(made_by.preprocessing)}. {_REPAIR}"
        )
    return made_by


def _check_weights(path: Path) -> None:
    """Refuse what is no safetensors file; its tensors are not even read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            file.keys()
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing, but {NAME} names the member. {_REPAIR}") from None
    except SafetensorError as error:
        raise FlukeprintError(
            f"{path} is no safetensors file ({error}). Weights in another form, such as a pickle, are never loaded: "
            f"loading them could run code. {_REPAIR}"
        ) from None


def _check_decision(path: Path) -> None:
    """Refuse a decision that could not be used; a bundle without one ranks and gives no probabilities."""
    from pydantic import TypeAdapter, ValidationError

    from flukeprint.scoring.decision import Decision
    from flukeprint.scoring.mixture import Mixture
    from flukeprint.scoring.verification import Verification

    if not path.is_file():
        return
    content = read_json(path)
    try:
        kinds: tuple[tuple[Any, Any], ...] = (
            (dict[str, Decision], content["scorers"]),
            (dict[str, Mixture], content["mixtures"]),
            (dict[str, str], content["without"]),
            (Verification | _NoPairs, content["verification"]),
        )
        for kind, part in kinds:
            TypeAdapter(kind).validate_json(json.dumps(part, allow_nan=False), strict=True)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FlukeprintError(f"{path} is no decision of ours ({printable(reason)}). {_REPAIR}") from None


def _try_out(path: Path, member: Member, size: tuple[int, int]) -> None:
    """Refuse a network that does not take photos of that size, or does not give one vector for each."""
    try:
        shape = member(np.zeros((1, 3, *size), np.uint8), 1).shape
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common class but this one
        reason = printable(" ".join(str(error).split())[:200])
        raise FlukeprintError(
            f"{path} cannot run on photos of {size[0]} x {size[1]} px ({reason}). {_REPAIR}"
        ) from None
    if len(shape) != 3:
        raise FlukeprintError(f"{path} gives {len(shape) - 1} dimensions for a batch, expected vectors. {_REPAIR}")
