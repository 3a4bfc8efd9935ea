"""No file of under 1 MB takes more than 1 GiB or 20 s, or ends in a traceback: known ones, and thousands of unknown."""

import json
import mmap
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bombs import ACCEPTED, BOMBS, BUSY
from watched import MEGABYTES, SECONDS, watched

TESTS = Path(__file__).parent
TRIES = 200  # `make fuzz` tries more


@pytest.fixture(scope="module")
def found() -> dict:
    """How reading each bomb ended: in a process without threads, of which others can be forked."""
    return json.loads(_run("bombs.py").stdout)


def _run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TESTS / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_neither_much_memory_nor_long(found, name):
    outcome, says, megabytes, seconds, size = found[name]
    assert size < 1_000_000
    assert outcome == ("accepted" if BOMBS[name][2] == ACCEPTED else "refused"), says
    assert BOMBS[name][2] in says
    assert megabytes < MEGABYTES
    assert seconds < BUSY * SECONDS


@pytest.mark.parametrize("seed", [1])
def test_mutated_files_are_accepted_or_refused(seed):
    done = _run("fuzz.py", "--minutes", "10", "--tries", str(TRIES), "--seed", str(seed))
    assert done.returncode == 0, done.stderr[-5000:]
    counts = json.loads(done.stdout)
    assert counts["tried"] == TRIES
    assert sum(counts[kind].get("refused", 0) for kind in ("photo", "gallery", "bundle", "params", "parquet")) > 0


def test_the_watchdog_tells_what_it_is_for():
    def hang():
        while True:
            pass

    def be_starved():
        time.sleep(1.5)  # as a process that gets no processor

    def grow():
        pages = mmap.mmap(-1, 300 << 20)  # memory that was freed before would not count
        for page in range(0, len(pages), mmap.PAGESIZE):
            pages[page] = 1

    def crash():
        import os

        os.abort()

    assert watched(hang, seconds=0.5).outcome == "hang"
    assert watched(be_starved, seconds=0.5).outcome == "accepted"
    assert watched(lambda: time.sleep(60), seconds=0.1).outcome == "hang"
    assert watched(grow, megabytes=200).outcome == "over"
    assert watched(crash).outcome == "crash"
    assert watched(lambda: 1 / 0).outcome == "traceback"
    assert watched(lambda: 1).outcome == "accepted"
