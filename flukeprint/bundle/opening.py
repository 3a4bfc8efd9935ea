"""Opening a bundle: every file is checked, then networks start without torch. Nothing in a bundle is run as code."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from flukeprint.bundle.album import Albums, FolderAlbum, read_album
from flukeprint.bundle.bundle_manifest import ALBUM, GALLERY, REPAIR, check_files
from flukeprint.bundle.encoder import Encoder, torch_encoder
from flukeprint.bundle.model import Model
from flukeprint.bundle.onnx_members import onnx_cropper, onnx_member
from flukeprint.bundle.preprocessing import NAME, read_preprocessing
from flukeprint.core import paths
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import REPAIR as DVC_REPAIR
from flukeprint.core.files import sha256_of
from flukeprint.core.paths import CROP, DECISION, FINETUNED, LOCALISER, LOCALISER_WEIGHTS, PARAMS, RAW, VALIDATED
from flukeprint.core.replacement import recover
from flukeprint.data.cropping import Crop, read_crop
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.provenance import Provenance, provenance_of
from flukeprint.scoring.calibration import Calibration, read_calibration

# Threads that decode photos.
_WORKERS = 2
# Most batches that run at once, a core for each: every one of them takes memory.
_MOST_AT_ONCE = 8


def open_model(bundle: Path | None, gallery: Path | None) -> Model:
    """Open a bundle, or without one the project in the current folder; `gallery` takes the place of the model's own."""
    return open_project(gallery) if bundle is None else open_bundle(bundle, gallery)


def open_project(gallery: Path | None = None) -> Model:
    """Open the project in the current folder, with its own gallery or another one."""
    from flukeprint.core.params import load_params

    if not PARAMS.is_file():
        raise FlukeprintError(
            f"this folder ({Path.cwd().name}/) is no project: {PARAMS} is missing. Go to a project's root, or name a "
            "bundle (--bundle DIR)."
        )
    params = load_params(("ensemble.members", "embed", "recipes.*.embed", "validate"))
    weights, crop = finetuned_files(params.ensemble.members), read_crop(CROP)
    provenance = provenance_of(weights, params.embed.views, crop=crop)
    return Model(
        "this project's model",
        lambda: torch_encoder(list(weights.values()), provenance, params.runtime, crop, LOCALISER / LOCALISER_WEIGHTS),
        provenance,
        gallery or paths.GALLERY,
        _calibration(DECISION, DVC_REPAIR),
        Limits.of(params.validate),
        params.runtime.workers,
        FolderAlbum.of(RAW / "train", VALIDATED / "train.parquet"),
        crop,
        DECISION.parent,
    )


def finetuned_files(members: Iterable[str]) -> dict[str, Path]:
    """Return member -> the file of its fine-tuned network in a project."""
    return {member: FINETUNED / f"{member}.safetensors" for member in members}


def open_bundle(folder: Path, gallery: Path | None = None) -> Model:
    """Open what `flukeprint export` wrote; refuse it if a file is missing, changed, too many or not as described."""
    recover(folder)
    check_files(folder)
    described = read_preprocessing(folder / NAME)
    _check_weights(folder, described.provenance, described.crop)
    if described.pictures and not (folder / ALBUM).is_file():
        raise FlukeprintError(f"{folder / ALBUM} is missing: near-duplicates could not be told without it. {REPAIR}")
    provenance, (height, width) = described.provenance, described.provenance.size
    networks = [folder / "members" / f"{name}.onnx" for name in provenance.weights]
    with ThreadPoolExecutor() as pool:
        members = [*pool.map(partial(onnx_member, size=(height, width)), networks)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cropper = None if described.crop is None else onnx_cropper(folder / "localiser.onnx", described.crop)
    encoder = Encoder(members, (height, width), provenance.views, cropper, at_once=min(cores, _MOST_AT_ONCE))
    return Model(
        f"the model in {folder}",
        lambda: encoder,
        provenance,
        gallery or folder / GALLERY,
        _calibration(folder / "decision.json", REPAIR),
        described.limits,
        _WORKERS,
        # With the bundle's own gallery its album is the one beside the gallery, which is read for every request.
        read_album(folder / ALBUM) if gallery else Albums(),
        described.crop,
        folder,
    )


def _check_weights(folder: Path, said: Provenance, crop: Crop | None) -> None:
    """Refuse a preprocessing that is not that of the weights themselves."""
    weights = {member: folder / "members" / f"{member}.safetensors" for member in said.weights}
    others = f"{REPAIR} Weights in another form, such as a pickle, are never loaded."
    found = provenance_of(weights, said.views, others, crop)
    if crop is not None and sha256_of(folder / LOCALISER_WEIGHTS) != crop.localiser:
        raise FlukeprintError(f"{folder / LOCALISER_WEIGHTS} is not the localiser that {folder / NAME} names. {REPAIR}")
    if wrong := {field: value for field, value in found if value != getattr(said, field)}:
        raise FlukeprintError(f"{folder / NAME} does not say what the weights were made for: {wrong}. {REPAIR}")


def _calibration(path: Path, repair: str) -> Calibration | None:
    """Read decision.json; without one a model ranks and gives no probabilities."""
    return read_calibration(path, repair) if path.is_file() else None
