"""Work spread over processes that leave Ctrl+C to the one that started them and never outlive it, or over machines."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Thread
from typing import Any

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.ray_cluster import Cluster, ray_map

Workers = int | Cluster  # processes here, or machines

# Of a worker process: set when nobody wants its results any more.
_unwanted: Event | None = None


@contextmanager
def spread_map(workers: Workers) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map(function, items, chunk, files)` that has `workers` do the work, `chunk` items at a time.

    Results come in order. `files(item)` are the paths that `function` reads of an item: other machines get them from
    here. One process does the work in this one. When the block is left, also by an exception such as Ctrl+C's, what is
    not begun is dropped. A process that is killed, for example for lack of memory, is a FlukeprintError.
    """
    if isinstance(workers, Cluster):
        with ray_map(workers) as mapped:
            yield mapped
    elif workers <= 1:
        yield _map_here
    else:
        with _processes(workers) as pool:
            yield partial(_map, pool)


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: a fork of a process with running threads (Arrow, torch) can hang.
    context = multiprocessing.get_context("spawn")
    unwanted = context.Event()
    pool = ProcessPoolExecutor(workers, context, _begin, (unwanted,))
    try:
        yield pool
    except BrokenProcessPool:
        raise FlukeprintError(
            "a process that was reading photos was killed, probably for lack of memory. Lower runtime.workers in "
            "params.yaml, or the largest photo size that is accepted."
        ) from None
    finally:
        unwanted.set()
        pool.shutdown(cancel_futures=True)


Files = Callable[[Any], Iterable[Path]]


def _map_here(
    function: Callable[..., Any],
    items: Iterable[Any],
    chunk: int = 1,  # noqa: ARG001
    files: Files | None = None,  # noqa: ARG001
) -> Iterator[Any]:
    return map(function, items)


def _map(
    pool: ProcessPoolExecutor,
    function: Callable[..., Any],
    items: Iterable[Any],
    chunk: int = 1,
    files: Files | None = None,  # noqa: ARG001 - they lie where the processes are
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
