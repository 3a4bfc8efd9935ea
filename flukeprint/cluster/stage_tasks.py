"""A stage as a task of Ray: its own process in a folder of its own on a worker, whose files come back as they are made.

The process is the one that DVC would start, so its outputs have the same bytes.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import flukeprint
from flukeprint.cluster.carried_files import CarriedFile, Piece, laid_out, pieces_of
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import WORK
from flukeprint.core.ray_cluster import IN_TASK, LostWorkerError, refuse_other_packages
from flukeprint.core.replacement import scratch_folder

_POLL = 0.5  # seconds between looks for a new checkpoint
_MOST_SAID = 1 << 16  # bytes
_PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True)
class StageOrder:
    """What a worker needs to know of a stage: DVC's command, the files that it reads, and what it writes."""

    command: str
    inputs: list[CarriedFile]  # what members have in common
    own: list[CarriedFile]  # what is the member's, unfinished trainings among it
    outputs: list[str]  # files, or folders of files
    workspace: str  # the project's root on the machine that sends the order,
    node: str  # which is this one of Ray's
    packages: Mapping[str, str]


def run_stage(order: StageOrder) -> Iterator[Piece | str]:
    """Run the stage and yield the name of the machine, each new checkpoint, the outputs, and what it said.

    A stage that ends with an error is a FlukeprintError of its message; one that was killed, a LostWorkerError.
    """
    import ray

    refuse_other_packages(order.packages)
    yield os.uname().nodename
    here = ray.get_runtime_context().get_node_id() == order.node
    temporary = Path(tempfile.gettempdir()) / "flukeprint-stage"
    with scratch_folder(temporary) as folder, tempfile.TemporaryFile() as said:
        laid_out(order.inputs, folder, Path(order.workspace) if here else None)
        # Never by a link: checkpoints are replaced, and what the stage before wrote DVC may put in place anew.
        laid_out(order.own, folder, None)
        process = _start(order.command, folder, said)
        yield from _checkpoints_of(process, folder)
        text = _said(said)
        if process.returncode < 0:
            raise LostWorkerError(f"the stage's process was killed ({signal.Signals(-process.returncode).name})")
        if process.returncode:
            raise FlukeprintError(text.removeprefix("error: "))
        for path in _files_of(folder, order.outputs):
            yield from pieces_of(folder, path)
        yield text


def _start(command: str, folder: Path, said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the stage's process; it ends with this one."""
    environment = os.environ | {IN_TASK: "1", "PYTHONPATH": str(Path(flukeprint.__file__).parents[1])}
    # Ray sets it for its own processes. It is the stage that decides on its threads.
    environment.pop("OMP_NUM_THREADS", None)
    words = shlex.split(command)
    words[0] = sys.executable
    parent = os.getpid()
    return subprocess.Popen(  # noqa: S603 - a command of dvc.yaml
        words,
        cwd=folder,
        env=environment,
        stdout=said,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509
    )


def _die_with(parent: int) -> None:
    """Let this process be killed when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _checkpoints_of(process: subprocess.Popen[bytes], folder: Path) -> Iterator[Piece]:
    """Yield the checkpoints that a stage writes, until it ends; what of it is left then is what its end shows."""
    known = dict(_checkpoints(folder))
    try:
        while process.poll() is None:
            try:
                process.wait(_POLL)
            except subprocess.TimeoutExpired:
                for path, state in _checkpoints(folder):
                    if known.get(path) != state:
                        known[path] = state
                        yield from pieces_of(folder, path)
    finally:
        process.kill()
        process.wait()


def _checkpoints(folder: Path) -> Iterator[tuple[Path, tuple[int, int]]]:
    for path in (folder / WORK).rglob("[!.]*"):
        if path.is_file():
            found = path.stat()
            yield path.relative_to(folder), (found.st_ino, found.st_mtime_ns)


def _files_of(folder: Path, outputs: list[str]) -> Iterator[Path]:
    """Yield the files that a stage wrote, relative to its folder."""
    for output in map(Path, outputs):
        inside = sorted((folder / output).rglob("*")) if (folder / output).is_dir() else [folder / output]
        yield from (path.relative_to(folder) for path in inside if path.is_file())


def _said(stream: IO[bytes]) -> str:
    """Return the last of what a process said."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(size - _MOST_SAID, 0))
    return stream.read().decode("utf-8", "replace").strip()
