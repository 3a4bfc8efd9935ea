"""Processes end together: forks of this one, with queues in place of torch's process group."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import SimpleNamespace

import pytest

from flukeprint.core import peers
from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError

NUMBER = 3
LONG = 60  # seconds that nobody waits to the end
Work = Callable[[], object]


def nothing() -> None:
    pass


def wait() -> None:
    time.sleep(LONG)


def wait_on() -> None:
    """As a library that no signal ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(LONG)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse() -> None:
    raise FlukeprintError("no such whale")


def fail_because_of_the_other() -> None:
    time.sleep(0.5)
    raise RuntimeError("Connection closed by peer")


@pytest.fixture
def ends(tmp_path, monkeypatch) -> Callable[..., list[tuple[int, str]]]:
    """Give what runs a function in each of three processes and returns how each ended, and what it said."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr(peers, "_OWN_FAULT", 0.3)
    monkeypatch.setattr(peers, "_LAST", 0.6)
    forking = multiprocessing.get_context("fork")

    def run(*works: Work) -> list[tuple[int, str]]:
        told, barrier = forking.SimpleQueue(), forking.Barrier(NUMBER)
        files = [tmp_path / str(rank) for rank in range(NUMBER)]
        starts = [partial(take_part, *each, told, barrier) for each in zip(range(NUMBER), works, files, strict=True)]
        processes = [forking.Process(target=exit_cleanly, args=(start,)) for start in starts]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LONG / 2)
        codes = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        return [(code, file.read_text()) for code, file in zip(codes, files, strict=True)]

    return run


def take_part(rank: int, work: Work, stderr: Path, told: SimpleQueue, barrier: Barrier) -> None:
    """Do the work of one process; what it says goes to a file."""

    def broadcast(values: list) -> list:
        for _ in range(0 if rank else NUMBER - 1):
            told.put(values)
        return told.get() if rank else values

    os.dup2(os.open(stderr, os.O_CREAT | os.O_WRONLY), 2)
    sys.stderr = os.fdopen(2, "w")
    for name in ("accelerate", "accelerate.utils"):  # without torch
        sys.modules[name] = SimpleNamespace(broadcast_object_list=broadcast)
    with peers.watching(SimpleNamespace(process_index=rank, num_processes=NUMBER, wait_for_everyone=barrier.wait)):
        work()


def test_all_are_done_when_the_last_one_is(ends):
    assert ends(nothing, lambda: time.sleep(0.3), nothing) == [(0, "")] * NUMBER


@pytest.mark.parametrize("killed", [0, 2])
def test_a_killed_process_ends_the_others_with_its_number(ends, killed):
    works = [wait] * NUMBER
    works[killed] = be_killed
    found = ends(*works)
    assert found.pop(killed) == (-signal.SIGKILL, "")
    for code, said in found:
        assert code == 1
        assert said.startswith(f"error: process {killed} of 3 ended, or its machine cannot be reached")
        assert said.count("\n") == 1


def test_what_one_says_all_say(ends):
    own, *others = reversed(ends(wait, wait, refuse))
    assert own == (1, "error: no such whale\n")
    assert others == [(1, "error: process 2: no such whale\n")] * 2


def test_who_cannot_be_interrupted_ends_too(ends):
    found = ends(wait_on, be_killed, wait)
    assert [code for code, _ in found] == [1, -signal.SIGKILL, 1]
    assert "process 1 of 3 ended" in found[0][1]


def test_an_error_that_follows_from_another_end_is_not_shown(ends):
    found = ends(fail_because_of_the_other, be_killed, fail_because_of_the_other)
    assert all("process 1 of 3 ended" in found[rank][1] for rank in (0, 2))
    assert not any("Traceback" in said or "peer" in said for _, said in found)


def test_a_defect_of_its_own_is_shown_and_ends_the_others(ends):
    found = ends(wait, fail_because_of_the_other, wait)
    assert "RuntimeError: Connection closed by peer" in found[1][1]
    assert [code for code, _ in found] == [1, 1, 1]


def test_what_is_heard_is_safe_to_print():
    one, other = socket.socketpair()
    with one, other:
        peers._say([one], "no \x1b[2Jwhale\nhere")
        assert peers._heard(other) == "no ?[2Jwhale\nhere"


def test_strangers_are_not_counted():
    token = bytes(range(16))
    with socket.create_server(("127.0.0.1", 0)) as server:
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", token + (7).to_bytes(4)):
            with socket.create_connection(server.getsockname()) as line:
                line.sendall(greeting)
        [(rank, line)] = peers._accepted(server, token, 1).items()
    assert rank == 7
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    line.close()
