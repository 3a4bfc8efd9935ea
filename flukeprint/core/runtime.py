"""The machine: device, precision, processes, threads.

They change no algorithm, no order of photos and no random draw (but those within a network, as of dropout, which each
process makes for its own photos), but they change rounding, which training amplifies. So `runtime_record` is written
beside a result.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import random
import signal
import socket
import sys
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from flukeprint.core.errors import FlukeprintError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from flukeprint.core.params import RuntimeParams

# Variables of torchrun: how many machines there are, and the address of the first.
_NODES, _FIRST = "PET_NNODES", "PET_MASTER_ADDR"
# That a process waits for another one: to come, or to get as far.
_LONGEST_WAIT = timedelta(minutes=10)
# Options of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def open_accelerator(runtime: RuntimeParams, *, several: bool = False) -> Accelerator:
    """Return Accelerate's handle on device, precision and processes, with deterministic kernels.

    What can be spread over `several` processes has as many as were asked for; all else refuses to be launched in more
    than one.
    """
    import torch

    device = _chosen_device(runtime.device)
    _keep_freed_memory()
    if device.type == "cuda":
        # CPU kernels are deterministic as they are, and the call imports torch's compiler, which takes seconds.
        torch.use_deterministic_algorithms(True)
        # That also writes NaN into all memory that is asked for, once a result: only what reads it early would differ.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
    if device.type == "cuda" and device.index is not None and not _is_worker():
        torch.cuda.set_device(device)
    bf16 = runtime.precision == "bf16" or (runtime.precision == "auto" and device.type == "cuda")
    alone = _several_asked_but_one_started()
    accelerator = _meet(cpu=device.type == "cpu", mixed_precision="bf16" if bf16 else "no")
    # Only now: where processes join without a launcher, Accelerate sets a number of its own.
    torch.set_num_threads(runtime.threads)
    _refuse_other_number(runtime, accelerator.num_processes, several=several, alone=alone)
    if torch.distributed.is_initialized():
        # Left to Python's end, its threads may abort a process whose work is done.
        atexit.register(torch.distributed.destroy_process_group)
    return accelerator


def _meet(**options: Any) -> Accelerator:
    """Open the handle, for which several processes have to meet; an error says what was tried."""
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    _name_interface()
    try:
        return Accelerator(**options, kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)])
    except RuntimeError as error:
        if not _is_worker():
            raise
        where, reason = "{MASTER_ADDR}:{MASTER_PORT}".format(**os.environ), str(error).partition("\n")[0]
        raise FlukeprintError(
            f"this process did not meet the others at {where} ({reason}). Look at what they say; if nothing, name the "
            "network interface that leads to them on each machine in GLOO_SOCKET_IFNAME, which is "
            f"{os.environ.get('GLOO_SOCKET_IFNAME', 'not set')}."
        ) from None


def _name_interface() -> None:
    """Tell gloo by which network interface processes on other machines are reached, unless the user has.

    It would take that to which the machine's own name leads, which often is the loopback.
    """
    import psutil

    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    if one_machine or "MASTER_ADDR" not in os.environ or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    address = own_address()
    if ip_address(address).is_loopback:
        raise FlukeprintError(
            f"MASTER_ADDR is {os.environ['MASTER_ADDR']}, which leads to {address} on this machine, where no other "
            "reaches it. Give its address in your network, or name the interface in GLOO_SOCKET_IFNAME."
        )
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in addresses):
            os.environ["GLOO_SOCKET_IFNAME"] = name


def own_address() -> str:
    """Return this machine's address in the network by which it reaches the processes' meeting point, MASTER_ADDR."""
    host, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    family, kind, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(target)  # which sends nothing
        return str(probe.getsockname()[0])


def _several_asked_but_one_started() -> bool:
    """Tell whether `accelerate launch --num_processes N` ran a single process, as it does without GPUs.

    It then names a meeting point of processes, but does not say how many there are.
    """
    return {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ


def _refuse_other_number(runtime: RuntimeParams, found: int, *, several: bool, alone: bool) -> None:
    """Make sure that as many processes work together as the launcher and params.yaml ask for."""
    command = "torchrun --nproc-per-node N -m stages.<stage> ..."
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if alone or launched != found:
        asked = "several processes were" if alone else f"{launched} processes were"
        raise FlukeprintError(
            f"{asked} asked for, but {found} would work, alone. Launch them with `{command}`, over "
            "machines as docs/pipeline.md says."
        )
    if found > 1 and not several:
        raise FlukeprintError(f"this runs in one process, but {found} were launched. Run it without a launcher.")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", found))
    if _is_worker() and runtime.processes not in (1, here):
        raise FlukeprintError(
            f"runtime.processes in params.yaml is {runtime.processes}, but {here} were launched here. Set it to 1 "
            f"where processes are launched by hand (`{command}`), or run the stage without a launcher."
        )


def runtime_record(accelerator: Accelerator) -> dict[str, str | int]:
    """Return what of the machine the bits of a result depend on, as JSON-able values.

    A processor's or a GPU's model is left out: it changes the last digits too, but also the files in git of everybody
    who runs the same elsewhere.
    """
    import torch

    return {
        "device": accelerator.device.type,
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "fp32",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
    }


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

    With torchrun's own variables (PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR) they join those on other machines, where
    the same is called. `torchrun -m module arguments` does the same by hand. If a process fails, the others are stopped
    and so is this one: the message is already on the terminal. One that was killed left none.
    """
    if _is_worker() or (runtime.processes == 1 and _NODES not in os.environ):
        return False
    from torch.distributed import DistError
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in ("torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    number = str(runtime.processes)
    try:
        # Its entry for the command line reports failures by a traceback.
        torchrun.run(torchrun.parse_args([*_joining(), "--nproc-per-node", number, "-m", module, *arguments]))  # type: ignore[no-untyped-call]
    except DistError as error:
        reason = str(error).partition("\n")[0]
        raise FlukeprintError(f"the first machine, {os.environ.get(_FIRST)}, was not reached ({reason}).") from None
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            sys.exit(failure.exitcode)
        raise FlukeprintError(
            f"process {rank} was killed ({signal.Signals(-failure.exitcode).name}), so the others were "
            "stopped. Where memory is short, lower runtime.processes. Finished epochs are kept: run again to go on."
        ) from None
    return True


def _joining() -> list[str]:
    """Return torchrun's options for the machines that work together: this one, or those that its variables name."""
    if _NODES not in os.environ:
        return ["--standalone"]
    if missing := [name for name in (_FIRST, "PET_NODE_RANK") if name not in os.environ]:
        raise FlukeprintError(f'{_NODES} is set, but {missing[0]} is not: docs/pipeline.md, "Several machines".')
    return []


def derived_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for one purpose (a member, a stage, an epoch), independent of all others."""
    return random.Random("/".join(str(part) for part in (seed, *names))).getrandbits(63)
