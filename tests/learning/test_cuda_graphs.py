"""Recorded steps: on a GPU by the bytes of real trainings, elsewhere by a stand-in for torch's graphs."""

import warnings
from contextlib import contextmanager
from typing import ClassVar

import pytest
import torch
from test_training import finetuning, photos, start
from training_cases import RUNTIME, finetune

from flukeprint.core.runtime import open_accelerator
from flukeprint.learning import finetuning as finetuning_module
from flukeprint.learning import training
from flukeprint.learning.batches import Batch
from flukeprint.learning.cuda_graphs import WARM_UP, RecordedSteps

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def batch(values: list[float], size: int | None = None) -> Batch:
    inputs = torch.tensor(values)
    return Batch(inputs, torch.zeros(len(values), dtype=torch.int64), size or len(values))


class Graph:
    """Does again what was done while it was recorded, on the same tensors."""

    def pool(self) -> int:
        return 1

    def replay(self) -> None:
        self.again()


@pytest.fixture
def recordings(monkeypatch):
    """Stand in for CUDA's graphs; the list has the pool that each recording was given."""
    pools = []

    @contextmanager
    def recording(graph, pool):
        pools.append(pool)
        Sums.recorded = graph
        try:
            yield
        finally:
            Sums.recorded = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    Sums.modes.clear()
    return pools


def set_mode(mode: str) -> None:
    warnings.warn("Synchronization debug mode does not yet detect all synchronizing operations", stacklevel=2)
    Sums.modes.append(mode)


class Sums:
    """A step that adds up all inputs it was given; while it is recorded, it computes nothing."""

    recorded = None
    modes: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.total, self.calls = torch.zeros(()), 0

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        loss = torch.zeros(())

        def step() -> None:
            self.total += batch.inputs.sum()
            loss.copy_(batch.inputs.sum())

        if self.recorded is None:
            step()
        else:
            self.recorded.again = step
        return loss, (batch.targets == 0).sum()


def test_steps_are_recorded_once_for_a_shape_and_then_replayed(recordings):
    advance = Sums()
    steps = RecordedSteps(advance)
    losses = [steps(batch([float(n), 1.0]))[0].item() for n in range(10)]
    assert losses == [n + 1.0 for n in range(10)]
    assert advance.total == sum(losses)
    assert advance.calls == WARM_UP + 1
    assert recordings == [None]


def test_another_shape_or_size_of_the_whole_batch_is_recorded_apart_in_the_same_memory(recordings):
    advance = Sums()
    steps = RecordedSteps(advance)
    for _ in range(6):
        assert [steps(one)[0].item() for one in (batch([1.0]), batch([1.0, 2.0]), batch([4.0], size=2))] == [1, 3, 4]
    assert recordings == [None, 1, 1]
    assert advance.calls == 3 * (WARM_UP + 1)


def test_what_cannot_be_recorded_is_done_as_usual_and_said_once(recordings, caplog):
    advance = Sums()

    def asking(one: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if Sums.recorded is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return advance(one)

    steps = RecordedSteps(asking)
    for values in ([2.0], [1.0, 2.0]) * 8:
        steps(batch(values))
    assert advance.total == 8 * (2 + 3)
    assert len(recordings) == 1
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "operation not permitted when stream is capturing"
    ]


def test_a_step_that_waits_for_the_gpu_is_never_recorded(recordings, caplog):
    advance = Sums()

    def waiting(one: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if Sums.modes[-1:] == ["warn"]:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return advance(one)

    steps = RecordedSteps(waiting)
    for _ in range(6):
        steps(batch([2.0]))
    assert advance.total == 12
    assert recordings == []
    assert Sums.modes == ["warn", "default"]
    assert [record.getMessage().endswith("waits for the GPU") for record in caplog.records] == [True]


@on_gpu
@pytest.mark.parametrize("objective", ["cross_entropy", "subcenter_arcface", "arcface"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_recorded_training_has_the_bytes_of_one_that_is_not(objective, optimizer, tmp_path, monkeypatch, caplog):
    results = []
    for folder, recorded in (("recorded", RecordedSteps), ("plain", lambda advance: advance)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr(training, "RecordedSteps", recorded)
        results.append(trained(objective, optimizer))
    assert same(*(result.state for result in results))
    assert results[0].history == results[1].history
    assert "not recorded" not in caplog.text


@on_gpu
def test_a_recorded_training_goes_on_after_a_stop_to_the_same_bytes(tmp_path, monkeypatch, caplog):
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    whole = trained("arcface", "adamw")
    monkeypatch.chdir(tmp_path / "stopped")
    save, saved = training.save_checkpoint, []

    def stopping(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "save_checkpoint", stopping)
        with pytest.raises(KeyboardInterrupt):
            trained("arcface", "adamw")
    assert same(whole.state, trained("arcface", "adamw").state)
    assert "not recorded" not in caplog.text


@on_gpu
@pytest.mark.parametrize("asks", [lambda loss: loss.item(), lambda _: torch.cuda.synchronize()])
def test_a_step_that_waits_is_done_as_usual(asks, tmp_path, monkeypatch, caplog):
    step = training.classification_step

    def asking(model, one):
        loss, right = step(model, one)
        asks(loss)
        return loss, right

    results = []
    for name, own in (("asking", asking), ("plain", step)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setattr(finetuning_module, "classification_step", own)
        results.append(trained("cross_entropy", "adamw"))
    assert "steps are not recorded" in caplog.text
    assert same(*(result.state for result in results))


def trained(objective: str, optimizer: str):
    """Train for some epochs of two sizes on the GPU."""
    accelerator = open_accelerator(RUNTIME.model_copy(update={"device": "cuda"}))
    growing = {"first_size": 0.5, "full_size_at": 0.5, "max_gradient": 1.0, "keep": "last", "shape": "cosine"}
    params = finetuning(objective=objective, optimizer=optimizer, schedule=growing)
    return finetune(photos(72), start(), "m1", 4, 0, params, accelerator)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
