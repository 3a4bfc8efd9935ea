"""The stage `gallery`: whose photos, whose vectors, and what made them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of, write_npy, write_safetensors
from flukeprint.core.paths import EMBEDDINGS, FINETUNED, GALLERY
from flukeprint.core.receipts import write_receipt
from flukeprint.retrieval.gallery_files import load_gallery
from flukeprint.retrieval.provenance import RESIZE, provenance_of
from stages.gallery import main

ROOT = Path(__file__).parents[2]
IDS = ["w_b", "w_a", "new_whale", "w_b", "w_c", "w_a"]
SPLITS = ["train", "valid", "train", "query", "calibration", "train"]
BACKBONE = {"size": [64, 128], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "name": "resnet18"}


def write_member(name: str, backbone: dict, seed: int) -> None:
    metadata = {"backbone": backbone, "labels": ["w_a"]}
    write_safetensors(f"models/finetuned/{name}.safetensors", {"head.bias": torch.full((2,), float(seed))}, metadata)
    embeddings = np.random.default_rng(seed).normal(size=(7, 2, 3 + seed)).astype(np.float32)
    write_npy(f"data/embeddings/{name}/train.npy", embeddings)
    write_receipt(name, [FINETUNED / f"{name}.safetensors", EMBEDDINGS / name])


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Seven photos in train.csv, of which the first is not in the full set."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/selected", "data/validated"):
        (tmp_path / folder).mkdir(parents=True)
    for seed, name in enumerate(("m2", "m1")):
        write_member(name, BACKBONE, seed)
    names = [f"{n}.jpg" for n in range(7)]
    full = pd.DataFrame({"Image": names[1:], "Id": IDS, "split": SPLITS, "pixel": range(1, 7), "cluster": range(1, 7)})
    full.to_parquet("data/selected/full.parquet")
    pd.DataFrame({"Image": names, "sha256": [f"{n:064x}" for n in range(7)]}).to_parquet("data/validated/train.parquet")
    return tmp_path


def run(photos: str = "all", *, flip_test: bool = False) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ensemble"]["members"] = ["m2", "m1"]
    params["gallery"]["photos"] = photos
    params["embed"]["flip_test"] = flip_test
    Path("params.yaml").write_text(yaml.safe_dump(params))
    main()


@pytest.mark.parametrize(("flip_test", "views"), [(False, 1), (True, 2)])
def test_a_photo_has_the_unit_vectors_of_its_row_from_all_members_and_views(project, flip_test, views):
    run(flip_test=flip_test)
    gallery = load_gallery(GALLERY)
    for photo, vector in zip(gallery.photos, gallery.vectors, strict=True):
        row = int(photo.image.removesuffix(".jpg"))
        assert photo.sha256 == f"{row:064x}"
        assert photo.id == IDS[row - 1]
        parts = [
            np.load(f"data/embeddings/{name}/train.npy")[row, view] for name in ("m2", "m1") for view in range(views)
        ]
        expected = np.concatenate([part / np.linalg.norm(part) for part in parts]) / np.sqrt(2 * views)
        np.testing.assert_allclose(vector, expected, atol=1e-6)


@pytest.mark.parametrize(("photos", "expected"), [("all", "12456"), ("trained", "126")])
def test_new_whale_is_left_out_and_queries_if_asked(project, photos, expected):
    run(photos)
    kept = sorted(photo.image[0] for photo in load_gallery(GALLERY).photos)
    assert "".join(kept) == expected


def test_the_fingerprint_tells_weights_and_preprocessing(project):
    run()
    provenance = load_gallery(GALLERY).provenance
    assert provenance == provenance_of({name: Path(f"models/finetuned/{name}.safetensors") for name in ("m2", "m1")}, 1)
    assert provenance.weights == {name: sha256_of(f"models/finetuned/{name}.safetensors") for name in ("m2", "m1")}
    shown = {key: BACKBONE[key] for key in ("size", "mean", "std")}
    assert provenance.model_dump(exclude={"members"}) == {**shown, "resize": RESIZE, "views": 1}


@pytest.mark.numeric
def test_the_same_inputs_give_the_same_bytes(project):
    files = []
    for _ in range(2):
        run()
        files.append({path.name: path.read_bytes() for path in GALLERY.iterdir()})
    assert files[0] == files[1]


def test_members_of_different_inputs_are_refused(project):
    write_member("m1", {**BACKBONE, "size": [64, 64]}, 1)
    with pytest.raises(FlukeprintError, match=r"m2\.safetensors and .*m1\.safetensors want photos of different sizes"):
        run()
    assert not GALLERY.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04N."])
def test_weights_that_are_no_member_are_refused(project, content):
    Path("models/finetuned/m1.safetensors").write_bytes(content)
    with pytest.raises(FlukeprintError, match=r"m1\.safetensors is not what metrics/embed says of it"):
        run()
    write_receipt("m1", [FINETUNED / "m1.safetensors", EMBEDDINGS / "m1"])
    with pytest.raises(FlukeprintError, match=r"m1\.safetensors is not a readable safetensors file"):
        run()
    Path("models/finetuned/m1.safetensors").unlink()
    with pytest.raises(FlukeprintError, match=r"m1\.safetensors is missing"):
        run()
