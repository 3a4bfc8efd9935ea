"""Photos from anywhere on the disk, decoded in threads ahead of the network that waits for them."""

from __future__ import annotations

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable
from flukeprint.data.cropping import Cropper
from flukeprint.data.inspection import PhotoRecord, read_photos
from flukeprint.data.photo_folders import SUFFIXES, hint_beside, list_tree, said_of_others
from flukeprint.data.photos import MAX_PIXELS

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

# Batches that may lie decoded and waiting: enough that neither side waits, few enough for any memory.
_AHEAD = 2
# Photos that a thread reads at a time: threads that change too often wait for one another.
_TOGETHER = 32


@dataclass(frozen=True)
class ReadPhoto:
    """A photo's file, what was found in it, and its pixels (None where the record has a fault)."""

    path: Path
    record: PhotoRecord
    pixels: NDArray[np.uint8] | None = None


def list_photos(given: Iterable[Path]) -> list[Path]:
    """Return the photos and those of the folders in `given`, each once; a folder's with those of its inner folders.

    How many photos lie in inner folders, and what else a folder holds, is said in log messages
    (flukeprint/data/photo_folders.py). No such file, or no photo, is a FlukeprintError.
    """
    return list(dict.fromkeys(photo for path in given for photo in _photos_of(path)))


def _photos_of(given: Path) -> list[Path]:
    if not given.is_dir():
        if not os.path.lexists(given):
            raise FlukeprintError(f"there is no photo or folder {str(given)!r}{hint_beside(given)}. Check the name.")
        return [given]
    try:
        content, folders = list_tree(given)
    except OSError as error:
        raise FlukeprintError(f"the folder {str(error.filename)!r} cannot be listed ({error.strerror}).") from None
    others = said_of_others(given, content)
    if not content.photos:
        raise FlukeprintError(
            f"the folder {str(given)!r} holds no photo, expected files that end in {', '.join(sorted(SUFFIXES))}."
            + (f" {others}." if others else "")
        )
    if folders:
        photos, inner = len(content.photos), sum("/" in name for name in content.photos)
        log.info("%s: %d photo(s), %d of them in %d inner folder(s)", printable(given), photos, inner, folders)
    if others:
        log.warning(others)
    return [given / name for name in content.photos]


def read_batches(
    paths: Sequence[Path],
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    max_pixels: int = MAX_PIXELS,
    cropper: Cropper | None = None,
) -> Iterator[list[ReadPhoto]]:
    """Yield batches of read photos in the order given, while `workers` threads decode the next ones.

    Threads rather than processes: Pillow decodes and resizes outside Python's lock, and a thread starts at once. Pixels
    are of `size` (height, width), with a `cropper` of the fluke alone; photos of more than `max_pixels` get a fault.
    """

    def read(some: Sequence[Path]) -> list[ReadPhoto]:
        found = read_photos(some, size, max_pixels, cropper)
        return [ReadPhoto(path, *photo) for path, photo in zip(some, found, strict=True)]

    groups = (paths[start : start + _TOGETHER] for start in range(0, len(paths), _TOGETHER))
    # Threads that silence warnings each for itself restore each other's state; this one restores the right one last.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(workers, 1)) as pool:
        ready: list[ReadPhoto] = []
        for group in ahead(pool, read, groups, -(-_AHEAD * batch_size // _TOGETHER)):
            ready += group
            while len(ready) >= batch_size:
                yield ready[:batch_size]
                del ready[:batch_size]
        if ready:
            yield ready


def ahead(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], number: int) -> Iterator[Result]:
    """Yield function(item) for each item, in their order, while the pool works on at most `number` later ones."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > number:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
