"""A project of its own for tests: a temporary git and DVC repository with our code and params for tiny data."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml, modify_yaml

from flukeprint.data.sample import SampleSpec

ROOT = Path(__file__).parents[1]
TRACKED = (
    "flukeprint",
    "stages",
    "data/incoming",
    "data/kept",
    "data/exclusions.csv",
    "data/.gitignore",
    "models/.gitignore",
    "reports/.gitignore",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
)
MEMBERS = ["m1", "m2"]
# Runs stages, each as NAME or NAME@MEMBER, in one process: their imports take far longer than tiny data does.
ONE_PROCESS = """
import importlib, sys
for stage in sys.argv[1:]:
    sys.argv = stage.split("@")
    importlib.import_module("stages." + sys.argv[0]).main()
"""
PHOTOS = SampleSpec(
    photos=(8, 7, 6, 5, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1), new_whales=8, test_known=8, test_new=4, duplicates=2, conflicts=1
)
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)


def run(folder: Path, *command: str, ok: bool = True) -> str:
    """Run a command in a project and return what it printed."""
    result = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    assert (result.returncode == 0) == ok, output
    return output


def stages_run(output: str) -> set[str]:
    """Return the stages that DVC says it ran (not restored from its cache of runs)."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def stages_of(members: list[str]) -> list[str]:
    """Return all stages, in an order in which each finds what it reads."""
    return [
        "backbone", "fetch", "localize", "validate", "select", "pixels", "baseline", "train",
        *(f"{stage}@{member}" for stage in ("start", "finetune", "embed") for member in members),
        "full_head", "ensemble", "gallery", "calibrate", "evaluate", "submit",
    ]  # fmt: skip


def run_here(folder: Path, monkeypatch: pytest.MonkeyPatch, *stages: str) -> None:
    """Run stages one after the other in this process, which has imported most of what they need."""
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("gc.freeze", lambda: None)  # stage validate's process would end with it
        for stage in stages:
            name, *member = stage.split("@")
            patch.setattr("sys.argv", [name, *member])
            importlib.import_module(f"stages.{name}").main()


def set_params(folder: Path, **changes) -> None:
    """Change dotted keys (written with __) in a project's params.yaml."""
    with modify_yaml(folder / "params.yaml") as content:
        for key, value in changes.items():
            *path, last = key.split("__")
            section = content
            for part in path:
                section = section[part]
            section[last] = value


def new_project(folder: Path, photos: Path) -> Path:
    """Make a git and DVC repository with the project's code and params for tiny data."""
    folder.mkdir()
    for name in TRACKED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, target)
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    drawn = load_yaml(ROOT / "params.yaml")["profiles"]["sample"]
    set_params(
        folder,
        profile="folder",
        profiles__folder__path=str(photos),
        profiles__folder__image_size=32,
        # Random weights would embed all photos alike after so few steps, and the order of answers would be rounding.
        profiles__folder__backbone=drawn["backbone"],
        profiles__folder__epochs={"train": 3, "finetune": 2, "full_head": 3},
        select__threshold=4,
        select__new_whale=3,
        ensemble__members=MEMBERS,
    )  # fmt: skip
    run(folder, "git", "init", "--quiet", "--initial-branch=main")
    run(folder, "dvc", "init", "--quiet")
    shutil.copyfile(ROOT / ".dvc/config", folder / ".dvc/config")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", message)
