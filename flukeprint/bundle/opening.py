"""Opening a bundle: every file is checked, then networks start without torch. Nothing in a bundle is run as code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flukeprint.bundle.album import FileAlbum, FolderAlbum, read_album
from flukeprint.bundle.bundle_manifest import ALBUM, GALLERY, check_files
from flukeprint.bundle.encoder import Encoder, torch_encoder
from flukeprint.bundle.model import Model
from flukeprint.bundle.onnx_members import onnx_member
from flukeprint.bundle.preprocessing import NAME, Preprocessing, read_preprocessing
from flukeprint.core import paths
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import DECISION, FINETUNED, PARAMS, RAW, VALIDATED
from flukeprint.core.text import printable
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.provenance import Provenance, provenance_of
from flukeprint.scoring.calibration import Calibration, read_calibration

if TYPE_CHECKING:
    from flukeprint.bundle.encoder import Member

# Threads that decode photos.
_WORKERS = 2
# Most batches that run at once, a core for each: every one of them takes memory.
_MOST_AT_ONCE = 8
_REPAIR = "Copy the bundle again from where it came."


def open_model(bundle: Path | None, gallery: Path | None) -> Model:
    """Open a bundle, or without one the project in the current folder.

    Args:
        bundle: a folder that `flukeprint export` wrote.
        gallery: a gallery's folder, in place of the model's own.

    Raises:
        FlukeprintError: something is missing, damaged or does not fit together.

    """
    if bundle is None:
        return _open_project(gallery)
    return open_bundle(bundle, gallery)


def _open_project(gallery: Path | None) -> Model:
    from flukeprint.core.params import load_params

    if not PARAMS.is_file():
        raise FlukeprintError(
            f"this folder ({Path.cwd().name}/) is no project: {PARAMS} is missing. Go to a project's root, or name a "
            "bundle (--bundle DIR)."
        )
    params = load_params(("ensemble.members", "embed", "recipes.*.embed", "validate"))
    views = params.embed.views
    files = {member: FINETUNED / f"{member}.safetensors" for member in params.ensemble.members}
    provenance = provenance_of(files, views)  # first: it says what is wrong with a file
    return Model(
        "this project's model",
        torch_encoder(list(files.values()), views, params.runtime),
        provenance,
        gallery or paths.GALLERY,
        _calibration(DECISION),
        Limits.of(params.validate),
        params.runtime.workers,
        FolderAlbum.of(RAW / "train", VALIDATED / "train.parquet"),
    )


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
    provenance = _fingerprint(folder, described)
    calibration = _calibration(folder / "decision.json")
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
        provenance,
        gallery or folder / GALLERY,
        calibration,
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


def _fingerprint(folder: Path, described: Preprocessing) -> Provenance:
    """Return what made the bundle's vectors, from the weights themselves."""
    weights = {member: folder / "members" / f"{member}.safetensors" for member in described.members}
    for path in weights.values():
        _check_weights(path)
    provenance = provenance_of(weights, described.views)
    said = described.model_dump(include={"size", "mean", "std", "resize", "views"})
    wanted = provenance.model_dump(exclude={"members"})
    if wanted != said:
        raise FlukeprintError(f"{folder / NAME} says {said}, but the weights were made for {wanted}. {_REPAIR}")
    return provenance


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


def _calibration(path: Path) -> Calibration | None:
    """Read decision.json; without one a model ranks and gives no probabilities."""
    return read_calibration(path) if path.is_file() else None


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
