"""`flukeprint members` and stages with runtime.engine ray, against `dvc repro` on this machine alone."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from pipeline_project import ENVIRONMENT, MEMBERS, ONE_PROCESS, run, set_params
from ray_here import RAY, ray_here

TREES = ("models/finetuned", "data/embeddings", "metrics/finetune", "metrics/embed")
STAGES = [f"{stage}@{member}" for member in MEMBERS for stage in ("finetune", "embed")]
UP_TO_DATE = "Data and pipelines are up to date.\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    for name, value in RAY.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)


def files(folder: Path, trees: Iterable[str] = TREES) -> dict[str, bytes]:
    """Return the bytes of files, and of what folders hold, by their paths."""
    paths = [path for tree in trees for path in (folder / tree, *(folder / tree).rglob("*"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.slow
def test_members_by_ray_are_those_of_this_machine_alone(project, tmp_path):
    """Two members side by side, by a Ray that the command starts: equal bytes, and nothing left for DVC to do."""
    set_params(project, runtime__threads=1, finetune__lr=0.0003)
    alone = Path(shutil.copytree(project, tmp_path / "alone", symlinks=True))
    run(alone, "python", "-c", ONE_PROCESS, *STAGES)
    set_params(project, runtime__engine="ray")
    (project / "data/embeddings/m1/old.npy").write_bytes(b"of an earlier run")
    said = run(project, "python", "-m", "flukeprint.cli", "members")
    assert [said.count(f"{name}: {os.uname().nodename}\n") for name in STAGES] == [1] * 4
    assert said.count("kept epoch") == 2  # what a stage says is said here
    assert files(project) == files(alone)
    assert run(project, "dvc", "status", *STAGES) == UP_TO_DATE
    assert not list(project.glob(".work/finetune/*"))
    # Nothing is run that is up to date, or that ran before: DVC's cache of runs knows what workers made.
    set_params(project, finetune__lr=0.0001)
    assert run(project, "python", "-m", "flukeprint.cli", "members") == "m1: done\nm2: done\n"
    set_params(project, finetune__lr=0.0003)
    assert run(project, "python", "-m", "flukeprint.cli", "members") == "m1: done\nm2: done\n"
    assert files(project) == files(alone)


@pytest.mark.slow
def test_photos_and_networks_by_a_cluster_give_the_same_bytes(project, tmp_path_factory):
    """Shards of photos and of pixels: what later stages read is as it was."""
    pixels = ("data/pixels/train", "data/pixels/test")
    wanted = ("data/validated", *pixels, "data/embeddings", "metrics/data_quality.json", "metrics/embed")
    before = files(project, wanted)
    for path, name, few in (
        ("flukeprint/data/pixels.py", "_CHUNK = 64", "_CHUNK = 9"),
        ("flukeprint/data/inspection.py", "_SHARD = 64", "_SHARD = 9"),
        ("flukeprint/data/inspection.py", "_FEW_PHOTOS = 64", "_FEW_PHOTOS = 9"),
    ):
        text = (project / path).read_text()
        assert text.count(name) == 1
        (project / path).write_text(text.replace(name, few))
    with ray_here(tmp_path_factory.mktemp("r")) as address:
        set_params(project, runtime__engine="ray", runtime__address=address)
        run(project, "dvc", "repro", "--force", "--single-item", "validate", "pixels", "baseline", "embed@m1")
    assert files(project, wanted) == before
    assert run(project, "dvc", "status", "select", "train", "full_head") == UP_TO_DATE
