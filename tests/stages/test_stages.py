"""Bad input to single stages: one clear message, a non-zero exit, no output."""

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pixel_folder import pixel_folder

from flukeprint.core.console import MAKERS, exit_cleanly
from flukeprint.core.files import sha256_of, write_json, write_npy, write_safetensors
from flukeprint.core.receipts import write_receipt
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibrated_answers import calibrated
from flukeprint.scoring.calibration import EARLIER, read_calibration
from flukeprint.scoring.fusion import fused_of
from flukeprint.scoring.registry import CHOOSABLE, scorer_of
from stages import ensemble, select

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project folder with the committed params."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def change(folder: Path, **changes) -> None:
    content = yaml.safe_load((folder / "params.yaml").read_text())
    for key, value in changes.items():
        *path, last = key.split("__")
        section = content
        for part in path:
            section = section[part]
        section[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


def message_of(stage: str, monkeypatch, *arguments: str) -> str:
    """Run a stage that must fail and return what it says."""
    monkeypatch.setattr("sys.argv", [stage, *arguments])
    with pytest.raises(SystemExit) as stop:
        exit_cleanly(importlib.import_module(f"stages.{stage}").main)
    assert str(stop.value).startswith("error: ")
    return str(stop.value)


def write_table(folder: Path, ids: list[str]) -> None:
    (folder / "data/validated").mkdir(parents=True)
    table = pd.DataFrame({"Image": [f"{n}.jpg" for n in range(len(ids))], "Id": ids, "cluster": range(len(ids))})
    table.assign(sha256="0" * 64).to_parquet(folder / "data/validated/train.parquet")


def test_backbone_that_does_not_exist(project, monkeypatch):
    change(project, profiles__sample__backbone__name="resnet19")
    assert "torchvision's classifiers are alexnet" in message_of("backbone", monkeypatch)
    assert not (project / "models").exists()


def test_weights_of_another_network(project, monkeypatch):
    import torchvision

    torch.save(torchvision.models.squeezenet1_1().state_dict(), project / "weights.pth")
    change(project, profiles__sample__backbone__weights="weights.pth", profiles__sample__backbone__name="resnet18")
    assert "are not those of 'resnet18'" in message_of("backbone", monkeypatch)
    assert not (project / "models").exists()


def test_weights_that_leave_nothing_of_photos(project, monkeypatch):
    import torchvision

    nothing = {name: torch.zeros_like(value) for name, value in torchvision.models.resnet18().state_dict().items()}
    torch.save(nothing, project / "weights.pth")
    change(project, profiles__sample__backbone__weights="weights.pth", profiles__sample__backbone__name="resnet18")
    assert "profiles.<profile>.backbone.mean [0.5," in message_of("backbone", monkeypatch)
    assert not (project / "models").exists()


def test_a_gpu_that_is_not_there(project, monkeypatch):
    change(project, runtime__device="cuda:7")
    assert "runtime.device in params.yaml is 'cuda:7'" in message_of("embed", monkeypatch, "m1")


@pytest.mark.parametrize(("given", "size"), [("auto", [160, 160]), (48, [48, 48]), ([32, 64], [32, 64])])
def test_the_size_of_photos_is_given_or_the_backbones_own(project, given, size):
    own = {"name": "timm/test_resnet", "weights": "random", "mean": "auto", "std": "auto", "batchnorm": "train"}
    change(project, profiles__sample__image_size=given, profiles__sample__backbone=own)
    run_stages("backbone")
    assert json.loads((project / "models/photo_size.json").read_text()) == {"size": size}
    assert json.loads((project / "models/backbone/backbone.json").read_text())["size"] == size


def test_a_members_own_backbone_that_does_not_exist_is_named_by_its_key(project, monkeypatch):
    known = {"name": "squeezenet1_1", "weights": "random", "mean": "auto", "std": "auto", "batchnorm": "train"}
    own = {"m2": {"backbone": known | {"name": "timm/none"}}}
    change(project, recipe="metric", profiles__sample__backbone=known, profiles__sample__members=own)
    message = message_of("backbone", monkeypatch)
    assert "of profiles.sample.members.m2: backbone.name is 'timm/none'; timm's networks are " in message
    assert not (project / "models/member_backbones").exists()


def test_a_size_that_a_members_backbone_cannot_take_is_named_by_its_key(project, monkeypatch):
    change(
        project, recipe="metric", profiles__sample__backbone__name="squeezenet1_1",
        profiles__sample__backbone__weights="random", profiles__sample__members={"m2": {"image_size": 16}},
    )  # fmt: skip
    message = message_of("backbone", monkeypatch)
    assert "backbone 'squeezenet1_1' cannot take photos of 16x16 px" in message
    assert "Change profiles.sample.members.m2.image_size in params.yaml" in message


def test_a_changed_size_of_one_member_makes_that_member_stale_alone(project, monkeypatch):
    plain = {"name": "timm/test_resnet", "weights": "random", "mean": "auto", "std": "auto", "batchnorm": "train"}
    own = {"m2": {"image_size": 48}, "m3": {"image_size": "auto"}, "m4": {"image_size": 32}}
    change(project, recipe="metric", profiles__sample__image_size=32, profiles__sample__backbone=plain)
    receipts = []
    for size in (48, [48, 64]):
        change(project, profiles__sample__members=own | {"m2": {"image_size": size}})
        run_stages("backbone")
        for member in ("m1", "m2", "m3", "m4"):
            monkeypatch.setattr("sys.argv", ["start", member])
            run_stages("start")
        receipts.append([(project / f"models/start/m{n}.json").read_bytes() for n in (1, 2, 3, 4)])
    changed = [before != after for before, after in zip(*receipts, strict=True)]
    assert changed == [False, True, False, False]
    records = [json.loads((project / f"models/member_backbones/m{n}/backbone.json").read_text()) for n in (2, 3, 4)]
    assert [(one["size"], one.get("own_size")) for one in records] == [
        ([32, 32], [48, 64]), ([32, 32], [160, 160]), ([32, 32], None),
    ]  # fmt: skip


def test_a_member_starts_from_the_backbone_that_its_receipt_names(project, monkeypatch):
    for folder in ("backbone", "member_backbones/m2"):
        write_json(project / f"models/{folder}/backbone.json", {"of": folder})
    change(project, recipe="metric")
    for member in ("m1", "m2"):
        monkeypatch.setattr("sys.argv", ["start", member])
        run_stages("start")
    named = [[*json.loads((project / f"models/start/{m}.json").read_text())["sha256"]] for m in ("m1", "m2")]
    assert named == [["models/backbone"], ["models/member_backbones/m2"]]
    write_json(project / "models/member_backbones/m2/backbone.json", {"of": "another"})
    said = message_of("finetune", monkeypatch, "m2")
    assert "models/member_backbones/m2 is not what models/start/m2.json says of it" in said


def test_too_few_classes_stop_the_recipe_that_needs_them(project, monkeypatch, caplog):
    write_table(project, ["a"] * 20 + ["b"] * 3)
    run_stages("select")
    assert "the small set has 1 class(es)" in caplog.text
    (project / "models/backbone").mkdir(parents=True)
    run_stages("train")
    assert list((project / "models/head").iterdir()) == []
    assert "lower select.threshold in params.yaml, or use recipe metric" in message_of("start", monkeypatch, "m1")
    change(project, recipe="metric")
    monkeypatch.setattr("sys.argv", ["start", "m1"])
    run_stages("start")
    assert (project / "models/start/m1.safetensors").exists()


def test_a_folder_that_is_not_there(project, monkeypatch):
    change(project, profile="folder", profiles__folder__path="nowhere")
    assert "'nowhere', but there is no such folder" in message_of("fetch", monkeypatch)
    assert not (project / "data").exists()


STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
# Stages that no other one comes before: they need nothing but the sample, or the weights beside the code.
FIRST = {"fetch", "backbone"}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in FIRST])
def test_a_stage_before_its_inputs_names_what_is_missing_and_who_makes_it(project, monkeypatch, stage):
    members = [stage in ("start", "finetune", "embed") and "m1"]
    message = message_of(stage, monkeypatch, *filter(None, members))
    found = re.match(r"error: (\S+) is missing\. .*\(Stage (\w+) makes it\.\)$", message)
    assert found, message
    outputs = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stage != found[2] in outputs
    assert {path.name for path in project.rglob("*") if path.is_file()} == {"params.yaml"}


@pytest.mark.parametrize("stage", ["start", "finetune", "embed"])
def test_a_stage_of_one_member_without_its_name(project, monkeypatch, stage):
    assert "which member?" in message_of(stage, monkeypatch)


def test_the_makers_are_those_of_dvc_yaml():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage, described in stages.items():
        content = described.get("do", described)
        listed = [*content.get("outs", []), *content.get("metrics", []), *content.get("plots", [])]
        names = [next(iter(one)) if isinstance(one, dict) else one for one in listed]
        for path in [Path(name.replace("${item}", "m1")) for name in names]:
            made_by = [maker for place, maker in MAKERS.items() if path.is_relative_to(place)]
            assert made_by[:1] in ([], [stage]), path
    assert set(MAKERS.values()) == set(stages) - {"evaluate", "submit"}


def test_a_photo_that_vanished_after_validation(project, monkeypatch):
    from PIL import Image

    write_table(project, ["a", "b"])
    (project / "data/raw/train").mkdir(parents=True)
    write_json(project / "models/photo_size.json", {"size": [32, 32]})
    write_json(project / "models/localiser/localiser.json", None)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(project / "data/raw/train/0.jpg")
    assert "0.jpg is not the photo that stage validate checked: its SHA-256 is " in message_of("pixels", monkeypatch)
    table = pd.read_parquet(project / "data/validated/train.parquet")
    table.assign(sha256=sha256_of(project / "data/raw/train/0.jpg")).to_parquet("data/validated/train.parquet")
    assert "1.jpg" in message_of("pixels", monkeypatch)
    assert not [path for path in (project / "data/pixels").rglob("*") if path.is_file()]


@pytest.fixture
def scored(project) -> Path:
    """A project folder with what stage ensemble reads: two members, 12 individuals, of which one is new."""
    write_scored_inputs(project)
    change(project, ensemble__members=["m1", "m2"])
    return project


def write_scored_inputs(folder: Path) -> None:
    generator = np.random.default_rng(0)
    ids = np.repeat(["new_whale", *(f"w_{n:02}" for n in range(11))], 6)
    splits = np.tile(["train", "train", "train", "valid", "query", "calibration"], 12)
    splits[-6:] = ["query"] * 3 + ["calibration"] * 3
    table = pd.DataFrame(
        {"Image": [f"{n}.jpg" for n in range(72)], "Id": ids, "cluster": range(72), "pixel": range(72)}
    )
    for name in ("data/selected", "data/validated", "data/raw"):
        (folder / name).mkdir(parents=True)
    table.assign(split=splits).to_parquet(folder / "data/selected/full.parquet")
    # The first two test photos are nearly the same as labelled ones: one trained on, one set aside.
    test = pd.DataFrame({"Image": [f"t{n}.jpg" for n in range(9)], "cluster": [7, 10, *range(100, 107)]})
    test.to_parquet(folder / "data/validated/test.parquet")
    test[["Image"]][::-1].assign(Id="new_whale").to_csv(folder / "data/raw/sample_submission.csv", index=False)
    labels = sorted(set(ids) - {"w_10"})
    for member in ("m1", "m2", "pretrained"):
        for part, number in (("train", 72), ("test", 9)):
            write_npy(
                folder / f"data/embeddings/{member}/{part}.npy",
                generator.normal(size=(number, 1, 8)).astype(np.float32),
            )
        weight = torch.from_numpy(generator.normal(size=(len(labels), 8)).astype(np.float32))
        state = {"weight": weight, "bias": torch.zeros(len(labels))}
        write_safetensors(folder / f"models/full_head/{member}.safetensors", state, {"labels": labels})
        made_for = {"backbone": {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}, "labels": labels}
        write_safetensors(folder / f"models/finetuned/{member}.safetensors", {"weight": weight}, made_for)
    for member in ("m1", "m2", "m3"):  # m3 is no member any more
        write_receipt(member, [Path("models/finetuned/m1.safetensors"), Path("data/embeddings/m1")])
    write_receipt("m2", [Path("models/finetuned/m2.safetensors"), Path("data/embeddings/m2")])


def run_stages(*names: str) -> None:
    for name in names:
        importlib.import_module(f"stages.{name}").main()


@pytest.mark.parametrize("stage", ["full_head", "ensemble", "gallery"])
def test_embeddings_that_are_not_finite(scored, monkeypatch, stage):
    path = scored / "data/embeddings/m1/train.npy"
    embeddings = np.load(path)
    embeddings[5, 0, 3] = np.inf
    write_npy(path, embeddings)
    write_json(scored / "data/selected/labels.json", {"full": sorted({"new_whale", *(f"w_{n:02}" for n in range(10))})})
    hashed = pd.read_parquet(scored / "data/selected/full.parquet")[["Image"]].assign(sha256="0" * 64)
    hashed.to_parquet(scored / "data/validated/train.parquet")
    for member in ("m1", "m2"):
        write_receipt(member, [Path(f"models/finetuned/{member}.safetensors"), Path(f"data/embeddings/{member}")])
    before = sorted(scored.rglob("*"))
    assert "m1/train.npy holds values that are not finite for 1 of 72 photos, first in row 5" in message_of(
        stage, monkeypatch
    )
    assert [path for path in sorted(scored.rglob("*")) if ".work" not in path.parts and path not in before] == []


def test_every_scorer_answers_every_query_and_the_ensemble_every_test_photo(scored):
    run_stages("ensemble", "calibrate")
    rows = pd.read_parquet(scored / "data/predictions/query.parquet")
    assert list(rows.columns) == [
        "Image", "Id", "split", "truth", "scorer", "candidates", "scores", "new_score", "features", "new_features"
    ]  # fmt: skip
    assert rows["scorer"].unique().tolist() == [
        "most_frequent", "duplicates", "pretrained_knn", "m1", "m2", *CHOOSABLE
    ]  # fmt: skip
    assert (rows.groupby("scorer")["Image"].agg(list).map(tuple).nunique(), len(rows)) == (1, 10 * 28)
    assert rows.loc[rows["Id"] == "w_10", "truth"].unique().tolist() == ["new_whale"]
    assert not rows["candidates"].map(lambda labels: bool({"new_whale", "w_10"} & set(labels))).any()
    test = pd.read_parquet(scored / "data/predictions/test.parquet")
    assert list(test.columns) == [
        "Image", "individuals", "scorer", "candidates", "scores", "new_score", "features", "new_features"
    ]  # fmt: skip
    assert test["Image"].tolist() == [f"t{n}.jpg" for n in range(9)] * 6
    assert test["scorer"].unique().tolist() == ["duplicates", *CHOOSABLE]
    decisions = json.loads((scored / "models/decision.json").read_text())
    assert sorted(decisions["scorers"]) == sorted(["m1", "m2", "most_frequent", "pretrained_knn", *CHOOSABLE])
    assert sorted(decisions["fusions"]) == ["blend", "gallery"]
    assert sorted(decisions["best"]["map5"]) == sorted(CHOOSABLE)
    assert decisions["scorers"]["ensemble"]["known_queries"] == 10
    assert decisions["without"] == {"duplicates": "no calibration query has a candidate"}
    assert [member["name"] for member in decisions["provenance"]["members"]] == ["m1", "m2"]


@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["class", "calibrated"])
def test_the_submission_ranks_new_whale_as_declared(scored, kind):
    change(scored, submit__decision=kind)
    run_stages("ensemble", "calibrate", "submit")
    submission = pd.read_csv(scored / "data/submission.csv").set_index("Image")["Id"]
    assert submission.index.tolist() == [f"t{n}.jpg" for n in range(8, -1, -1)]
    rows = pd.read_parquet(scored / "data/predictions/test.parquet").set_index("Image")
    rows = rows[rows["scorer"] == "ensemble"]
    decision = json.loads((scored / "models/decision.json").read_text())["scorers"]["ensemble"]
    for image, row in rows.iterrows():
        key = dict(zip(row["candidates"], row["scores"], strict=True))
        new = row["new_score"]
        if kind == "calibrated":
            key = {label: decision["inverse_temperature"] * score for label, score in key.items()}
            new = decision["new"] + decision["new_score_weight"] * new
        expected = sorted({**key, "new_whale": new}.items(), key=lambda item: -item[1])
        assert submission[image].split(" ") == [label for label, _ in expected[:5]]


@pytest.mark.numeric
def test_the_best_scorer_is_submitted_after_the_labels_of_near_duplicates(scored):
    change(scored, submit__decision="best")
    run_stages("ensemble", "calibrate", "submit")
    submission = pd.read_csv(scored / "data/submission.csv").set_index("Image")["Id"].str.split(" ")
    decisions = json.loads((scored / "models/decision.json").read_text())
    best = decisions["best"]
    assert best["map5"][best["scorer"]] == max(best["map5"].values())
    # No two photos here are near-duplicates: the rule of succession says one half.
    assert decisions["duplicates"] == {"agreeing": 0, "photos": 0, "probability": 0.5}
    assert submission["t0.jpg"][0] == "w_00"  # photo 7 is trained on, and is of the second label
    assert submission["t1.jpg"][0] == "w_00"  # photo 10 is a query
    rows = pd.read_parquet(scored / "data/predictions/test.parquet")
    own = rows[rows["scorer"] == best["scorer"]]
    calibration = read_calibration("models/decision.json")
    searched = 11 if scorer_of(best["scorer"]).searches else None
    answers = calibrated(fused_of(own, best["scorer"], calibration), calibration.of(best["scorer"]), 5, searched)
    expected = dict(zip(own["Image"], answers.labels, strict=True))
    copies = ("t0.jpg", "t1.jpg")
    assert {image: labels for image, labels in expected.items() if image not in copies} == {
        image: labels for image, labels in submission.items() if image not in copies
    }


def test_test_photos_search_every_labelled_photo_and_queries_those_trained_on(scored):
    run_stages("ensemble", "calibrate")
    test = pd.read_parquet(scored / "data/predictions/test.parquet").set_index("scorer")
    assert set(test["individuals"]) == {11}
    named = {name: {label for labels in test.loc[name, "candidates"] for label in labels} for name in CHOOSABLE}
    # w_10 is held out whole: its photos are searched, and the heads do not know it.
    assert {name for name, labels in named.items() if "w_10" in labels} == set(CHOOSABLE) - {"ensemble"}
    copies = test.loc["duplicates"].set_index("Image")["candidates"]
    assert [copies[image].tolist() for image in ("t0.jpg", "t1.jpg", "t2.jpg")] == [["w_00"], ["w_00"], []]
    # Calibrations of scorers that search know how many individuals they were fitted with.
    fitted = read_calibration("models/decision.json").scorers
    assert {name for name, own in fitted.items() if own.individuals == 10} == set(CHOOSABLE) - {"ensemble"}
    own = fitted["gallery_centre"]
    more = own.logits(20).new - own.logits(10).new, own.logits(20).other - own.logits(10).other
    assert more == pytest.approx([np.log(2)] * 2)
    assert own.logits(0) == own.logits(10) == (own.inverse_temperature, own.other, own.new)


def test_an_individual_that_is_no_class_has_the_heads_mean_of_the_other_candidates(scored):
    run_stages("ensemble")
    rows = pd.read_parquet(scored / "data/predictions/test.parquet")
    for _, row in rows[rows["scorer"] == "blend"].iterrows():
        by_head = dict(zip(row["candidates"], row["features"].reshape(-1, 3)[:, 2], strict=True))
        unknown = by_head.pop("w_10")
        assert unknown == pytest.approx(np.mean([*by_head.values()]), rel=1e-5)


def plant_a_row(folder: Path) -> None:
    """Train on a query's photo: it has a second row."""
    path = folder / "data/selected/full.parquet"
    table = pd.read_parquet(path)
    query = table[table["split"] == "query"].head(1)
    pd.concat([table, query.assign(split="train")], ignore_index=True).to_parquet(path)


def relabel(folder: Path, kind: str) -> None:
    """Let networks or heads be of a run that set nothing aside: they know w_10, which is held out whole."""
    labels = sorted({"new_whale", *(f"w_{n:02}" for n in range(11))})
    for member in ("m1", "m2"):
        path = folder / f"models/{kind}/{member}.safetensors"
        state = {"weight": torch.ones(12, 8), "bias": torch.zeros(12)}
        made_for = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
        write_safetensors(path, state, {"labels": labels, "backbone": made_for})
        write_receipt(member, [Path(f"models/finetuned/{member}.safetensors"), Path(f"data/embeddings/{member}")])


@pytest.mark.parametrize(
    ("stage", "plant", "message"),
    [
        ("ensemble", plant_a_row, "full.parquet has 4.jpg twice (Image 4.jpg; split query, train)"),
        ("calibrate", plant_a_row, "full.parquet has 4.jpg twice"),
        ("gallery", plant_a_row, "full.parquet has 4.jpg twice"),
        ("ensemble", lambda folder: relabel(folder, "full_head"), "heads know 12 labels, and not the 10 individuals"),
        ("calibrate", lambda folder: relabel(folder, "finetuned"), "trained on 1 of the 1 individuals that are held"),
    ],
)
def test_a_planted_leak_is_noticed(scored, monkeypatch, stage, plant, message):
    if stage == "calibrate":
        run_stages("ensemble")
    plant(scored)
    assert message in message_of(stage, monkeypatch)


def test_queries_that_search_every_labelled_photo_are_refused(scored, monkeypatch):
    """The slip that would make every figure look good: what answers test photos answers queries too."""
    asked = ensemble.score_queries
    everything = pd.read_parquet("data/selected/full.parquet")
    monkeypatch.setattr(ensemble, "score_queries", lambda queries, _, *others: asked(queries, everything, *others))
    assert "4.jpg is a query and among the photos that queries search, 28 such photos" in message_of(
        "ensemble", monkeypatch
    )
    assert not (scored / "data/predictions/query.parquet").exists()


def test_a_split_that_trains_on_a_copy_of_a_query_is_refused(project, monkeypatch):
    write_table(project, [f"w_{n % 12:02}" for n in range(60)] + ["new_whale"] * 12)

    def planted(*arguments):
        small, full = select_splits(*arguments)
        full.loc[full["split"] == "train", "together"] = full.loc[full["split"] == "query", "together"].iloc[0]
        return small, full

    select_splits = select.assign_splits
    monkeypatch.setattr(select, "assign_splits", planted)
    assert "is set aside, but photos that stay together with it" in message_of("select", monkeypatch)
    monkeypatch.setattr(select, "assign_splits", select_splits)
    run_stages("select")
    assert json.loads((project / "metrics/selection.json").read_text())["aside_with_trained_copies"] == 0


def test_networks_trained_on_every_photo_answer_with_a_decision_of_an_earlier_run(scored, monkeypatch, caplog):
    change(scored, submit__decision="best")
    run_stages("ensemble", "calibrate")
    first = read_calibration("models/decision.json")
    (scored / "data/kept").mkdir()
    shutil.copy("models/decision.json", "data/kept/decision.json")

    change(scored, select__holdout=0, calibrate__decision="kept")
    path = scored / "data/selected/full.parquet"
    pd.read_parquet(path).assign(split="train").to_parquet(path)
    for kind in ("full_head", "finetuned"):
        relabel(scored, kind)
    run_stages("ensemble", "calibrate", "submit")
    decision = read_calibration("models/decision.json")
    assert (decision.scorers, decision.best, decision.fitted_to) == (first.scorers, first.best, first.provenance)
    assert decision.provenance != first.provenance
    assert len(pd.read_parquet("data/predictions/query.parquet")) == 0
    assert f"submit: answers are {EARLIER}" in caplog.text
    assert all(len(set(labels.split(" "))) == 5 for labels in pd.read_csv("data/submission.csv")["Id"])

    change(scored, finetune__lr=0.5)
    assert "not fitted to networks of these settings: finetune.lr was 0.0001, here 0.5." in message_of(
        "calibrate", monkeypatch
    )


def test_without_calibration_queries_answers_are_by_similarity_or_class(scored, monkeypatch, caplog):
    path = scored / "data/selected/full.parquet"
    table = pd.read_parquet(path)
    table[~table["split"].isin(["query", "calibration"])].to_parquet(path)
    change(scored, submit__decision="calibrated")
    run_stages("ensemble", "calibrate")
    assert len(pd.read_parquet(scored / "data/predictions/query.parquet")) == 0
    assert "has no calibration of ensemble: there are no calibration queries" in message_of("submit", monkeypatch)
    assert not (scored / "data/submission.csv").exists()
    change(scored, submit__decision="best")
    run_stages("submit")
    assert "answers are by similarity alone" in caplog.text
    # Second, or further back where near-duplicates have labels.
    places = [labels.split(" ").index(NEW_WHALE) for labels in pd.read_csv(scored / "data/submission.csv")["Id"]]
    assert (len(places), min(places), places.count(1) > 4) == (9, 1, True)
    change(scored, submit__decision="class")
    run_stages("submit")
    assert len(pd.read_csv(scored / "data/submission.csv")) == 9


def test_baseline_embeds_every_labelled_photo_once_in_one_view(project):
    change(
        project,
        profiles__sample__backbone={
            "name": "shufflenet_v2_x0_5", "weights": "random", "mean": [0.5] * 3, "std": [0.25] * 3,
            "batchnorm": "train",
        },
        profiles__sample__image_size=32,
    )  # fmt: skip
    pixel_folder(project / "data/pixels/train", np.zeros((3, 3, 32, 32), np.uint8))
    run_stages("backbone", "baseline")
    embeddings = np.load(project / "data/embeddings/pretrained/train.npy")
    assert embeddings.shape == (3, 1, 1024)
    assert embeddings.dtype == np.float32
