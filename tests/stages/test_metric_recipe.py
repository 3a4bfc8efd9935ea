"""The recipe `metric` as its users run it: answers, a bundle that gives the same, and a collapsed embedding told."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_project import PHOTOS, new_project, run, run_here, set_params, stages_of

from flukeprint.cli.main import main
from flukeprint.core.files import read_safetensors, write_safetensors
from flukeprint.data.photos import read_rgb
from flukeprint.data.sample import plan_sample
from flukeprint.learning.backbones import build_backbone
from flukeprint.learning.networks import batchnorms

# How far the answers of one network by torch and by onnxruntime may be apart: rounding, times the slope of the
# calibration (some tens) where it is of probabilities.
SAME_SIMILARITY, SAME_PROBABILITY = 1e-4, 1e-2
OTHER_BACKBONE = {
    "name": "timm/test_efficientnet", "weights": "m2.safetensors", "mean": "auto", "std": "auto", "batchnorm": "frozen",
}  # fmt: skip
OTHER_SIZE = [40, 48]


def identify(capsys, photo: Path, *options: str) -> dict:
    """Return the current folder's answer about a photo as JSON."""
    capsys.readouterr()
    main(["identify", str(photo), "--format", "json", *options])
    return json.loads(capsys.readouterr().out)


def assert_answers_alike(own: list[dict], bundled: list[dict]) -> None:
    """Compare the candidates of two runtimes: figures within rounding, order where they are further apart."""
    place = {one["id"]: number for number, one in enumerate(bundled)}
    assert len(own) == len(bundled) == len(place)
    for one in own:
        other = bundled[place[one["id"]]]
        assert other["similarity"] == pytest.approx(one["similarity"], abs=SAME_SIMILARITY)
        assert other["probability"] == pytest.approx(one["probability"], abs=SAME_PROBABILITY)
    apart = [
        (place[one["id"]], place[other["id"]])
        for one, other in itertools.combinations(own, 2)
        if one["probability"] - other["probability"] > 2 * SAME_PROBABILITY
    ]
    assert apart
    assert all(better < worse for better, worse in apart)


def write_other_weights(project: Path, photos: Path) -> None:
    """Write random weights whose BatchNorms know some photos: without, they would tell nobody apart."""
    network, _ = build_backbone(OTHER_BACKBONE["name"], (32, 32), 0)
    for layer in batchnorms(network):
        layer.momentum = None  # the mean over all batches, here over one
    pixels = np.stack([read_rgb(photos / "train", path.name, (32, 32)) for path in (photos / "train").iterdir()])
    with torch.no_grad():
        network.train()((torch.from_numpy(pixels) / 255 - 0.45) / 0.225)
    write_safetensors(project / OTHER_BACKBONE["weights"], network.state_dict())


def assert_backbones(project: Path) -> None:
    """Look for m2's own network, of another size, in all that its two members left."""
    trained = {name: read_safetensors(project / f"models/finetuned/{name}.safetensors") for name in ("m1", "m2")}
    records = {name: metadata["backbone"] for name, (_, metadata) in trained.items()}
    assert [records[name]["name"] for name in ("m1", "m2")] == ["shufflenet_v2_x0_5", OTHER_BACKBONE["name"]]
    assert [records[name]["mean"] for name in ("m1", "m2")] == [[0.5] * 3, [0.485, 0.456, 0.406]]  # auto: timm's
    assert [records[name].get("own_size") for name in ("m1", "m2")] == [None, OTHER_SIZE]
    assert [records[name]["size"] for name in ("m1", "m2")] == [[32, 32]] * 2
    assert "embedder.backbone.network.conv_stem.bias" in trained["m2"][0]  # which BatchNorm was folded into
    provenance = json.loads((project / "models/gallery/gallery.json").read_text())["provenance"]
    assert provenance["mean"] == [0.5] * 3
    assert [one.get("mean") for one in provenance["members"]] == [None, [0.485, 0.456, 0.406]]


@pytest.mark.numeric
def test_the_metric_recipe_ends_in_answers_and_a_bundle_that_gives_the_same(tmp_path, photos, monkeypatch, capsys):
    project = new_project(tmp_path / "project", photos)
    write_other_weights(project, photos)
    # So few queries choose no best scorer; with the single photos there are more steps.
    set_params(
        project, recipe="metric", recipes__metric__finetune__epochs=2, recipes__metric__finetune__min_photos=1,
        recipes__metric__submit={"decision": "class"}, ensemble__members=["m1", "m2"],
        profiles__folder__members={"m2": {"backbone": OTHER_BACKBONE, "image_size": OTHER_SIZE}},
    )  # fmt: skip
    run_here(project, monkeypatch, *stages_of(["m1", "m2"]))
    assert_backbones(project)
    run(project, "dvc", "commit", "--force", "--quiet")
    set_params(project, train__lr=0.001)
    run_here(project, monkeypatch, "train", "start@m1", "start@m2")
    # No fine-tuning; stage evaluate draws the heads' curves.
    stale = {"train", "start@m1", "start@m2", "evaluate"}
    assert set(json.loads(run(project, "dvc", "status", "--json"))) == stale
    page = (project / "reports/evaluation/index.html").read_text()
    assert "full fine-tuning: loss" in page
    assert "can hardly be told apart" not in page
    monkeypatch.chdir(project)
    main(["export", "bundle"])
    # A photo whose nearest individual is known whatever was learned: it copies one of the gallery.
    asked = min((photo for photo in plan_sample(0, PHOTOS)[1] if photo.copy_of), key=lambda photo: photo.name)
    own, bundled = (
        identify(capsys, photos / "test" / asked.name, "--top", str(len(PHOTOS.photos)), *options)["photos"][0]
        for options in ((), ("--bundle", "bundle"))
    )
    spread = json.loads((project / "metrics/finetune/m1.json").read_text())["spread"]
    assert spread["mean_cosine"] < 0.9
    assert len(own["candidates"]) == len(PHOTOS.photos)
    nearest = sorted(own["candidates"], key=lambda one: -one["similarity"])
    assert (nearest[0]["id"], nearest[0]["nearest_photo"]) == (asked.label, asked.copy_of)
    # The network tells photos apart by far more than torch and onnxruntime differ in.
    assert nearest[0]["similarity"] - nearest[-1]["similarity"] > 100 * SAME_SIMILARITY
    assert_answers_alike(own["candidates"], bundled["candidates"])


@pytest.mark.numeric
def test_a_collapsed_embedding_is_told_by_the_stage_its_metrics_and_identify(
    tmp_path, photos, monkeypatch, capsys, caplog
):
    """Two epochs from random weights leave all photos alike: a fixture that no processor can tell apart."""
    project = new_project(tmp_path / "project", photos)
    set_params(
        project, recipe="metric", recipes__metric__finetune__epochs=2, recipes__metric__finetune__min_photos=1,
        profiles__folder__backbone__weights="random", ensemble__members=["m1"],
    )  # fmt: skip
    stages = stages_of(["m1"])
    run_here(project, monkeypatch, *stages[: stages.index("embed@m1") + 1], "gallery")
    assert "finetune m1: photos can hardly be told apart" in caplog.text
    spread = json.loads((project / "metrics/finetune/m1.json").read_text())["spread"]
    assert spread["mean_cosine"] > 0.99
    monkeypatch.chdir(project)
    answer = identify(capsys, min((photos / "test").iterdir()))
    assert "mean cosine" in answer["collapsed"]
    assert answer["photos"][0]["candidates"] == []
