"""Work spread over processes that leave Ctrl+C to the one that started them, and never outlive it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from threading import Thread
from typing import Any

# Of a worker process: set when nobody wants its results any more.
_unwanted: Event | None = None


@contextmanager
def spread_map(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map(function, items, chunk)` that has `workers` processes do the work, `chunk` items at a time.

    Results come in order. When the block is left, also by an exception such as Ctrl+C's, what is not begun is dropped.
    """
    # Spawned, not forked: a fork of a process with running threads (Arrow, torch) can hang.
    context = multiprocessing.get_context("spawn")
    unwanted = context.Event()
    pool = ProcessPoolExecutor(workers, context, _begin, (unwanted,))
    try:
        yield partial(_map, pool)
    finally:
        unwanted.set()
        pool.shutdown(cancel_futures=True)


def _map(
    pool: ProcessPoolExecutor, function: Callable[..., Any], items: Iterable[Any], chunk: int = 1
) -> Iterator[Any]:
    # A terminal sends Ctrl+C to all processes. Those that start here inherit that it is blocked; here it only waits.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return pool.map(partial(_call, function), items, chunksize=chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(unwanted: Event) -> None:
    global _unwanted  # noqa: PLW0603 - what a process is told when it starts is global to it
    _unwanted = unwanted
    # A parent that is killed tells nobody.
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    if _unwanted is not None and _unwanted.is_set():
        raise CancelledError
    return function(item)
