import pytest
import torch

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import RuntimeParams
from flukeprint.core.runtime import derived_seed, open_accelerator, relaunched


def runtime(**changes) -> RuntimeParams:
    values = {"device": "cpu", "precision": "auto", "processes": 1, "threads": 2, "workers": 1, "batch_size": 8}
    return RuntimeParams.model_validate(values | changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_where_there_is_none_is_refused():
    with pytest.raises(FlukeprintError, match=r"runtime\.device in params\.yaml is 'cuda', but this machine has cpu"):
        open_accelerator(runtime(device="cuda"))


def test_cpu_is_full_precision_unless_asked_otherwise():
    accelerator = open_accelerator(runtime())
    assert (accelerator.device.type, accelerator.mixed_precision) == ("cpu", "no")
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_found_and_runs_in_bf16():
    accelerator = open_accelerator(runtime(device="auto"))
    assert (accelerator.device.type, accelerator.mixed_precision) == ("cuda", "bf16")


def test_seeds_of_different_purposes_differ_and_stay():
    seeds = [derived_seed(0, "train", "m1"), derived_seed(0, "train", "m2"), derived_seed(1, "train", "m1")]
    assert len(set(seeds)) == 3
    assert seeds[0] == derived_seed(0, "train", "m1")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_one_process_does_the_work_itself(monkeypatch):
    assert not relaunched(runtime(), "stages.embed", "m1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not relaunched(runtime(processes=2), "stages.embed", "m1")


def test_a_failed_process_fails_the_stage(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        relaunched(runtime(processes=2), "failing")
    assert stop.value.code
