"""The machine: device, precision, processes, threads. Nothing here may change what is computed."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

from flukeprint.core.errors import FlukeprintError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from flukeprint.core.params import RuntimeParams

# Options of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def open_accelerator(runtime: RuntimeParams) -> Accelerator:
    """Return Accelerate's handle on device, precision and processes, with deterministic kernels."""
    import torch
    from accelerate import Accelerator

    device = _chosen_device(runtime.device)
    _keep_freed_memory()
    torch.set_num_threads(runtime.threads)
    if device.type == "cuda":
        # CPU kernels are deterministic as they are, and the call imports torch's compiler, which takes seconds.
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    if device.type == "cuda" and device.index is not None and not _is_worker():
        torch.cuda.set_device(device)
    bf16 = runtime.precision == "bf16" or (runtime.precision == "auto" and device.type == "cuda")
    return Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if bf16 else "no")


def _keep_freed_memory() -> None:
    """Let glibc keep large freed blocks for the next step instead of returning them to the kernel.

    Each step frees and asks for the same activations again; faulting them in anew took a quarter of the
    CPU time of fine-tuning (docs/speed.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(option, 1 << 30)


def _chosen_device(name: str) -> torch.device:
    """Return the device called `name`, or the best there is for `auto`."""
    import torch

    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in present))
    if name not in present:
        raise FlukeprintError(
            f"runtime.device in params.yaml is {name!r}, but this machine has {', '.join(present)}. "
            "Set it to one of these, or to auto."
        )
    return torch.device(name)


def _is_worker() -> bool:
    """Tell whether a launcher (torchrun, accelerate launch) started this process."""
    return "LOCAL_RANK" in os.environ


def relaunched(runtime: RuntimeParams, module: str, *arguments: str) -> bool:
    """Run `python -m module arguments` in `runtime.processes` processes; False if this process is to do the work.

    `accelerate launch -m module arguments`, also over several machines, does the same by hand. If a process fails, so
    does this one: the message is already on the terminal.
    """
    if runtime.processes == 1 or _is_worker():
        return False
    launcher = [sys.executable, "-m", "flukeprint.core.launcher", "--standalone", "--nproc-per-node"]
    command = [*launcher, str(runtime.processes), "-m", module, *arguments]
    with subprocess.Popen(command) as launched:  # noqa: S603 - our own module
        try:
            status = launched.wait()
        except SystemExit:  # SIGTERM, which came to this process alone; Ctrl+C comes to all
            launched.terminate()
            raise
    if status != 0:
        sys.exit(status)
    return True


def derived_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for one purpose (a member, a stage, an epoch), independent of all others."""
    return random.Random("/".join(str(part) for part in (seed, *names))).getrandbits(63)
