import ast
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from bench import notebook

COLOURS = {"w_blue": (20, 40, 220), "w_red": (220, 30, 30), "new_whale": (30, 200, 60)}


def draw(path, colour, rng):
    noise = rng.integers(-15, 16, (32, 40, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def _same_threads_after():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    """Three classes with 8 photos each; a query of each, one of a held-out individual, a calibration photo."""
    rng = np.random.default_rng(0)
    rows = [(label, split) for label in COLOURS for split in ["train"] * 6 + ["valid"] * 2 + ["query"]]
    rows += [("w_held_out", "query"), ("w_red", "calibration")]
    table = pd.DataFrame(rows, columns=["Id", "split"])
    table.insert(0, "Image", [f"{number}.jpg" for number in range(len(table))])
    raw, selected = tmp_path / "raw", tmp_path / "selected"
    selected.mkdir()
    for name, label in zip(table["Image"], table["Id"], strict=True):
        draw(raw / "train" / name, COLOURS.get(label, (30, 200, 60)), rng)
    for name in ("b.jpg", "a.jpg"):
        draw(raw / "test" / name, COLOURS["w_red"], rng)
    pd.DataFrame({"Image": ["b.jpg", "a.jpg"], "Id": "new_whale"}).to_csv(raw / "sample_submission.csv", index=False)
    table.to_parquet(selected / "full.parquet")
    table[table["Id"].isin(["w_blue", "w_red"])].to_parquet(selected / "small.parquet")
    return raw, selected


@pytest.fixture
def small_network(monkeypatch):
    def build(name, weights):
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *pool, nn.Linear(8, 10))

    monkeypatch.setattr(notebook, "get_model", build)


def run(data, output, *options):
    raw, selected = data
    # fmt: off
    notebook.main([
        "--raw", str(raw), "--selected", str(selected), "--output", str(output), "--image-size", "32",
        "--epochs-train", "1", "--epochs-finetune", "1", "--epochs-full-head", "1", "--threads", "1", *options,
    ])
    # fmt: on
    return json.loads(output.read_text())


def test_runs_end_to_end(data, tmp_path):
    output = tmp_path / "out" / "report.json"
    report = run(data, output, "--members", "2", "--batch-size", "8")
    assert report["data"] == {
        "small_photos": 16, "small_classes": 2, "full_photos": 24, "full_classes": 3,
        "queries": 4, "new_queries": 2, "test_photos": 2,
    }  # fmt: skip
    assert [member["seed"] for member in report["members"]] == [0, 1]
    photos = {"head": 16, "finetune": 16, "full_head": 24, "predict_query": 4, "predict_test": 2}
    for member in report["members"]:
        assert {stage: member[stage]["photos"] for stage in photos} == photos
        for stage in photos:
            figures = member[stage]
            assert figures["wall_s"] > 0
            assert figures["cpu_s"] > 0
            assert figures["images_per_s"] == pytest.approx(figures["photos"] / figures["wall_s"])
        for stage in ("head", "finetune", "full_head"):
            assert member[stage]["best_epoch"] == 1
            for curve in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy"):
                assert len(member[stage][curve]) == 1
    assert set(report["scores"]) == {"map5", "map5_plain", "top1"}
    # With three classes among five ranks every truth is found.
    assert 1 / 3 <= report["scores"]["map5_plain"] <= 1
    assert report["peak_rss_mib"] > 50
    stages = [member[stage]["wall_s"] for member in report["members"] for stage in photos]
    assert report["total"]["wall_s"] > sum(stages)
    submission = pd.read_csv(output.with_suffix(".csv"))
    assert submission["Image"].tolist() == ["b.jpg", "a.jpg"]
    assert [sorted(labels.split()) for labels in submission["Id"]] == [sorted(COLOURS)] * 2
    assert str(tmp_path) not in output.read_text()


def test_best_epoch_of_a_given_state_without_test_photos(data, tmp_path, small_network):
    torch.manual_seed(3)
    torch.save(notebook.pretrained("any", "random").state_dict(), tmp_path / "weights.pth")
    options = ["--weights", str(tmp_path / "weights.pth"), "--no-predict-test", "--frozen-batchnorm"]
    options += ["--batch-size", "4", "--epochs-full-head", "10", "--finetune-lr", "0.01"]
    report = run(data, tmp_path / "report.json", *options)
    member = report["members"][0]
    assert "predict_test" not in member
    assert not (tmp_path / "report.csv").exists()
    assert report["config"]["weights"] == "weights.pth"
    curves = member["full_head"]
    assert curves["best_epoch"] == 1 + int(np.argmin(curves["valid_loss"]))
    assert min(curves["train_loss"]) < curves["train_loss"][0]
    assert curves["photos"] == 24 * 10


def test_same_seed_same_scores_and_curves(data, tmp_path, small_network):
    first, second, other = (
        run(data, tmp_path / f"{name}.json", "--no-predict-test", "--seed", seed)
        for name, seed in (("a", "5"), ("b", "5"), ("c", "6"))
    )
    losses = [report["members"][0]["full_head"]["valid_loss"] for report in (first, second, other)]
    assert first["scores"] == second["scores"]
    assert losses[0] == losses[1] != losses[2]


def true_test_labels_of_queries(data):
    queries = notebook.read_tables(*data).queries
    assert queries["Id"].tolist() == [*COLOURS, "w_held_out"]
    assert queries["truth"].tolist() == ["w_blue", "w_red", "new_whale", "new_whale"]


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        ([], 0),
        (["a"], 1),
        (["b", "a"], 1 / 2),
        (["b", "b", "a"], 1 / 3),
        (["a", "a"], 1),
        (["b", "c", "d", "e", "a"], 1 / 5),
        (["b", "c", "d", "e", "f", "a"], 0),
    ],
)
def test_reciprocal_rank(ranked, expected):
    assert notebook.reciprocal_rank("a", ranked) == expected


def test_scores_weight_new_whales():
    truth = ["a", "b", "c", "new_whale"]
    ranked = [["a"], ["a", "b"], ["a"], ["a", "b", "c", "new_whale"]]
    figures = notebook.scores(truth, ranked, 0.325)
    assert figures["map5_plain"] == pytest.approx((1 + 1 / 2 + 0 + 1 / 4) / 4)
    assert figures["top1"] == 1 / 4
    assert figures["map5"] == pytest.approx(0.325 / 4 + 0.675 * 0.5)
    assert "map5" not in notebook.scores(["a"], [["a"]], 0.325)
    assert notebook.scores([], [], 0.325) == {}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1"])
def test_head_is_replaced_and_alone_trainable(name):
    network = notebook.pretrained(name, "random")
    notebook.replace_head(network, 7)
    notebook.freeze_backbone(network)
    layer = notebook.last_layer(network)[1]
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert [id(parameter) for parameter in trainable] == [id(parameter) for parameter in layer.parameters()]
    with torch.no_grad():
        assert notebook.forward(network.eval(), torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize("frozen", [True, False])
def test_batchnorm_statistics_drift_unless_frozen(frozen):
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).requires_grad_(False).eval()
    before = network[1].running_mean.clone()
    notebook.train_mode(network, frozen)
    network(torch.ones(2, 3, 4, 4))
    assert torch.equal(network[1].running_mean, before) == frozen
    assert network[0].training


def test_logits_of_members_are_summed_in_the_order_of_the_photos(data, tmp_path):
    raw, selected = data
    # fmt: off
    arguments = notebook.parsed([
        "--raw", str(raw), "--selected", str(selected), "--output", str(tmp_path / "x.json"), "--image-size", "4", "6",
        "--batch-size", "2", "--mean", "0", "0", "0", "--std", "1", "1", "1",
    ])
    # fmt: on
    mean_colour = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    total = torch.zeros(3, 3)
    for _ in range(2):
        notebook.add_logits(mean_colour, raw / "train", ["0.jpg", "9.jpg", "18.jpg"], total, arguments)
    expected = 2 * torch.tensor(list(COLOURS.values())) / 255
    assert torch.allclose(total, expected, atol=0.06)


def test_shares_no_code_with_the_pipeline():
    tree = ast.parse(Path(notebook.__file__).read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not {name.split(".")[0] for name in names} & {"flukeprint", "stages"}
