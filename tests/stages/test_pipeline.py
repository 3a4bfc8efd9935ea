"""The pipeline as its users run it: dvc commands in a temporary git and DVC repository, on a tiny data set."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pipeline_project import (
    ENVIRONMENT,
    MEMBERS,
    ONE_PROCESS,
    commit,
    new_project,
    run,
    set_params,
    stages_of,
    stages_run,
)

from flukeprint.core.files import DIGITS


def test_the_submission_is_complete_and_in_the_samples_order(finished):
    submission = pd.read_csv(finished / "data/submission.csv")
    sample = pd.read_csv(finished / "data/raw/sample_submission.csv")
    assert list(submission.columns) == ["Image", "Id"]
    assert submission["Image"].tolist() == sample["Image"].tolist()
    assert all(len(set(labels.split(" "))) == 5 for labels in submission["Id"])


def test_metrics_and_curves_are_in_git(finished):
    tracked = run(finished, "git", "ls-files", "metrics").split()
    assert {"metrics/selection.json", "metrics/evaluation.json", "metrics/data_quality.json"} <= set(tracked)
    for stage in ("train", "finetune", "full_head"):
        for member in MEMBERS:
            assert f"metrics/{stage}/{member}.json" in tracked
    evaluation = json.loads((finished / "metrics/evaluation.json").read_text())
    assert evaluation["queries"] == evaluation["known_queries"] + evaluation["new_queries"] > 0
    assert evaluation["all_new"]["map5"] == pytest.approx(0.325)
    members = json.loads((finished / "metrics/members.json").read_text())
    assert "ensemble" in evaluation
    assert set(MEMBERS) <= set(members)


def floats_of(value) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from floats_of(one)


def test_no_figure_in_git_has_digits_that_another_processor_would_change(finished):
    paths = sorted((finished / "metrics").rglob("*.json"))
    figures = [value for path in paths for value in floats_of(json.loads(path.read_text()))]
    assert len(figures) > 500
    assert [value for value in figures if value != float(f"{value:.{DIGITS}g}")] == []


def test_a_second_repro_runs_nothing(finished):
    output = run(finished, "dvc", "repro")
    assert not stages_run(output)
    assert "up to date" in output


def test_the_same_params_give_the_same_bytes(tmp_path, photos, finished):
    """A second project, all of whose stages run in one process."""
    folder = new_project(tmp_path / "project", photos)
    run(folder, "python", "-c", ONE_PROCESS, *stages_of(MEMBERS))
    own, others = outputs(folder), outputs(finished)
    assert own.keys() == others.keys()
    assert [path for path in own if own[path] != others[path]] == []


def outputs(folder: Path) -> dict[Path, bytes]:
    paths = [path for tree in ("data", "models", "metrics", "reports") for path in (folder / tree).rglob("*")]
    return {path.relative_to(folder): path.read_bytes() for path in paths if path.is_file()}


def test_trainings_that_were_killed_on_the_way_give_the_same_bytes(project):
    """The same dvc.lock: DVC goes on where each training was killed, and finds nothing else to do."""
    before = (project / "dvc.lock").read_text()
    trainings = ("train", "finetune@m1", "full_head")
    for stage in trainings:
        kill_in_stage(project, stage)
    # Without force DVC would give back what its cache has of the first time.
    run(project, "dvc", "repro", "--force", "--single-item", *trainings)
    assert (project / "dvc.lock").read_text() == before
    assert json.loads(run(project, "dvc", "status", "--json")) == {}


def kill_in_stage(folder: Path, stage: str) -> None:
    """Start the stage by `dvc repro`, wait for its first checkpoint, kill every process of it."""
    command = ["dvc", "repro", "--quiet", "--force", "--single-item", stage]
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, start_new_session=True) as process:
        checkpoints = folder / ".work" / stage.partition("@")[0]
        while process.poll() is None and not list(checkpoints.glob("*/last.safetensors")):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_metrics_diff_works_in_a_fresh_clone_without_cache(project, tmp_path):
    run(project, "git", "checkout", "--quiet", "-b", "other")
    path = project / "metrics/evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["ensemble"]["map5"] += 0.125
    path.write_text(json.dumps(evaluation))
    commit(project, "better")
    run(tmp_path, "git", "clone", "--quiet", str(project), "clone")
    run(tmp_path / "clone", "git", "branch", "--quiet", "main", "origin/main")
    difference = json.loads(run(tmp_path / "clone", "dvc", "metrics", "diff", "main", "--json"))
    assert difference["metrics/evaluation.json"]["ensemble.map5"]["diff"] == pytest.approx(0.125)


@pytest.mark.slow
def test_an_experiment_reruns_the_training_and_nothing_upstream(project):
    assert stages_run(run(project, "dvc", "exp", "run", "--name", "slow", "-S", "train.lr=0.001", "train")) == {"train"}
    assert "slow" in run(project, "dvc", "exp", "show", "--csv")
    assert "train.lr" in run(project, "dvc", "params", "diff")


@pytest.mark.slow
def test_a_new_member_finetunes_and_embeds_only_itself(project):
    set_params(project, ensemble__members=[*MEMBERS, "m3"])
    starts = {f"start@{member}" for member in (*MEMBERS, "m3")}
    ran = stages_run(run(project, "dvc", "repro", "full_head"))
    assert ran == {"train", *starts, "finetune@m3", "embed@m3", "full_head"}
    stale = set(json.loads(run(project, "dvc", "status", "--json")))
    assert stale == {"ensemble", "gallery", "calibrate", "evaluate"}  # and what reads their outputs
    # Taken away again, it leaves nothing that a clone would not have.
    set_params(project, ensemble__members=MEMBERS)
    assert not stages_run(run(project, "dvc", "repro")) & {"train", "start@m1", "finetune@m1", "embed@m1"}
    assert not list((project / "metrics").glob("*/m3.json"))
    assert json.loads(run(project, "dvc", "status", "--json")) == {}
    assert run(project, "git", "status", "--porcelain", "metrics") == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("recipe=metric finetune.lr=0.1", "recipes.metric.finetune.lr (0.0003) counts in its place"),
        ("train.lr=abc", "train.lr: is 'abc', expected a number"),
        ("profiles.folder.epochs.train=-1", "profiles.folder.epochs.train: is -1, expected greater than"),
        ("+train.lrr=1", "train.lrr: there is no such key"),
    ],
)
def test_a_bad_value_is_refused_before_any_work(project, change, message):
    changes = [part for value in change.split() for part in ("-S", value)]
    output = run(project, "dvc", "exp", "run", *changes, ok=False)
    assert message in output
    assert not list((project / ".work").glob("*/*"))
    run(project, "git", "checkout", "--quiet", "params.yaml")


def test_new_photos_in_the_folder_are_noticed(project, tmp_path, photos):
    other = tmp_path / "photos"
    shutil.copytree(photos, other)
    set_params(project, profiles__folder__path=str(other))
    assert "fetch" in run(project, "dvc", "status")
    run(project, "dvc", "repro", "--single-item", "fetch")
    assert "fetch" not in run(project, "dvc", "status")
    (other / "test" / "00000000.jpg").write_bytes(b"")
    assert "fetch" in run(project, "dvc", "status")


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        ({"seed": 7}, {"localize", "select", "backbone", "train", "full_head", *(f"finetune@{m}" for m in MEMBERS)}),
        ({"full_head__gamma": 0.2}, {"full_head", "calibrate"}),
        (
            {"recipe": "metric"},
            {"full_head", "ensemble", "gallery", "calibrate", "submit"}
            | {f"{stage}@{member}" for stage in ("start", "finetune", "embed") for member in MEMBERS},
        ),
        ({"runtime__workers": 1}, set()),
        ({"profiles__sample__image_size": 48}, set()),
    ],
)
def test_dvc_agrees_on_what_a_key_makes_stale(project, change, stale):
    set_params(project, **change)
    status = json.loads(run(project, "dvc", "status", "--json"))
    assert set(status) == stale


def test_a_hidden_value_is_also_refused_in_a_copy_of_the_project(project):
    changes = ("-S", "recipe=metric", "-S", "finetune.lr=0.1")
    output = run(project, "dvc", "exp", "run", "--temp", *changes, ok=False)
    assert "recipes.metric.finetune.lr (0.0003) counts in its place" in output


def test_an_edit_of_words_trains_nothing_again(project):
    for name, comment in (
        ("flukeprint/evaluation/evaluation_report.html.j2", "{# edited #}"),
        ("flukeprint/evaluation/report_words.py", "# edited"),
        ("flukeprint/cli/identify.py", "# edited"),
        ("flukeprint/core/safe_text.py", "# edited"),
        ("flukeprint/core/params.py", "# edited"),
    ):
        with (project / name).open("a") as stream:
            stream.write(f"\n{comment}\n")
    stale = {name.partition("@")[0] for name in json.loads(run(project, "dvc", "status", "--json"))}
    assert "evaluate" in stale
    assert not stale & {"baseline", "train", "start", "finetune", "embed", "full_head"}


@pytest.mark.slow
def test_a_value_changed_and_put_back_trains_once(project):
    set_params(project, finetune__lr=0.002, evaluate__resamples=1000)
    changed = ("finetune@m1", "embed@m1", "evaluate")
    assert stages_run(run(project, "dvc", "repro", "--single-item", *changed)) == set(changed)
    run(project, "git", "checkout", "--quiet", "params.yaml")
    output = run(project, "dvc", "repro")
    assert not stages_run(output)
    assert all(f"Stage '{stage}' is cached" in output for stage in changed)
    assert run(project, "git", "status", "--porcelain") == ""


@pytest.fixture
def pushed(project, tmp_path) -> Path:
    """A project whose outputs are in a remote."""
    run(project, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    run(project, "dvc", "push", "--quiet")
    commit(project, "remote")
    return project


def clone_of(project: Path, folder: Path) -> Path:
    run(project, "git", "clone", "--quiet", str(project), str(folder))
    return folder


@pytest.mark.slow
def test_a_clone_that_has_pulled_runs_nothing(pushed, tmp_path):
    clone = clone_of(pushed, tmp_path / "clone")
    run(clone, "dvc", "pull", "--quiet")
    assert not stages_run(run(clone, "dvc", "repro"))
    set_params(clone, profiles__folder__epochs__full_head=2)
    ran = stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing", "ensemble"))
    assert ran == {"full_head", "ensemble"}


@pytest.mark.slow
def test_a_clone_without_data_pulls_what_a_change_needs(pushed, tmp_path):
    clone = clone_of(pushed, tmp_path / "clone")
    assert not stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing"))
    assert not (clone / "models/finetuned").exists()
    set_params(clone, gallery__photos="trained")
    assert stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing")) == {"gallery"}
    assert {path.name for path in (clone / "data").iterdir() if path.is_dir()} == {
        "embeddings", "incoming", "kept", "pixels", "selected", "validated",
    }  # fmt: skip
    assert [path.name for path in (clone / "data/pixels").iterdir()] == ["crop.json"]
    assert not stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing"))
