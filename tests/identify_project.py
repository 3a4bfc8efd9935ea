"""A tiny project after its pipeline: drawn photos, one member with random weights, a gallery and a decision."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from calibrations import calibration_of
from quality_folder import texture

from flukeprint.core.files import write_frame, write_safetensors
from flukeprint.core.paths import DECISION, FINETUNED, GALLERY, RAW, VALIDATED
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.pixels import write_pixels
from flukeprint.learning.backbones import load_finetuned
from flukeprint.learning.batches import PhotoScaler
from flukeprint.learning.embedding import embed
from flukeprint.learning.networks import build_backbone, for_inference, freeze
from flukeprint.learning.records import BackboneRecord
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import save_gallery
from flukeprint.retrieval.provenance import provenance_of
from flukeprint.retrieval.vectors import photo_vectors
from flukeprint.scoring.calibration import write_calibration

ROOT = Path(__file__).parent.parent
SIZE = (32, 48)
NAMES = [f"t{number:02}.jpg" for number in range(12)]
IDS = ["w_a"] * 4 + ["w_b"] * 4 + ["w_c"] * 2 + ["w_d", "w_e"]
PHOTO_OF = dict(zip(NAMES, IDS, strict=True))


def make_project(folder: Path, members: tuple[str, ...] = ("m1", "m2"), *, flip_test: bool = True) -> None:
    """Write the files of a project after `dvc repro` that identification reads. The folder must be the current one."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ensemble"]["members"] = list(members)
    params["embed"]["flip_test"] = flip_test
    params["runtime"] |= {"device": "cpu", "threads": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / RAW / "train").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        texture(number, (96, 64)).save(folder / RAW / "train" / name, quality=95)
    records = [inspect_photo(folder / RAW / "train", name) for name in NAMES]
    columns = {"Image": NAMES, "sha256": [r.sha256 for r in records], "phash": [np.uint64(r.phash) for r in records]}
    write_frame(folder / VALIDATED / "train.parquet", pd.DataFrame(columns))
    for seed, member in enumerate(members):
        write_member(folder / FINETUNED / f"{member}.safetensors", seed)
    views = 2 if flip_test else 1
    weights = {member: folder / FINETUNED / f"{member}.safetensors" for member in members}
    gallery = build_gallery(
        pipeline_vectors(folder, list(weights.values()), views), NAMES, IDS, provenance_of(weights, views),
        columns["sha256"],
    )  # fmt: skip
    save_gallery(gallery, folder / GALLERY)
    write_calibration(folder / DECISION, calibration_of(**decision(), provenance=gallery.provenance))


def write_member(path: Path, seed: int) -> None:
    backbone, last_layer = build_backbone("shufflenet_v2_x0_5", SIZE, seed)
    record = BackboneRecord(
        "shufflenet_v2_x0_5", "random", hashlib.sha256(b"").hexdigest(), (0.5,) * 3, (0.25,) * 3, SIZE, 1024,
        last_layer, False,
    )  # fmt: skip
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    write_safetensors(path, state, {"backbone": asdict(record), "embedder": None, "labels": []})


def pipeline_vectors(folder: Path, weights: list[Path], views: int) -> np.ndarray:
    """Go the pipeline's way: the stages pixels and embed, then one vector per photo."""
    import torch

    write_pixels(folder / "pixels.npy", folder / RAW / "train", NAMES, SIZE, workers=1)
    pixels = np.load(folder / "pixels.npy")
    parts = []
    for path in weights:
        backbone, record = load_finetuned(path)
        scaler = PhotoScaler(record.mean, record.std, torch.device("cpu"))
        parts.append(embed(for_inference(freeze(backbone)), pixels, views, 5, scaler, "test"))
    return photo_vectors(parts, views)


def decision() -> dict:
    """A decision with figures that make the arithmetic easy to follow."""
    fitted = {
        "inverse_temperature": 20.0, "other": 4.0, "new": 16.0, "new_score_weight": None, "known_queries": 10,
        "new_queries": 5, "log_loss": 1.0,
    }  # fmt: skip
    return {
        "scorers": {"gallery": fitted},
        "fusions": {"gallery": {"features": {"nearest": 0.75, "centre": 0.25}, "new_features": {}}},
        "verification": {
            "queries": 5, "individuals": 5, "same_pairs": 10, "different_pairs": 50,
            "thresholds": {"far_1e-2": 0.5, "far_1e-3": 0.9, "eer": 0.4}, "slope": 10.0, "intercept": -5.0,
        },
    }  # fmt: skip
