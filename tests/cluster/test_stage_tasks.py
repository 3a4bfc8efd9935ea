"""What a worker does with an order, without Ray's transport: the stage's process, its files, its end."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flukeprint.cluster import stage_tasks
from flukeprint.cluster.carried_files import CarriedFile, Piece
from flukeprint.cluster.stage_tasks import StageOrder, run_stage
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.ray_cluster import IN_TASK, LostWorkerError, packages

ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def worker(tmp_path, monkeypatch) -> Path:
    """Be a worker on the machine that sends the order, with a folder of its own for temporary files."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "in").write_text("given")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(stage_tasks.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.setattr(stage_tasks, "_POLL", 0.05)
    return tmp_path


def order_of(folder: Path, code: str, **changes) -> StageOrder:
    (folder / "stage.py").write_text(code)
    values = {
        "command": "python stage.py", "inputs": [CarriedFile("in", ()), CarriedFile("stage.py", ())],
        "own": [], "outputs": ["out", "folder"], "workspace": str(folder), "node": "here", "packages": packages(),
    }  # fmt: skip
    return StageOrder(**values | changes)


WRITES = f"""
import os, sys
from pathlib import Path
Path("out").write_text(Path("in").read_text() + os.environ["{IN_TASK}"] + str(os.environ.get("OMP_NUM_THREADS")))
Path("folder/inner").mkdir(parents=True)
Path("folder/b").write_text("b"); Path("folder/inner/a").write_text("a"); Path("other").write_text("")
print("it said", file=sys.stderr)
"""


def test_outputs_come_back_and_what_was_said(worker, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    host, *pieces, said = run_stage(order_of(worker, WRITES))
    assert (host, said) == (os.uname().nodename, "it said")
    assert {piece.path: piece.data.tobytes() for piece in pieces} == {
        "out": b"given1None", "folder/b": b"b", "folder/inner/a": b"a",
    }  # fmt: skip
    assert list((worker / "tmp").iterdir()) == []


CHECKPOINTS = """
import time
from pathlib import Path
path = Path(".work/finetune/m1-ab/last.safetensors")
before = path.read_text() if path.exists() else "0"
path.parent.mkdir(parents=True, exist_ok=True)
for epoch in range(int(before), 3):
    temporary = path.with_name(".last.tmp")
    temporary.write_text(str(epoch + 1))
    temporary.replace(path)
    while not Path(f"seen{epoch + 1}").exists():
        time.sleep(0.02)
path.unlink()
Path("out").write_text(before)
"""


def contents(order: StageOrder, worker: Path) -> list[bytes]:
    """Return what a stage sends; it is told when a checkpoint of it has come."""
    sent = []
    for piece in run_stage(order):
        if isinstance(piece, Piece):
            sent.append(piece.data.tobytes())
            [folder] = (worker / "tmp").iterdir()
            (folder / f"seen{sent[-1].decode()}").touch()
    return sent


def test_checkpoints_come_as_they_are_made_and_are_gone_on_with(worker, monkeypatch):
    assert contents(order_of(worker, CHECKPOINTS), worker) == [b"1", b"2", b"3", b"0"]
    path = ".work/finetune/m1-ab/last.safetensors"
    came = Piece(path, 0, 1, np.frombuffer(b"2", np.uint8))
    monkeypatch.setattr("flukeprint.core.ray_cluster.result_of", lambda _: came)
    own = [CarriedFile(path, ("reference",))]
    assert contents(order_of(worker, CHECKPOINTS, own=own), worker) == [b"3", b"2"]


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("import sys; sys.exit('error: lower finetune.lr')", FlukeprintError, "^lower finetune.lr$"),
        ("import os; os.kill(os.getpid(), 9)", LostWorkerError, "SIGKILL"),
    ],
)
def test_a_stage_that_fails_is_told_from_one_that_was_killed(worker, code, kind, message):
    with pytest.raises(kind, match=message):
        list(run_stage(order_of(worker, code)))
    assert list((worker / "tmp").iterdir()) == []


def test_other_packages_are_refused_before_the_stage_begins(worker):
    with pytest.raises(FlukeprintError, match="other packages"):
        next(run_stage(order_of(worker, "", packages={"numpy": "0"})))


DRIVER = """
import sys
from types import SimpleNamespace
import ray
from flukeprint.cluster.stage_tasks import StageOrder, run_stage
from flukeprint.cluster.carried_files import CarriedFile, Piece
ray.get_runtime_context = lambda: SimpleNamespace(get_node_id=lambda: "here")
order = StageOrder("python stage.py", [CarriedFile("stage.py", ())], [], [], sys.argv[1], "here", {})
for piece in run_stage(order):
    print(piece.data.tobytes().decode() if hasattr(piece, "data") else piece, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel to end children")
def test_a_stage_does_not_outlive_a_worker_that_is_killed(worker):
    (worker / "driver.py").write_text(DRIVER)
    (worker / "stage.py").write_text(
        "import os, time, pathlib; path = pathlib.Path('.work/pid'); path.parent.mkdir()\n"
        "path.write_text(str(os.getpid())); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "driver.py", str(worker)], cwd=worker, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(worker / "tmp")},
    ) as driver:  # fmt: skip
        driver.stdout.readline()
        pid = int(driver.stdout.readline())
        driver.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    # The next task clears away what this one left.
    assert len(list((worker / "tmp").iterdir())) == 1
    list(run_stage(order_of(worker, "")))
    assert list((worker / "tmp").iterdir()) == []
