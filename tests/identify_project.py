"""A tiny project after its pipeline: drawn photos, one member with random weights, a gallery and a decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from calibrations import calibration_of
from pixel_folder import decoded
from quality_folder import texture
from training_cases import RUNTIME, random_backbone

from flukeprint.core.files import write_frame, write_safetensors
from flukeprint.core.paths import DECISION, FINETUNED, GALLERY, RAW, VALIDATED
from flukeprint.core.runtime import open_accelerator
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.photos import read_rgb
from flukeprint.learning.embedding import embed, embedding_job
from flukeprint.learning.network_files import load_finetuned
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
    pixels = np.stack([read_rgb(folder / RAW / "train", name, SIZE) for name in NAMES])
    for seed, member in enumerate(members):
        write_member(folder / FINETUNED / f"{member}.safetensors", seed, pixels)
    views = 2 if flip_test else 1
    weights = {member: folder / FINETUNED / f"{member}.safetensors" for member in members}
    gallery = build_gallery(
        pipeline_vectors(folder, list(weights.values()), views), NAMES, IDS, provenance_of(weights, views),
        columns["sha256"],
    )  # fmt: skip
    save_gallery(gallery, folder / GALLERY)
    write_calibration(folder / DECISION, calibration_of(**decision(), provenance=gallery.provenance))


def write_member(path: Path, seed: int, pixels: np.ndarray) -> None:
    """Write a network of random weights whose BatchNorms know the photos: without, it would tell nobody apart."""
    import torch

    backbone, record = random_backbone("timm/test_efficientnet", SIZE, seed)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, here over one
    with torch.no_grad():
        backbone.train()((torch.from_numpy(pixels) / 255 - 0.5) / 0.25)
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    write_safetensors(path, state, {"backbone": record.to_json(), "embedder": None, "labels": []})


def pipeline_vectors(folder: Path, weights: list[Path], views: int) -> np.ndarray:
    """Go the pipeline's way: the stages pixels and embed, then one vector per photo."""
    return photo_vectors(pipeline_embeddings(folder, weights, views, NAMES), views)


def pipeline_embeddings(folder: Path, weights: list[Path], views: int, names: list[str]) -> list[np.ndarray]:
    """Return the embeddings of photos by each network, as the stages pixels and embed make them."""
    pixels = decoded(folder / "pixels", folder / RAW / "train", names, SIZE)
    networks = [embedding_job(*load_finetuned(path), RUNTIME, open_accelerator(RUNTIME)) for path in weights]
    return [embed(network, pixels, views) for network in networks]


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
