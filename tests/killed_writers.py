"""Writers killed before each of their calls of the file system: what is left, and what the next call makes of it.

Each kill is of a fork, so the writers must not need threads that ran before. The calls are those that Python audits:
files opened, renamed, removed and locked, folders made and removed; and the exchange of two folders. Writers of many
files are killed before every few calls only, and before each of them where EVERY_KILL is set.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from flukeprint.core import replacement

Action = Callable[[], object]
_CALLS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock", "exchange")
_WRITES = os.O_WRONLY | os.O_RDWR
_TEMPORARY = re.compile(r"\..*\.(tmp|old)")
SOME, FEW = (1, 1) if "EVERY_KILL" in os.environ else (8, 20)
# Seconds; a writer that hangs is killed by SIGALRM, which is no kill of ours.
_LONGEST = 100


class Killed:
    """Runs of one writer in copies of a folder, each killed before another call."""

    def __init__(self, start: Path, write: Action, state: Callable[[], Any], again: Action | None = None) -> None:
        """Prepare: `write` writes in the current folder, a copy of `start`; `state` is what a reader finds there.

        `again` is the next call, `write` itself if it is left out.
        """
        self.start, self.write, self.state, self.again = start, write, state, again or write

    def everywhere(self, work: Path, step: int = 1) -> tuple[int, list[tuple[Any, Any]]]:
        """Kill before every `step`-th call; return how many kills there were, and the pairs of states that were found.

        A pair is what there was after the kill, and after the next call. A folder under way or moved aside that is
        still there then, or a next call that fails, is an AssertionError.
        """
        found: list[tuple[Any, Any]] = []
        for kills, number in enumerate(count(0, step)):
            folder = work / str(number)
            shutil.copytree(self.start, folder, symlinks=True)
            killed = _fork(folder, self.write, number)
            after_kill = self._state_in(folder)
            assert killed or not litter(folder)
            _fork(folder, self.again, None)
            found.append((after_kill, self._state_in(folder)))
            assert not litter(folder), number
            shutil.rmtree(folder)
            if not killed:
                return kills, found
        raise AssertionError

    def _state_in(self, folder: Path) -> Any:
        here = Path.cwd()
        os.chdir(folder)
        try:
            return self.state()
        finally:
            os.chdir(here)


def litter(folder: Path) -> list[str]:
    """Return what is there under temporary names."""
    return [path.name for path in folder.rglob(".*") if path.suffix in (".tmp", ".old")]


def _fork(folder: Path, action: Action, kill_before: int | None) -> bool:
    """Run in a process of its own, in `folder`; tell whether it was killed. An exception there is an AssertionError."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            signal.alarm(_LONGEST)
            os.chdir(folder)
            if kill_before is not None:
                _kill_before(kill_before, folder)
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing of this process may go on in pytest
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _kill_before(number: int, folder: Path) -> None:
    """Let this process be killed before its call of that number, and refuse to write but under temporary names."""
    calls = count()
    exchange = replacement._exchange

    def audited(one: Path, other: Path) -> bool:
        sys.audit("exchange", str(one))
        return exchange(one, other)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CALLS and _is_inside(arguments[0], folder):
            if event == "open" and (arguments[2] & _WRITES):
                parts = Path(os.fsdecode(arguments[0])).parts
                assert any(_TEMPORARY.fullmatch(part) for part in parts), arguments[0]
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)

    replacement._exchange = audited
    sys.addaudithook(hook)


def _is_inside(path: Any, folder: Path) -> bool:
    """Tell whether a call is about a file of the writer; one by a descriptor is."""
    return isinstance(path, int) or (folder / os.fsdecode(path)).is_relative_to(folder)
