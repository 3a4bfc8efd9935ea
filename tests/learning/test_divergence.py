"""Trainings that come apart, and networks that give no numbers: stopped early, nothing kept, the key named."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import head_data, photos, start
from training_cases import (
    CONTENT,
    RUNTIME,
    beyond_bounds,
    embedding_job_of,
    finetune,
    finetune_params,
    random_backbone,
    training_params,
)

from flukeprint.core.effective_keys import with_effective_keys
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import open_accelerator
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.learning.checkpoints import load_checkpoint, save_checkpoint
from flukeprint.learning.divergence import BEYOND_RETURN, NO_PROBABILITY, DivergenceError, LossBounds
from flukeprint.learning.embedding import embed
from flukeprint.learning.heads import HeadTraining, train_head, train_heads
from flukeprint.learning.networks import refuse_constant
from flukeprint.learning.objectives import class_margins
from flukeprint.learning.training import Job, classification_step

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def training(epochs: int = 3, **changes) -> HeadTraining:
    params = beyond_bounds(training_params(batch_size=16), **{"optimizer": "sgd"} | changes)
    return HeadTraining("train", params, epochs, 0, open_accelerator(RUNTIME))


def checkpoints() -> list[Path]:
    return list(Path(".work").rglob("*.safetensors"))


@pytest.mark.numeric
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("changes", [{"lr": 1e30}, {"lr": 1e9}, {"lr": 1e38}])
def test_a_learning_rate_beyond_return_stops_in_the_first_epoch(optimizer, changes):
    with pytest.raises(DivergenceError, match=r"^train m1, epoch 1: the training loss is .* Lower train\.lr \(1e"):
        train_heads(Path("h"), Path("m"), lambda _: head_data(), ["m1"], training(optimizer=optimizer, **changes))
    assert [*Path().glob("*"), *checkpoints()] == [*Path().glob(".work")]


@pytest.mark.numeric
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_kept_gives_the_right_class_a_probability(optimizer):
    """A loss of hundreds of nats may still fall, so it is refused when the training is over."""
    data = head_data()
    data = replace(data, valid=replace(data.valid, targets=(data.valid.targets + 1) % 3))
    for _ in range(2):  # the second time nothing is left to go on from
        with pytest.raises(DivergenceError, match=r"epoch \d: the best validation loss is \d+.*guessing has 1\.099"):
            train_head(data, "m1", training(optimizer=optimizer, lr=1e4, gamma=1.0))
        assert checkpoints() == []


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"lr": 1e30}, "finetune.lr (1e+30)"),
        ({"lr": 0.01, "optimizer": "adamw", "weight_decay": 1e30}, "finetune.weight_decay (1e+30)"),
        ({"objective": "arcface", "lr": 1e30}, "finetune.lr (1e+30)"),
        ({"objective": "arcface", "schedule": {"head_lr": 1e30, "keep": "last"}, "embedding": {"dimension": 4}},
         "finetune.schedule.head_lr (1e+30)"),
        ({"objective": "arcface", "arcface": {"scale": 1e30}}, "scale of finetune.arcface"),
        ({"objective": "triplet", "pairs": {"triplet_margin": 1e30}}, "margins"),
    ],
)  # fmt: skip
def test_fine_tuning_that_comes_apart_names_the_keys(changes, key):
    params = beyond_bounds(finetune_params(batch_size=8, lr=0.001), **changes)
    with pytest.raises(DivergenceError, match="^finetune m1, epoch 1: ") as raised:
        finetune(photos(), start(), "m1", 2, 0, params, open_accelerator(RUNTIME))
    assert key in str(raised.value)
    assert checkpoints() == []


def test_the_key_that_counts_is_named():
    bounds = LossBounds("finetune", "m1", 10, finetune_params())
    with pytest.raises(DivergenceError) as raised:
        bounds.check_under_way(1, "training", float("nan"))
    assert "recipes.metric.finetune.lr" in with_effective_keys(str(raised.value), CONTENT | {"recipe": "metric"})


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e31, BEYOND_RETURN * 3])
def test_losses_beyond_bounds(loss):
    bounds = LossBounds("train", "m1", 10, training_params())
    with pytest.raises(DivergenceError):
        bounds.check_under_way(1, "validation", loss)
    with pytest.raises(DivergenceError):
        bounds.check_kept(1, "validation", loss)


def test_a_probability_of_zero_is_that_of_single_precision():
    assert np.exp(np.float32(-NO_PROBABILITY)) == 0 < np.exp(np.float32(-NO_PROBABILITY + 1))
    assert np.log(100_000) * 9 < NO_PROBABILITY


def test_weights_that_are_not_finite():
    bounds = LossBounds("train", "m1", 10, training_params())
    bounds.check_weights(1, {"weight": torch.ones(2), "count": torch.tensor(3)})
    for value in (torch.inf, torch.nan, 1e20):
        with pytest.raises(DivergenceError, match=r"1 of the network's tensors are not finite \(bias\)"):
            bounds.check_weights(1, {"weight": torch.ones(2), "bias": torch.tensor([0.0, value])})


def test_healthy_trainings_are_far_within_the_bounds():
    """Those in git: losses of every epoch at most the guess of the most classes, an eighth of the bound."""
    records = [path for stage in ("train", "finetune", "full_head") for path in (ROOT / "metrics" / stage).glob("*")]
    histories = [json.loads(path.read_text())["history"] for path in records]
    losses = [epoch[key] for history in histories for epoch in history for key in ("train_loss", "valid_loss")]
    assert len(losses) > 100
    assert max(loss for loss in losses if loss is not None) < np.log(100_000) < NO_PROBABILITY / 8


@pytest.mark.parametrize("power", [1e30, 1.0])
def test_margins_that_no_angle_can_keep(power):
    params = beyond_bounds(finetune_params().arcface, margin_power=power)
    with pytest.raises(FlukeprintError, match=r"an individual of 40 photos a margin of .*margin_power is"):
        class_margins(np.array([0] * 40 + [1]), 2, params)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
def test_embeddings_that_are_no_use_are_not_written(value):
    class Broken(torch.nn.Module):
        def forward(self, inputs):
            rows = torch.zeros(len(inputs), 4)
            rows[inputs.amax((1, 2, 3)) > 0, 1] = value
            return rows

    pixels = np.zeros((5, 3, 8, 8), np.uint8)
    pixels[3] = 255
    assert embed(embedding_job_of(Broken(), 5, 4), pixels[:3], 2).shape == (3, 2, 4)
    with pytest.raises(FlukeprintError, match=r"gives 1 of 5 photos an embedding that is not finite, or too long"):
        embed(embedding_job_of(Broken(), 5, 4), pixels, 2)


@pytest.mark.parametrize(
    ("mean", "std", "found"),
    [
        (1e308, 0.25, "not finite"),
        (1e12, 0.25, "the same embedding"),
        (0.5, 1e30, "the same embedding"),
        (0.5, 1e-300, "not finite"),
    ],
)
def test_a_scaling_that_leaves_nothing_of_photos(mean, std, found):
    network, record = random_backbone()
    refuse_constant(network, record.size, record.mean, record.std)
    with pytest.raises(FlukeprintError, match=rf"{found}.*profiles\.<profile>\.backbone\.mean"):
        refuse_constant(network, record.size, (mean,) * 3, (std,) * 3)


def test_weights_that_are_no_numbers():
    network, record = random_backbone()
    network.conv1.weight.data[0] = torch.nan
    with pytest.raises(FlukeprintError, match=r"not finite.*backbone\.weights"):
        refuse_constant(network, record.size, record.mean, record.std)


def test_embeddings_on_the_disk_that_are_not_finite():
    folder = Path("data/embeddings/m1")
    folder.mkdir(parents=True)
    array = np.zeros((5000, 1, 2), np.float32)
    np.save(folder / "train.npy", array)
    np.testing.assert_array_equal(read_embeddings("m1", "train"), array)
    array[[4100, 4999], 0, 1] = np.nan
    np.save(folder / "train.npy", array)
    with pytest.raises(FlukeprintError, match=r"train\.npy holds .* 2 of 5000 photos, first in row 4100"):
        read_embeddings("m1", "train")


@pytest.mark.numeric
def test_no_training_goes_on_where_another_runtime_left_it(monkeypatch):
    monkeypatch.setattr("flukeprint.learning.training.clear_checkpoints", lambda *_: None)
    job = training(epochs=2, optimizer="adam", lr=0.01)
    train_head(head_data(), "m1", job)
    [path] = checkpoints()
    states, metadata = load_checkpoint(path.parent)
    save_checkpoint(path.parent, states, metadata | {"runtime": metadata["runtime"] | {"processes": 2}})
    with pytest.raises(FlukeprintError, match=rf"{path.parent} holds .* another runtime: processes 1 here, 2 there"):
        train_head(head_data(), "m1", replace(job))
    assert checkpoints() == [path]


@pytest.mark.numeric
def test_a_long_epoch_is_not_trained_to_its_end(monkeypatch):
    """In any epoch: what was well at first is looked at later too."""
    monkeypatch.setattr("flukeprint.learning.training._LOOKED_AT", 4)
    steps = []

    def broken_in_the_second_epoch(model, batch):
        if model.training:
            steps.append(1)
        loss, right = classification_step(model, batch)
        return (loss * torch.nan if len(steps) == 25 else loss), right

    monkeypatch.setattr("flukeprint.learning.heads.Job", partial(Job, step=broken_in_the_second_epoch))
    with pytest.raises(DivergenceError, match=r"^train m1, epoch 2: the training loss is nan"):
        train_head(head_data(), "m1", replace(training(), params=training_params(batch_size=2)))
    assert len(steps) == 23 + 4  # of 23 in an epoch of 45 photos, the second one's first four
