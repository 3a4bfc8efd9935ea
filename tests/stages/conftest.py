"""The finished project that tests of the pipeline share."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from pipeline_project import MEMBERS, PHOTOS, commit, new_project, run, stages_of, stages_run

from flukeprint.data.sample import draw_sample


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw_sample(folder, 0, PHOTOS)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, photos) -> Path:
    """A project after `dvc repro`, committed. Not to be changed: `project` gives a copy.

    The processes of pytest-xdist, whose folders lie side by side, share one: it takes most of a minute.
    """
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with (common / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (common / "finished").exists():
            folder = new_project(tmp_path_factory.mktemp("making") / "project", photos)
            output = run(folder, "dvc", "repro")
            assert stages_run(output) == set(stages_of(MEMBERS)), output
            commit(folder, "results")
            folder.rename(common / "finished")
    return common / "finished"


@pytest.fixture
def project(tmp_path, finished) -> Path:
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    return tmp_path / "project"
