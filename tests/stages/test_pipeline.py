"""The pipeline as its users run it: dvc commands in a temporary git and DVC repository, on a tiny data set."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml, modify_yaml

from flukeprint.data.sample import SampleSpec, draw_sample, plan_sample

ROOT = Path(__file__).parents[2]
TRACKED = (
    "flukeprint",
    "stages",
    "data/incoming",
    "data/exclusions.csv",
    "data/.gitignore",
    "models/.gitignore",
    "reports/.gitignore",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
)
MEMBERS = ["m1", "m2"]
PHOTOS = SampleSpec(
    photos=(8, 7, 6, 5, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1), new_whales=8, test_known=8, test_new=4, duplicates=2
)
# How far the answers of one network by torch and by onnxruntime may be apart: rounding, times the slope of the
# calibration (some tens) where it is of probabilities.
SAME_SIMILARITY, SAME_PROBABILITY = 1e-4, 1e-2
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


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw_sample(folder, 0, PHOTOS)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, photos) -> Path:
    """A project after `dvc repro`, committed. Not to be changed: `project` gives a copy."""
    folder = new_project(tmp_path_factory.mktemp("finished") / "project", photos)
    output = run(folder, "dvc", "repro")
    assert len(stages_run(output)) == 13 + 3 * len(MEMBERS), output
    commit(folder, "results")
    return folder


@pytest.fixture
def project(tmp_path, finished) -> Path:
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    return tmp_path / "project"


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


def test_a_second_repro_runs_nothing(finished):
    output = run(finished, "dvc", "repro")
    assert not stages_run(output)
    assert "up to date" in output


def test_the_same_params_give_the_same_bytes_even_when_killed_on_the_way(tmp_path, photos, finished):
    """A second project, killed in the middle of each training, ends with the same dvc.lock."""
    folder = new_project(tmp_path / "project", photos)
    for stage in ("train", "finetune@m1", "full_head"):
        kill_in_stage(folder, stage)
    run(folder, "dvc", "repro")
    assert (folder / "dvc.lock").read_text() == (finished / "dvc.lock").read_text()


def kill_in_stage(folder: Path, stage: str) -> None:
    """Start `dvc repro`, wait for the stage's first checkpoint, kill every process of it."""
    with subprocess.Popen(["dvc", "repro", "--quiet"], cwd=folder, env=ENVIRONMENT, start_new_session=True) as process:
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


def test_an_experiment_reruns_the_training_and_nothing_upstream(project):
    output = run(project, "dvc", "exp", "run", "--name", "slow", "-S", "train.lr=0.001")
    ran = stages_run(output)
    assert "train" in ran
    assert not ran & {"fetch", "validate", "select", "pixels", "backbone"}
    assert "slow" in run(project, "dvc", "exp", "show", "--csv")
    assert "train.lr" in run(project, "dvc", "params", "diff")


def test_a_new_member_finetunes_and_embeds_only_itself(project):
    set_params(project, ensemble__members=[*MEMBERS, "m3"])
    ran = stages_run(run(project, "dvc", "repro"))
    starts = {f"start@{member}" for member in (*MEMBERS, "m3")}
    answers = {"full_head", "ensemble", "gallery", "calibrate", "evaluate", "submit"}
    assert ran == {"train", *starts, "finetune@m3", "embed@m3"} | answers
    # Taken away again, it leaves nothing that a clone would not have.
    set_params(project, ensemble__members=MEMBERS)
    assert not stages_run(run(project, "dvc", "repro")) & {"train", "start@m1", "finetune@m1", "embed@m1"}
    assert not list((project / "metrics").glob("*/m3.json"))
    assert json.loads(run(project, "dvc", "status", "--json")) == {}
    assert run(project, "git", "status", "--porcelain", "metrics") == ""


@pytest.mark.numeric
def test_the_metric_recipe_ends_in_answers_and_a_bundle_that_gives_the_same(tmp_path, photos):
    # A project of its own: alone, as `pytest -m numeric` runs it, it needs no other pipeline before it.
    project = new_project(tmp_path / "project", photos)
    # So few queries choose no best scorer; with the single photos there are more steps.
    set_params(
        project, recipe="metric", recipes__metric__finetune__epochs=2, recipes__metric__finetune__min_photos=1,
        recipes__metric__submit={"decision": "class"}, ensemble__members=["m1"],
    )  # fmt: skip
    ran = stages_run(run(project, "dvc", "repro"))
    assert {"finetune@m1", "embed@m1", "gallery", "evaluate", "submit"} <= ran
    set_params(project, train__lr=0.001)
    assert stages_run(run(project, "dvc", "repro", "start")) == {"train", "start@m1"}
    assert set(json.loads(run(project, "dvc", "status", "--json"))) == {"evaluate"}  # which draws the heads' curves
    page = (project / "reports/evaluation/index.html").read_text()
    assert "full fine-tuning: loss" in page
    assert "can hardly be told apart" not in page
    command = (sys.executable, "-m", "flukeprint.cli")
    run(project, *command, "export", "bundle")
    # A photo whose nearest individual is known whatever was learned: it copies one of the gallery.
    asked = min((photo for photo in plan_sample(0, PHOTOS)[1] if photo.copy_of), key=lambda photo: photo.name)
    photo = str(photos / "test" / asked.name)
    everyone = ("--format", "json", "--top", str(len(PHOTOS.photos)))
    answers = [
        json.loads(run(project, *command, "identify", photo, *everyone, *options))["photos"][0]
        for options in ((), ("--bundle", "bundle"))
    ]
    own, bundled = (answer["candidates"] for answer in answers)
    spread = json.loads((project / "metrics/finetune/m1.json").read_text())["spread"]
    assert spread["mean_cosine"] < 0.9
    assert len(own) == len(bundled) == len(PHOTOS.photos)
    nearest = sorted(own, key=lambda one: -one["similarity"])
    assert (nearest[0]["id"], nearest[0]["nearest_photo"]) == (asked.label, asked.copy_of)
    # The network tells photos apart by far more than torch and onnxruntime differ in.
    assert nearest[0]["similarity"] - nearest[-1]["similarity"] > 100 * SAME_SIMILARITY
    by_id = {one["id"]: one for one in bundled}
    for one in own:
        assert by_id[one["id"]]["similarity"] == pytest.approx(one["similarity"], abs=SAME_SIMILARITY)
        assert by_id[one["id"]]["probability"] == pytest.approx(one["probability"], abs=SAME_PROBABILITY)
    # What is further apart than that stands in the same order; what is not may stand in either.
    place = {one["id"]: number for number, one in enumerate(bundled)}
    apart = [
        (one["id"], other["id"])
        for one, other in itertools.combinations(own, 2)
        if one["probability"] - other["probability"] > 2 * SAME_PROBABILITY
    ]
    assert apart
    assert [pair for pair in apart if place[pair[0]] > place[pair[1]]] == []


@pytest.mark.numeric
def test_a_collapsed_embedding_is_told_by_the_stage_its_metrics_and_identify(tmp_path, photos):
    """Two epochs from random weights leave all photos alike: a fixture that no processor can tell apart."""
    project = new_project(tmp_path / "project", photos)
    set_params(
        project, recipe="metric", recipes__metric__finetune__epochs=2, recipes__metric__finetune__min_photos=1,
        profiles__folder__backbone__weights="random", ensemble__members=["m1"],
    )  # fmt: skip
    output = run(project, "dvc", "repro", "gallery")
    assert "photos can hardly be told apart" in output
    spread = json.loads((project / "metrics/finetune/m1.json").read_text())["spread"]
    assert spread["mean_cosine"] > 0.99
    photo = str(sorted((photos / "test").iterdir())[0])
    answer = json.loads(run(project, sys.executable, "-m", "flukeprint.cli", "identify", photo, "--format", "json"))
    assert "mean cosine" in answer["collapsed"]
    assert answer["photos"][0]["candidates"] == []


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
        ({"seed": 7}, {"select", "backbone", "train", "full_head", *(f"finetune@{member}" for member in MEMBERS)}),
        ({"full_head__gamma": 0.2}, {"full_head"}),
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
        ("flukeprint/evaluation/words.py", "# edited"),
        ("flukeprint/cli/identify.py", "# edited"),
        ("flukeprint/core/text.py", "# edited"),
        ("flukeprint/core/params.py", "# edited"),
    ):
        with (project / name).open("a") as stream:
            stream.write(f"\n{comment}\n")
    stale = {name.partition("@")[0] for name in json.loads(run(project, "dvc", "status", "--json"))}
    assert "evaluate" in stale
    assert not stale & {"baseline", "train", "start", "finetune", "embed", "full_head"}


def test_a_value_changed_and_put_back_trains_once(project):
    set_params(project, finetune__lr=0.002)
    assert {"finetune@m1", "embed@m1", "full_head", "evaluate"} <= stages_run(run(project, "dvc", "repro", "evaluate"))
    run(project, "git", "checkout", "--quiet", "params.yaml")
    output = run(project, "dvc", "repro", "evaluate")
    assert not stages_run(output)
    assert "Stage 'finetune@m1' is cached" in output
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


def test_a_clone_that_has_pulled_runs_nothing(pushed, tmp_path):
    clone = clone_of(pushed, tmp_path / "clone")
    run(clone, "dvc", "pull", "--quiet")
    assert not stages_run(run(clone, "dvc", "repro"))
    set_params(clone, profiles__folder__epochs__full_head=2)
    ran = stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing"))
    assert {"full_head", "ensemble"} <= ran <= {"full_head", "ensemble", "calibrate", "evaluate", "submit"}


def test_a_clone_without_data_pulls_what_a_change_needs(pushed, tmp_path):
    clone = clone_of(pushed, tmp_path / "clone")
    assert not stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing"))
    assert not (clone / "models/finetuned").exists()
    set_params(clone, gallery__photos="trained")
    assert stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing")) == {"gallery"}
    assert {path.name for path in (clone / "data").iterdir() if path.is_dir()} == {
        "embeddings", "incoming", "selected", "validated",
    }  # fmt: skip
    assert not stages_run(run(clone, "dvc", "repro", "--pull", "--allow-missing"))
