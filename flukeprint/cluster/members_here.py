"""The members' own stages on this machine alone, several members at a time, each with a GPU of its own if there are."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from flukeprint.cluster.members import MEMBER_STAGES
from flukeprint.core.errors import FlukeprintError

_POLL = 0.2  # seconds
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def run_members(members: Sequence[str], most: int, say: Callable[[str], None]) -> None:
    """Let DVC train and embed `most` members at a time; a FlukeprintError names those that failed."""
    waiting, failed = list(members), []
    slots = environments(most, gpus())
    running: dict[str, tuple[subprocess.Popen[bytes], dict[str, str]]] = {}
    try:
        while waiting or running:
            while waiting and slots:
                member, slot = waiting.pop(0), slots.pop(0)
                running[member] = _start(member, slot), slot
            time.sleep(_POLL)
            for member, (process, slot) in list(running.items()):
                if process.poll() is not None:
                    del running[member]
                    slots.append(slot)
                    say(f"{member}: {'failed' if process.returncode else 'done'}")
                    failed += [member] if process.returncode else []
    finally:
        for process, _ in running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    if failed:
        raise FlukeprintError(f"members {', '.join(failed)} failed: what is said above tells why.")


def _start(member: str, slot: dict[str, str]) -> subprocess.Popen[bytes]:
    stages = [f"{stage}@{member}" for stage in MEMBER_STAGES]
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", *stages]
    # A session of its own: DVC hands no signal on to the stage.
    return subprocess.Popen(command, env=os.environ | slot, start_new_session=True)  # noqa: S603


def environments(most: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """Return what distinguishes the environments of so many processes: each has one GPU, in turn, where there are."""
    return [{_VISIBLE: devices[number % len(devices)]} if devices else {} for number in range(most)]


def gpus() -> list[str]:
    """Return the names that CUDA has for this machine's GPUs, or for those of them that may be used."""
    if (visible := os.environ.get(_VISIBLE)) is not None:
        return [name for name in visible.split(",") if name]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False)  # noqa: S603
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.stdout.splitlines()))]
