"""Ray, which carries work to other machines: how it is reached, what a task may ask for, photos spread by it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_bytes
from flukeprint.core.replacement import scratch_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Tasks that are under way or wait their turn, for each that can run: more would fill the memory with photos.
_AHEAD = 2
# Of the files that one task reads; more than that stays here.
_MOST_BYTES = 1 << 29
_PATIENCE = 30  # seconds, for an answer from the address of Ray
# Of the environment of a stage that a worker runs: it does the work itself.
IN_TASK = "FLUKEPRINT_IN_TASK"
# Our packages, which lie side by side: workers get them from there.
CODE = ("flukeprint", "stages")
Content: TypeAlias = "NDArray[np.uint8]"  # of a file
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Cluster:
    """Machines that Ray joins at `address` (none: this one, by a Ray of its own), and what one task there may use."""

    address: str | None
    threads: int = 1
    processes: int = 1
    device: str = "cpu"
    option: str = ""  # of the command that asks for it; empty: params.yaml does

    @property
    def without(self) -> str:
        """What to do to have the work done here."""
        return f"leave {self.option} out" if self.option else "set runtime.engine to local"

    def need(self) -> dict[str, int]:
        """Return what Ray has to reserve for a task; a FlukeprintError where no machine has that much."""
        import ray

        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = any(machine.get("GPU") for machine in machines)
        on_gpu = self.device == "cuda" or (self.device == "auto" and gpus)
        kind, number = ("GPU", self.processes) if on_gpu else ("CPU", self.threads * self.processes)
        most = max((int(machine.get(kind, 0)) for machine in machines), default=0)
        if most < number:
            asked = "runtime.processes" if on_gpu else "runtime.threads x runtime.processes"
            asked, lower = ("", "L") if self.option else (f" ({asked} in params.yaml)", "Lower it, or l")
            raise FlukeprintError(
                f"a task asks for {number} {kind}s{asked}, but no machine that Ray knows has more than {most}. "
                f"{lower}et a larger machine join (`ray start --address=...`)."
            )
        return {"num_cpus": 0, "num_gpus": number} if on_gpu else {"num_cpus": number}


@contextmanager
def connected(cluster: Cluster) -> Iterator[None]:
    """Join the cluster, or start Ray here where it has no address; workers get the code that runs here."""
    # Nobody is told that Ray is used; on a busy machine its processes may take a minute to start.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
    # Its workers would have niceness 15, and of a busy machine next to nothing: what they do is the command's own work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ModuleNotFoundError:
        asked = f"{cluster.option} asks for Ray" if cluster.option else "runtime.engine in params.yaml is 'ray'"
        raise FlukeprintError(
            f"{asked}, but the package ray is not installed here. Install it, "
            f"`pip install 'flukeprint[cluster]'`, or {cluster.without}."
        ) from None
    # Ray puts its own in place of it, after which SIGTERM has another exit code and no tidying up.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with tempfile.TemporaryDirectory() as code:
            _join(cluster, Path(code))
        signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()


def _join(cluster: Cluster, code: Path) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    # Else what it says of a lost worker, whose task it begins again, goes to standard output, among answers.
    ray._private.worker._worker_logs_enabled = False
    try:
        if cluster.address is None:
            ray.init("local", include_dashboard=False, **quiet)
            return
        _refuse_several_words(sys.executable)
        if cluster.address != "auto":
            _look_for(cluster.address)
        # A folder of its own, so that no worker imports what lies under the same path on its machine.
        for name in CODE:
            shutil.copytree(_ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
        ray.init(cluster.address, runtime_env={"working_dir": str(code)}, **quiet)
    except Exception as error:  # noqa: BLE001 - Ray raises plain ones too
        alone = "set runtime.address to null, which starts one for the time of the command"
        raise FlukeprintError(
            f"no Ray that can be used at {cluster.option or 'runtime.address'} {cluster.address!r} "
            f"({_first_line(error)}). Start one on this machine (`ray start --head`, or `ray start "
            f"--address=HOST:PORT` to join another's), or {cluster.without if cluster.option else alone}."
        ) from None


def _refuse_several_words(program: str) -> None:
    """Refuse a Python that a shell, by which Ray starts workers, would not find: their tasks would wait for ever."""
    if shlex.quote(program) != program:
        raise ConnectionError(f"Ray starts no worker by {program!r}, whose path has a blank: move the project")


def _look_for(address: str) -> None:
    """Raise a ConnectionError where nobody listens: Ray would go on asking for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise ConnectionError("expected auto or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(str(error)) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def result_of(reference: Any) -> Any:
    """Wait for a task's result; what is our error there is ours here, and a worker that was lost a LostWorkerError."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FlukeprintError | LostWorkerError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise LostWorkerError(_first_line(error)) from None


class LostWorkerError(Exception):
    """A task's process or its whole machine ended before the task did."""


# --- the same packages everywhere ---


@cache
def packages() -> dict[str, str]:
    """Return the versions of what the pipeline is made of, as they are installed here; of what is not, none."""
    from importlib.metadata import PackageNotFoundError, requires, version

    # What extras other than the pipeline's ask for changes no result.
    wanted = [line for line in requires("flukeprint") or () if "extra ==" not in line or 'extra == "pipeline"' in line]
    found = {}
    for line in wanted:
        name = _name_of(line)
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _name_of(requirement: str) -> str:
    """Return the distribution that a requirement (`numpy>=2`) names."""
    return next(part for part in requirement.replace(">", "=").replace(";", "=").replace("[", "=").split("=") if part)


def refuse_other_packages(expected: Mapping[str, str]) -> None:
    """Make sure that this worker has the packages of the machine that sent the task: others give other results."""
    differing = {name: found for name in expected if (found := packages().get(name)) != expected[name]}
    if differing:
        listed = ", ".join(f"{name} {found or 'none'} (not {expected[name]})" for name, found in differing.items())
        raise FlukeprintError(
            f"the worker {os.uname().nodename} has other packages than the machine that sent it work: {listed}. "
            "Build the same environment there (`make env` in the same commit), and start its Ray from it."
        )


# --- photos, spread ---


@contextmanager
def ray_map(cluster: Cluster) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield what `worker_processes.spread_map` does, with the cluster's machines as the processes."""
    with connected(cluster):
        try:
            yield _Spread(cluster.need()).map
        except LostWorkerError as error:
            raise FlukeprintError(
                f"a worker ended several times before its task did, probably for lack of memory ({error}). "
                f"Give its machine more, or {cluster.without}."
            ) from None


@dataclass(frozen=True)
class _Spread:
    need: dict[str, int]  # of one task

    def map(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        chunk: int = 1,
        files: Callable[[Any], Iterable[Path]] = lambda _: (),
    ) -> Iterator[Any]:
        """Return the results in order; tasks that can run start at once, not when the first result is asked for."""
        import ray

        need = self.need
        run = ray.remote(_run_chunk).options(**need)
        known = ray.put((function, packages()))
        kind = "GPU" if "num_gpus" in need else "CPU"
        most = _AHEAD * int(ray.cluster_resources().get(kind, 1) // (need.get("num_gpus") or need["num_cpus"]) or 1)

        def begun(batch: Sequence[Any]) -> Any:
            contents = contents_of(path for item in batch for path in files(item))
            return [function(item) for item in batch] if contents is None else run.remote(known, batch, contents)

        batches = _batches(iter(items), chunk)
        waiting = deque(map(begun, islice(batches, most)))
        return self._results(waiting, map(begun, batches))

    def _results(self, waiting: deque[Any], others: Iterator[Any]) -> Iterator[Any]:
        while waiting:
            done = waiting.popleft()
            yield from done if isinstance(done, list) else result_of(done)
            waiting.extend(islice(others, 1))


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch


def contents_of(paths: Iterable[Path]) -> dict[str, Content] | None:
    """Return the bytes of files by their paths, to be laid out elsewhere; None where they have to be read here.

    That is what is missing, no plain file inside the current folder, cannot be read, or would fill the memory: whoever
    reads it here says what is wrong with it.
    """
    paths = list(paths)
    if any(path.is_absolute() or ".." in path.parts for path in paths):
        return None
    found = buffers_of(paths)
    return None if found is None else dict(zip(map(str, paths), found, strict=True))


def buffers_of(paths: Iterable[Path]) -> list[Content] | None:
    """Return the bytes of files; None where one is no plain file, cannot be read, or all would fill the memory.

    They are arrays, which Ray passes on as they lie: bytes it copies several times.
    """
    import numpy as np

    contents: list[Content] = []
    room = _MOST_BYTES
    for path in paths:
        try:
            found = path.lstat()
            room -= found.st_size
            if not stat.S_ISREG(found.st_mode) or room < 0:
                return None
            contents.append(np.frombuffer(read_bytes(path, "a photo"), np.uint8))
        except (OSError, ValueError, FlukeprintError):
            return None
    return contents


def _run_chunk(
    known: tuple[Callable[[Any], Any], Mapping[str, str]], items: list[Any], files: dict[str, Content]
) -> Any:
    """Run one task's share in a worker, in a folder in which the files lie as they do where they come from."""
    function, expected = known
    refuse_other_packages(expected)
    with scratch_folder(Path(tempfile.gettempdir()) / "flukeprint-photos") as folder, chdir(folder):
        lay_out(files)
        return [function(item) for item in items]


def lay_out(files: Mapping[str, bytes | Content]) -> None:
    """Write files below the current folder: in a worker, that of its task."""
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.data)
