"""Processes that hear when another one ends: killed, failed, or on a machine that is gone.

The processes of a training wait for one another in every step, and libraries notice that nobody is there any more after
minutes, or with a traceback. So each keeps a connection to process 0, over which nothing is sent until the end.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import own_address

if TYPE_CHECKING:
    from accelerate import Accelerator

_DONE = "done"
# Seconds: to be met by all others; that a process has to fail by itself, before another's end ends it; to clear up.
_MEETING, _OWN_FAULT, _LAST = 60, 1, 2
# After so many seconds of silence the kernel asks whether the other machine is there, so often, each so much later.
_KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPCNT": 3, "TCP_KEEPINTVL": 1}
_TOKEN = 16  # bytes


@contextmanager
def watching(accelerator: Accelerator) -> Iterator[None]:
    """Let processes end together: all are done, or the first that is not ends every other one, with what it says."""
    peers = _Peers(accelerator)
    said = ""
    try:
        yield
        accelerator.wait_for_everyone()
        said = _DONE
    except FlukeprintError as error:
        said = f"process {accelerator.process_index}: {error}"
        raise
    except Exception:
        # Perhaps only because another process ended. If so, that ends this one meanwhile.
        time.sleep(_OWN_FAULT + _LAST)
        raise
    finally:
        peers.leave(said)


class _Peers:
    """The connections of a process: to process 0, or of that one to all others, each with a thread that listens."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._rank, self._number = accelerator.process_index, accelerator.num_processes
        self._lines = _connect(accelerator)
        self._leaving, self._ended, self._first = threading.Event(), threading.Event(), threading.Lock()
        for rank, line in self._lines.items():
            threading.Thread(target=self._listen, args=(rank, line), daemon=True).start()

    def leave(self, said: str) -> None:
        """Tell all others how this process ends, and listen no longer; where another's end ends it, it is over here."""
        self._leaving.set()
        _say(self._lines.values(), said)
        if self._ended.is_set():
            # What was half-written is cleared up. Python's own end takes seconds, or waits for processes that are gone.
            os._exit(1)

    def _listen(self, rank: int, line: socket.socket) -> None:
        """Wait for the last word of another process, and end this one if that is not done."""
        said = _heard(line)
        if said == _DONE or self._leaving.wait(_OWN_FAULT) or not self._first.acquire(blocking=False):
            return
        text = said or (
            f"process {rank} of {self._number} ended, or its machine cannot be reached, so all were stopped. Finished "
            "epochs are kept: run again, on every machine, to go on."
        )
        if self._rank == 0:
            _say([other for other in self._lines.values() if other is not line], text)
        sys.stderr.write(f"error: {text}\n")
        sys.stderr.flush()
        self._ended.set()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_LAST)
        # It waits in a library for them.
        os._exit(1)


def _say(lines: Collection[socket.socket], text: str) -> None:
    for line in lines:
        with suppress(OSError):  # there is nobody any more
            line.sendall(text.encode())
            line.shutdown(socket.SHUT_WR)


def _heard(line: socket.socket) -> str:
    """Return what is said until the end; nothing where the other process was killed or its machine is gone."""
    heard = b""
    with suppress(OSError):
        while part := line.recv(1 << 12):
            heard += part
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in heard.decode(errors="replace"))


def _connect(accelerator: Accelerator) -> dict[int, socket.socket]:
    """Return this process's connections by the rank of who is at the other end."""
    from accelerate.utils import broadcast_object_list

    if accelerator.process_index != 0:
        address, port, token = broadcast_object_list([None] * 3)
        line = socket.create_connection((address, port), _MEETING)
        line.sendall(token + accelerator.process_index.to_bytes(4))
        return {0: _kept_alive(line)}
    token, address = secrets.token_bytes(_TOKEN), own_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=accelerator.num_processes) as server:
        broadcast_object_list([address, server.getsockname()[1], token])
        server.settimeout(_MEETING)
        return _accepted(server, token, accelerator.num_processes - 1)


def _accepted(server: socket.socket, token: bytes, number: int) -> dict[int, socket.socket]:
    lines: dict[int, socket.socket] = {}
    while len(lines) < number:
        line, _ = server.accept()
        line.settimeout(_MEETING)
        greeting = line.recv(_TOKEN + 4, socket.MSG_WAITALL)
        if greeting[:_TOKEN] == token:  # else it is nobody of ours
            lines[int.from_bytes(greeting[_TOKEN:])] = _kept_alive(line)
    return lines


def _kept_alive(line: socket.socket) -> socket.socket:
    """Let a connection end with an error where the other machine is gone without a word."""
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return line
