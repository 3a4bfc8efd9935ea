from flukeprint.cluster.members_here import environments, gpus


def test_each_training_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-ab,5")
    assert gpus() == ["2", "GPU-ab", "5"]
    assert environments(4, gpus()) == [{"CUDA_VISIBLE_DEVICES": name} for name in ("2", "GPU-ab", "5", "2")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environments(2, gpus()) == [{}, {}]


def test_gpus_are_counted_by_the_drivers_own_program(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-1)'\necho '  MIG 1g.10gb'\necho 'GPU 1: H100'\n")
    program.chmod(0o755)
    assert gpus() == ["0", "1"]
