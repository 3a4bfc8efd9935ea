"""One reading of a hostile input, in a forked process with a watchdog: how it ended, how long it took, what it took."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from flukeprint.core.errors import FlukeprintError

# What no input of under 1 MB may exceed.
SECONDS, MEGABYTES = 20, 1024
_STARVED = 30  # times as long, which a process of a very busy machine may take
_GUARD = 6 << 30  # bytes that a runaway may take before the system refuses it more


class Watched(NamedTuple):
    outcome: str  # accepted, refused, traceback, hang, over (of memory), crash
    says: str = ""
    megabytes: float = 0  # more than before
    seconds: float = 0


def watched(read: Callable[[], object], seconds: float = SECONDS, megabytes: float = MEGABYTES) -> Watched:
    """Call `read` in a fork of this process, which should have no threads of its own."""
    [found] = watched_each([read], seconds, megabytes)
    return found


def watched_each(
    reads: Sequence[Callable[[], object]], seconds: float = SECONDS, megabytes: float = MEGABYTES
) -> Iterator[Watched]:
    """Call one after another in a fork, and in a new one after each that hangs or crashes."""
    done = 0
    while done < len(reads):
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            _answer(reads[done:], theirs)
        os.close(theirs)
        read = bytearray()
        try:
            with open(ours, "rb", buffering=0) as pipe:  # noqa: PTH123
                while done < len(reads):
                    start = time.monotonic()
                    said = _line(pipe, read, child, seconds)
                    done += 1
                    yield _judged(said, time.monotonic() - start, megabytes)
                    if not said:
                        break
        finally:  # also where the caller wants no more answers
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _judged(said: bytes | None, seconds: float, megabytes: float) -> Watched:
    if not said:
        return Watched("hang" if said is None else "crash", seconds=seconds)
    outcome, says, used = json.loads(said)
    return Watched(outcome if used <= megabytes else "over", says, used, seconds)


def _line(pipe: IO[bytes], read: bytearray, child: int, seconds: float) -> bytes | None:
    """Return the next line that the child writes, nothing if it has gone; None where that takes too long.

    Its own time counts where others take the processor; but it may not sleep for ever.
    """
    start, used = time.monotonic(), _processor_seconds(child)
    while b"\n" not in read:
        if not select.select([pipe], [], [], seconds / 10)[0]:
            waited, worked = time.monotonic() - start, _processor_seconds(child) - used
            if waited > seconds and (worked > 0.9 * seconds or waited > _STARVED * seconds):
                return None
            continue
        part = pipe.read(1 << 16)
        if not part:
            return b""
        read += part
    line, _, read[:] = bytes(read).partition(b"\n")
    return line


def _processor_seconds(process: int) -> float:
    """Return the processor time of a process that is there, or not waited for yet."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _answer(reads: Sequence[Callable[[], object]], pipe: int) -> None:
    """Say of each how it ended, in a line, before the next one starts; never return."""
    faulthandler.disable()  # a crash is told by the watchdog
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.dup2(null, sys.stderr.fileno())
    resource.setrlimit(resource.RLIMIT_DATA, (_GUARD, _GUARD))
    for read in reads:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _peak()
        outcome, says = _outcome(read)
        os.write(pipe, json.dumps([outcome, says, _peak() - before]).encode() + b"\n")
    os._exit(0)


def _outcome(read: Callable[[], object]) -> tuple[str, str]:
    try:
        read()
    except FlukeprintError as error:
        return "refused", str(error)[:3000]
    except BaseException:  # noqa: BLE001 - that is what we are after
        return "traceback", traceback.format_exc()[-3000:]
    return "accepted", ""


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
