"""The finished project that tests of the pipeline share."""

import shutil
from pathlib import Path

import pytest
from pipeline_project import MEMBERS, PHOTOS, commit, new_project, run, stages_run

from flukeprint.data.sample import draw_sample


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
    assert len(stages_run(output)) == 14 + 3 * len(MEMBERS), output
    commit(folder, "results")
    return folder


@pytest.fixture
def project(tmp_path, finished) -> Path:
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    return tmp_path / "project"
