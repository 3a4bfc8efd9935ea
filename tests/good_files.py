"""A good file, or folder, of every kind that we read from others, made in a moment: nothing is trained or exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from calibrations import calibration_of, open_set
from gallery_folder import vectors_of
from quality_folder import texture

from flukeprint.bundle.album import entry_of, write_album
from flukeprint.bundle.bundle_manifest import write_manifest
from flukeprint.bundle.onnx_members import INPUT, OPSET, OUTPUT
from flukeprint.bundle.preprocessing import Preprocessing
from flukeprint.core.files import sha256_of, write_frame, write_json, write_npy
from flukeprint.data.inspection import inspect_photo
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import save_gallery
from flukeprint.retrieval.provenance import provenance_of
from flukeprint.scoring.calibration import ScoreFusion, write_calibration

SIZE = (32, 48)
ROOT = Path(__file__).parents[1]
# (suffix, mode, options) of photos.
_PHOTOS = [
    ("jpg", "RGB", {}), ("jpg", "L", {"progressive": True}), ("jpg", "CMYK", {}), ("png", "RGBA", {}), ("png", "P", {}),
    ("tif", "RGB", {}), ("tif", "RGB", {"compression": "tiff_lzw"}), ("tif", "F", {}), ("webp", "RGBA", {}),
    ("bmp", "RGB", {}), ("gif", "P", {}),
]  # fmt: skip


def make_good(folder: Path) -> None:
    """Write folder/<kind>/ for every kind: files, or one folder named like the kind."""
    for kind in ("photo", "table", "submission", "params", "decision", "parquet", "npy", "tensors", "weights"):
        (folder / kind).mkdir(parents=True)
    _photos(folder / "photo")
    (folder / "table/a.csv").write_text('Image,Id\na.jpg,w_1\n"b, c.jpg",w_2\n')
    (folder / "submission/a.csv").write_text("Image,Id\na.jpg,w_1 w_2 w_3 w_4 w_5\nb.jpg,new_whale\n")
    (folder / "params/params.yaml").write_text((ROOT / "params.yaml").read_text())
    rows = {"Image": [f"{n}.jpg" for n in range(50)], "n": np.arange(50), "scores": [[0.5, n / 2] for n in range(50)]}
    write_frame(folder / "parquet/a.parquet", pd.DataFrame(rows))
    write_npy(folder / "npy/a.npy", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    make_bundle(folder / "bundle/bundle")
    (folder / "tensors/a.safetensors").write_bytes((folder / "bundle/bundle/members/m1.safetensors").read_bytes())
    (folder / "decision/decision.json").write_bytes((folder / "bundle/bundle/decision.json").read_bytes())
    _weights(folder / "weights/a.pt")


def _photos(folder: Path) -> None:
    for number, (suffix, mode, options) in enumerate(_PHOTOS):
        image = texture(number, (48, 32)).convert("L" if mode == "F" else mode).convert(mode)
        image.save(folder / f"{number}.{suffix}", **options)
    frames = [texture(seed, (48, 32)) for seed in (90, 91)]
    for suffix in ("gif", "png", "webp", "tif"):
        frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:])


def _weights(path: Path) -> None:
    import torch

    torch.save({"conv.weight": torch.zeros(4, 3, 2, 2), "conv.bias": torch.ones(4, dtype=torch.float16)}, path)


def network(photo_shape: tuple[int, ...] = (3, *SIZE)) -> object:
    """Return a small ONNX graph in our form: the mean of each channel."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", [INPUT], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], [OUTPUT], keepdims=0),
    ]
    ends = [
        helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", *photo_shape]),
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 3]),
    ]
    axes = numpy_helper.from_array(np.array([2, 3]), "axes")
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [axes])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def make_bundle(folder: Path) -> None:
    """Write a bundle of one member that nobody trained, with a gallery, an album and probabilities."""
    from safetensors.numpy import save

    (folder / "members").mkdir(parents=True)
    record = {"name": "resnet18", "size": SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}
    metadata = {"json": json.dumps({"backbone": record, "embedder": None, "labels": []}, sort_keys=True)}
    (folder / "members/m1.safetensors").write_bytes(save({"a": np.ones((2, 3), np.float32)}, metadata))
    (folder / "members/m1.onnx").write_bytes(network().SerializeToString())
    provenance = provenance_of({"m1": folder / "members/m1.safetensors"}, 1)
    described = Preprocessing(provenance=provenance, vector="means", pictures=True, limits=Limits())
    write_json(folder / "preprocessing.json", described.model_dump())
    calibration = calibration_of(
        scorers={"gallery": open_set(20.0, 4.0, 16.0, None)},
        fusions={"gallery": ScoreFusion(features={"nearest": 0.75, "centre": 0.25}, new_features={})},
        provenance=provenance,
    )
    write_calibration(folder / "decision.json", calibration)
    names = [f"{number}.jpg" for number in range(6)]
    photos = folder.parent / "photos"
    photos.mkdir()
    for number, name in enumerate(names):
        texture(number, (48, 32)).save(photos / name)
    ids, hashes = ["w_1", "w_1", "w_2", "w_2", "w_3", "w_4"], [sha256_of(photos / name) for name in names]
    save_gallery(build_gallery(vectors_of(6, 3), names, ids, provenance, hashes), folder / "gallery")
    write_album(folder / "gallery.album", [entry_of(photos, inspect_photo(photos, name)) for name in names])
    (folder / "README.md").write_text("# A bundle\n")
    write_manifest(folder)
