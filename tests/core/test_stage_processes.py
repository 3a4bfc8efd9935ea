"""What a stage reads is the same for all its processes, or the file is named."""

import sys
from types import SimpleNamespace

import pytest
from imports import ROOT

from flukeprint.core import stage_processes
from flukeprint.core.errors import FlukeprintError

DAG = """
stages:
  embed:
    deps:
    - code
    - pixels.npy
    - ${item.member}.safetensors
  other: {deps: [unread]}
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A stage with code, an array and a member's weights."""
    (tmp_path / "dvc.yaml").write_text(DAG)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "code/__pycache__").mkdir(parents=True)
    for name in ("code/a.py", "code/b.py", "pixels.npy", "m1.safetensors", "m2.safetensors", "unread"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(project, name: str, old: str = "", new: str = " ") -> None:
    (project / name).write_text((project / name).read_text().replace(old, new, 1))


def refusal(monkeypatch, first: dict, own: dict) -> str:
    """Return what a process says that reads other files than process 0 (without torch)."""
    for name in ("accelerate", "accelerate.utils"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(broadcast_object_list=lambda _: [first]))
    with pytest.raises(FlukeprintError) as refused:
        stage_processes._refuse_other_inputs(own)
    return str(refused.value)


def test_every_input_of_a_stage_is_compared_and_nothing_else(project):
    inputs = stage_processes._inputs("embed", "m1")
    assert list(inputs) == ["code/a.py", "code/b.py", "pixels.npy", "m1.safetensors", "params.yaml"]
    change(project, "unread")
    change(project, "m2.safetensors")
    change(project, "params.yaml", "threads: 2", "threads: 3")
    change(project, "params.yaml", "seed: 0", "seed: 0 # as before")
    assert stage_processes._inputs("embed", "m1") == inputs


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("code/b.py", "", " "),
        ("pixels.npy", "x", "X"),
        ("m1.safetensors", "", " "),
        ("params.yaml", "\nseed: 0", "\nseed: 1"),
    ],
)
def test_what_differs_is_named(project, monkeypatch, name, old, new):
    first = stage_processes._inputs("embed", "m1")
    change(project, name, old, new)
    own = stage_processes._inputs("embed", "m1")
    assert refusal(monkeypatch, first, own).startswith(f"{name} is not what process 0 has there. Every machine needs")


def test_what_is_missing_is_named_too(project, monkeypatch):
    first = stage_processes._inputs("embed", "m1")
    (project / "pixels.npy").unlink()
    (project / "code/b.py").unlink()
    own = stage_processes._inputs("embed", "m1")
    assert refusal(monkeypatch, first, own).startswith("code/b.py is not what process 0 has there (nor are 1 others)")
    assert refusal(monkeypatch, own, first).startswith("code/b.py is not")
