"""Two machines made of namespaces on one: a network of their own between them, and separate file trees.

Each has its own network, file tree, home, processes and host name, which nobody can look up. What runs on a machine
ends with it; the machines end with the process that made them, however that ends.

    with two_machines(tmp_path) as (one, other):
        copy_project(one.project)
        server = one.popen("python", "-m", "http.server", "--bind", one.address)
        other.run("curl", f"http://{one.address}:8000")
        one.stop()
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
# Where a machine finds its own folder: a short name, for the sake of Unix sockets, of which no other machine knows
# what is behind it.
HERE = Path("/mnt")
# Seconds.
_LONGEST = 300
_KINDS = ("--net", "--mount", "--uts", "--ipc", "--pid")
# The folder of both machines is hidden under the name that it has outside. As process 1, bash waits for orphans.
_START = """
set -e
hostname "$1"
mount --bind "$2" "$3"
mount -t tmpfs none "$4"
mount -t tmpfs none /dev/shm
mount -t sysfs none /sys
echo ready
read -r _ || true
"""


@dataclass(frozen=True)
class Machine:
    """One of the two: its address, its folder as seen from outside, and process 1 of its own, which ends it all."""

    name: str
    address: str
    folder: Path
    init: subprocess.Popen[str]
    pid: int

    @property
    def project(self) -> Path:
        """Where its commands run, as seen from outside."""
        return self.folder / "project"

    def popen(self, *command: str, environment: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command there; stdout and stderr together are a pipe of text, unless `options` say otherwise.

        What is started is `nsenter`, whose child the command is: signals go to `processes`.
        """
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(
            [*_entering(self.pid), f"--wdns={HERE / 'project'}", *command],
            env=self.environment() | (environment or {}),
            **(streams | options),
        )

    def run(self, *command: str, ok: bool = True, environment: dict[str, str] | None = None) -> str:
        """Run a command there to its end and return what it printed; AssertionError where it ends as not expected."""
        process = self.popen(*command, environment=environment)
        try:
            output, _ = process.communicate(timeout=_LONGEST)
        finally:
            process.kill()
        assert (process.returncode == 0) == ok, output
        return output

    def processes(self, word: str = "") -> list[psutil.Process]:
        """Return its living processes with a word in their command lines, as seen from outside; not process 1."""
        space, found = Path(f"/proc/{self.pid}/ns/pid").readlink(), []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if Path(f"/proc/{process.pid}/ns/pid").readlink() == space and process.pid != self.pid:
                    alive = process.status() != psutil.STATUS_ZOMBIE
                    found += [process] if alive and any(word in part for part in process.cmdline()) else []
        return found

    def environment(self) -> dict[str, str]:
        """Return the environment of its commands: the one here, but for folders, and nothing of a launcher."""
        own = {"HOME": HERE / "home", "TMPDIR": HERE / "tmp", "PYTHONPATH": HERE / "project"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {key: str(value) for key, value in own.items()} | {"PATH": path}

    def stop(self) -> None:
        """Let the machine die, as by a power cut: the kernel kills every process there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, 9)
        self.init.stdin.close()
        self.init.stdout.close()
        self.init.wait()


@contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Yield two machines with empty project folders, joined by a cable: 10.77.0.1 and 10.77.0.2 on `fluke0`."""
    machines: list[Machine] = []
    try:
        for number, name in enumerate(("fluke-one", "fluke-other"), 1):
            machines.append(_start(name, f"10.77.0.{number}", folder, machines[0].pid if machines else None))
        one, other = machines
        _within(one, "ip", "link", "add", "fluke0", "type", "veth", "peer", "name", "fluke0", "netns", str(other.pid))
        for machine in machines:
            _within(machine, "ip", "address", "add", f"{machine.address}/24", "dev", "fluke0")
            for interface in ("lo", "fluke0"):
                _within(machine, "ip", "link", "set", interface, "up")
        yield one, other
    finally:
        for machine in machines:
            machine.stop()


def why_not() -> str:
    """Return why there cannot be such machines here; nothing where there can."""
    if missing := [name for name in ("unshare", "nsenter", "ip", "bash") if shutil.which(name) is None]:
        return f"no {', '.join(missing)} here"
    command = [*_unsharing(None), "sh", "-c", "mount -t sysfs none /sys && ip link add left type veth peer name right"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


def copy_project(target: Path, source: Path = ROOT) -> Path:
    """Copy what git would have of a checkout, committed or not: no outputs, no .git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    return target


def _start(name: str, address: str, folder: Path, first: int | None) -> Machine:
    """Start process 1 of a machine; it ends when its standard input does, with the process that holds the other end."""
    own = folder / name
    for each in ("project", "home", "tmp"):
        (own / each).mkdir(parents=True)
    init = subprocess.Popen(
        [*_unsharing(first), "bash", "-c", _START, "bash", name, str(own), str(HERE), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # some versions of unshare complain at their end
        text=True,
    )
    assert init.stdout.readline() == "ready\n"
    [child] = psutil.Process(init.pid).children()
    return Machine(name, address, own, init, child.pid)


def _unsharing(first: int | None) -> list[str]:
    """Return what runs a command as process 1 of new namespaces; without root's rights, as root of a user namespace.

    That one is common to both machines: the second enters that of the `first`.
    """
    users: list[str] = []
    if os.geteuid() != 0 and first is None:
        users = ["--user", "--map-root-user"]
    enter = ["nsenter", f"--target={first}", "--user", "--preserve-credentials"]
    before = enter if os.geteuid() != 0 and first is not None else []
    return [*before, "unshare", *users, *_KINDS, "--fork", "--mount-proc"]


def _entering(pid: int, kinds: tuple[str, ...] = _KINDS) -> list[str]:
    """Return what runs a command in a machine's namespaces."""
    users = ["--user", "--preserve-credentials"] if os.geteuid() != 0 else []
    return ["nsenter", f"--target={pid}", *users, *kinds]


def _within(machine: Machine, *command: str) -> None:
    """Set up a machine's network, by our own file tree and process numbers."""
    subprocess.run([*_entering(machine.pid, ("--net",)), *command], check=True)
