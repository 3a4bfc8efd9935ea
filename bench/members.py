"""What it costs to spread members by Ray, beside the same by hand (xargs), on this machine.

python -m bench.members PROJECT [--workers 2] [--runs 3]

PROJECT is a project, with a DVC cache of its own, in which `dvc repro start` is done and the members are not. It is
copied for each run. Both ways train and embed all its members, so many at a time, one thread each. Runs alternate. CPU
seconds are of all processes that a run started: they are in a control group of their own, and in a namespace, which
ends what is left (as root). Ray does not wait for its processes, so nobody else is told what they used.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dvc.utils.serialize import modify_yaml

from flukeprint.cluster.members import MEMBER_STAGES


def main() -> None:
    """Measure, and print each run and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"by hand": [], "by ray": []}
    for number in range(args.runs):
        for way, results in found.items():
            results.append(measured(args.project, way, args.workers))
            print(f"run {number + 1}, {way}: {results[-1][0]:.1f} s, {results[-1][1]:.1f} CPU s", flush=True)
    hand, ray = ([statistics.median(column) for column in zip(*results, strict=True)] for results in found.values())
    for name, one, other in zip(("wall", "CPU"), hand, ray, strict=True):
        print(f"{name}: by hand {one:.1f} s, by ray {other:.1f} s: {other / one:.3f} times, {other - one:+.1f} s")


def measured(project: Path, way: str, workers: int) -> tuple[float, float]:
    """Return wall and CPU seconds of training and embedding the members of a copy of the project."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(project, Path(folder) / "project", symlinks=True))
        # By DVC's own reader: PyYAML takes the key `on` for true, after which training is no longer the same.
        with modify_yaml(copy / "params.yaml") as content:
            content["runtime"] |= {"threads": 1, "engine": "ray" if way == "by ray" else "local"}
        command = [sys.executable, "-m", "flukeprint.cli", "members"]
        shell = shlex.join(command) if way == "by ray" else by_hand(content["ensemble"]["members"], workers)
        return in_a_group(shell, copy)


def by_hand(members: list[str], workers: int) -> str:
    """Return a shell's command that lets DVC do so many members at a time."""
    stages = " && ".join(f"dvc --wait-for-lock repro -q -s {stage}@{{}}" for stage in MEMBER_STAGES)
    return f"dvc repro -q start && printf '%s\\n' {' '.join(members)} | xargs -P {workers} -I{{}} sh -c '{stages}'"


def in_a_group(shell: str, folder: Path) -> tuple[float, float]:
    """Run a shell's command in a folder, and return wall and CPU seconds of it and of all that it started."""
    group = Path(tempfile.mkdtemp(prefix="flukeprint-", dir=groups()))
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", f"--wd={folder}", "bash", "-c", f"{shell}; exit $?"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *namespace]
    started = time.monotonic()
    code = subprocess.call(command, env=os.environ | {"PATH": path, "PYTHONPATH": str(folder)})
    wall = time.monotonic() - started
    used = dict(line.split() for line in (group / "cpu.stat").read_text(encoding="ascii").splitlines())
    group.rmdir()
    if code:
        sys.exit(f"{shell} failed")
    return wall, int(used["usage_usec"]) / 1e6


def groups() -> str:
    """Return where the kernel's control groups, of version 2, are mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    return next(path for _, path, kind, *_ in mounts if kind == "cgroup2")


if __name__ == "__main__":
    main()
