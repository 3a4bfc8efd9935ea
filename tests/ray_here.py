"""A Ray of two workers on this machine, for tests, with processes or without."""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from flukeprint.core import ray_cluster

# For whatever starts Ray, or joins one: small, patient on a busy machine, and nobody else's.
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "200000000",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
}


# The raylet waits but 15 seconds for its agents to tell it their ports, unless they are given.
PORTS = (
    "--runtime-env-agent-port",
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--metrics-export-port",
)


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens at."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def skip_where_no_worker_starts() -> None:
    """Skip what joins a Ray from a path that a shell takes apart, from which it starts no worker."""
    if shlex.quote(sys.executable) != sys.executable:
        pytest.skip("Ray starts no worker from an environment whose path has a blank")


@contextmanager
def ray_here(folder: Path) -> Iterator[str]:
    """Yield the address of a Ray that ends with the block. `folder` takes its files; Unix sockets need a short name."""
    from ray.util import get_node_ip_address

    skip_where_no_worker_starts()
    host = get_node_ip_address()  # Ray puts it in place of 127.0.0.1, where it would not listen
    port, *others = free_ports(1 + len(PORTS))
    command = ["ray", "start", "--head", "--block", f"--node-ip-address={host}", f"--port={port}", "--num-cpus=2"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += [f"{option}={other}" for option, other in zip(PORTS, others, strict=True)]
    with subprocess.Popen(
        command, env=os.environ | RAY, start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as ray:
        try:
            assert any("Ray runtime started" in line for line in ray.stdout), "Ray did not start"
            yield f"{host}:{port}"
        finally:
            os.killpg(ray.pid, signal.SIGTERM)
            ray.wait()


def ray_in_this_process(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> list[str]:
    """Let `ray_map` find a Ray of two CPUs without processes; arguments are pickled. Return tasks as they begin."""
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    begun: list[str] = []

    class Task:
        def __init__(self, function: Callable[..., Any]) -> None:
            self.function = function

        def options(self, **_: Any) -> "Task":
            return self

        def remote(self, *arguments: Any) -> Any:
            begun.append(self.function.__name__)
            return self.function(*ray.cloudpickle.loads(ray.cloudpickle.dumps(arguments)))

    temporary.mkdir()
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "remote", Task)
    for name in ("put", "get"):
        monkeypatch.setattr(ray, name, lambda value: value)
    monkeypatch.setattr(ray_cluster, "connected", lambda _: nullcontext())
    monkeypatch.setattr(ray_cluster.tempfile, "gettempdir", lambda: str(temporary))
    return begun
