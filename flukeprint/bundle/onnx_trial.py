"""ONNX networks are tried in a process of its own, which ends if they take too much: `onnx_trial.py H W PATH...`.

What a graph costs cannot be told from its size: an endless chain of small nodes, or one that makes gigabytes of a few
bytes, is valid ONNX. This module imports neither the library nor torch, so that a trial starts in a moment.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

INPUT, OUTPUT = "photos", "embedding"
# What a network may take for two photos, and for each byte of its file more: weights are copied and rearranged.
_BYTES, _BYTES_PER_BYTE = 1 << 29, 4
_SECONDS, _SECONDS_PER_BYTE = 6.0, 2e-7  # of a processor
_PATIENCE = 10  # times as long by the clock: a busy machine is no fault of the network
_QUIET = 4  # onnxruntime's log level: fatal errors only; the others are raised


def session_of(content: bytes) -> Any:
    """Return an onnxruntime session; a network with other inputs or outputs than ours is a ValueError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    # A core for each batch, several batches at once (Encoder.at_once): cores that share a batch wait for one another.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([(one.name, one.type) for one in part] for part in (session.get_inputs(), session.get_outputs()))
    if (inputs, outputs) != ([(INPUT, "tensor(uint8)")], [(OUTPUT, "tensor(float)")]):
        raise ValueError(f"it takes {inputs} and gives {outputs}, expected uint8 {INPUT} and float {OUTPUT}")
    return session


def fault_of(path: Path, size: tuple[int, int]) -> str | None:
    """Say why a network gives no vectors for photos of `size` (height, width) in px, or return None."""
    length = path.stat().st_size
    command = [sys.executable, "-P", __file__, *map(str, size), str(path)]
    too_long = f"it takes more than {_most_seconds(length)} s for two photos"
    try:
        patience = _PATIENCE * _most_seconds(length)
        done = subprocess.run(command, capture_output=True, timeout=patience, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        return too_long
    if done.returncode == 0:
        return None
    if done.returncode == -getattr(signal, "SIGXCPU", 0):
        return too_long
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1] if said and done.returncode == 1 else f"it takes more than {_most_bytes(length):,} bytes of memory"


def _most_bytes(length: int) -> int:
    return _BYTES + _BYTES_PER_BYTE * length


def _most_seconds(length: int) -> int:
    return round(_SECONDS + _SECONDS_PER_BYTE * length)


def _bound(length: int) -> None:
    """Let the system refuse this process more memory, and end it after its time, where it can."""
    try:
        import resource
    except ImportError:  # Windows: the clock ends it all the same
        return
    for limit, most in ((resource.RLIMIT_DATA, _most_bytes(length)), (resource.RLIMIT_CPU, _most_seconds(length))):
        before = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if before < 0 else min(most, before), before))


def _try(path: Path, size: tuple[int, int]) -> None:
    """Run a network on one photo and on two; it must give a vector of numbers for each."""
    session = session_of(path.read_bytes())
    shapes = []
    for number in (1, 2):
        photos = np.random.default_rng(0).integers(0, 256, (number, 3, *size), dtype=np.uint8)
        [vectors] = session.run([OUTPUT], {INPUT: photos})
        if not np.isfinite(vectors).all():
            raise ValueError("it gives values that are not finite")
        shapes.append(vectors.shape)
    if not all(len(shape) == 2 and shape == (number, shapes[0][-1]) for number, shape in enumerate(shapes, 1)):
        raise ValueError(f"it gives {shapes} for one photo and two, expected a vector for each")


def main() -> None:
    """Try a network; exit with 1 and one line where it is no good, and as the system says where it takes too much."""
    height, width, path = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    _bound(path.stat().st_size)
    try:
        _try(path, (height, width))
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common class but this one
        memory = isinstance(error, MemoryError) or "allocat" in str(error)
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        sys.exit(2 if memory else 1)


if __name__ == "__main__":
    main()
