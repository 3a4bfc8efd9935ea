"""`flukeprint catalogue ... --ray ADDRESS`, in a folder that is no project, against the same commands without it."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest
from catalogue_model import everything, save_whales
from identify_project import make_project
from ray_here import RAY, ray_here

from flukeprint.bundle.export import export_bundle

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

LONGEST = 300  # seconds; a machine with other work beside takes a minute to start Ray's workers


def begun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin a command of the catalogue in a folder."""
    command = [sys.executable, "-m", "flukeprint.cli", "catalogue", *arguments]
    root = str(Path(__file__).parents[2])
    environment = os.environ | RAY | {"PYTHONPATH": root, "FLUKEPRINT_WHO": "ann"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE, text=True)


def run(folder: Path, *arguments: str) -> str:
    with begun(folder, *arguments) as process:
        return finished(process)


def finished(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, errors
    return said


def kill_a_worker() -> None:
    """Wait for a worker of a Ray that this process started to have a task, and kill it."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            try:
                if process.cmdline()[:1] == ["ray::_run_chunk"]:
                    process.kill()
                    return
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)
    raise AssertionError("no worker had a task")


@pytest.mark.slow
def test_a_cluster_imports_and_embeds_what_one_machine_does_though_a_worker_is_killed(
    tmp_path, tmp_path_factory, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path, ("m1",))
    export_bundle(Path("bundle"))
    save_whales(tmp_path / "known", {f"w_{n % 9}/{n}.jpg": (n % 9, n) for n in range(200)})
    save_whales(tmp_path / "season", {f"e{n % 7}/{n}.jpg": (n % 7, 300 + n) for n in range(40)})
    for folder in ("alone", "spread"):
        (tmp_path / folder).mkdir()
    new = ("create", "whales", "--bundle", str(tmp_path / "bundle"), "--from", str(tmp_path / "known"))
    seen = ("identify", str(tmp_path / "season"), "--catalogue", "whales")
    alone = [run(tmp_path / "alone", *command) for command in (new, seen)]
    with ray_here(tmp_path_factory.mktemp("r")) as address:
        with begun(tmp_path / "spread", *new, "--ray", address) as process:
            kill_a_worker()
            assert finished(process) == alone[0]
        assert run(tmp_path / "spread", *seen, "--ray", address) == alone[1]
        rows, photos = everything(tmp_path / "spread/whales")
        assert (rows, photos) == everything(tmp_path / "alone/whales")
        assert (len(rows["photos"]), len(photos)) == (240, 240)
        # Vectors of all photos anew, as those of another model are: in batches of their own.
        for folder, more in (("alone", ()), ("spread", ("--ray", address))):
            with closing(sqlite3.connect(tmp_path / folder / "whales/catalogue.db")) as connection, connection:
                connection.execute("DELETE FROM vectors")
            assert run(tmp_path / folder, "embed", "--catalogue", "whales", *more) == "240 vectors computed\n"
        assert everything(tmp_path / "spread/whales") == everything(tmp_path / "alone/whales")
