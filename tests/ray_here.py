"""A Ray of two workers on this machine, for tests; it ends with the block."""

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# For whatever starts Ray, or joins one: small, patient on a busy machine, and nobody else's.
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "200000000",
    "RAY_raylet_start_wait_time_s": "180",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "180",
    "RAY_agent_register_timeout_ms": "180000",
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


@contextmanager
def ray_here(folder: Path) -> Iterator[str]:
    """Yield its address. `folder` takes its files; Unix sockets need a short name."""
    port, *others = free_ports(1 + len(PORTS))
    command = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += [f"{option}={other}" for option, other in zip(PORTS, others, strict=True)]
    with subprocess.Popen(
        command, env=os.environ | RAY, start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as ray:
        try:
            assert any("Ray runtime started" in line for line in ray.stdout), "Ray did not start"
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(ray.pid, signal.SIGTERM)
            ray.wait()
