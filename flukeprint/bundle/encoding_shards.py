"""Photos encoded by a cluster: a machine gets the files of a whole batch, so the bytes are those of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flukeprint.bundle.encoder import BATCH_SIZE, Encoded, Encoder, counted, encoded
from flukeprint.core.ray_cluster import Content, buffers_of, lay_out
from flukeprint.data.photos import UnusableError, photo_path
from flukeprint.data.reading import ReadPhoto, read_batches


def encoded_shards(
    encoder: Encoder, paths: Sequence[Path], machines: Callable[..., Iterator[Any]], max_pixels: int
) -> Iterator[Encoded]:
    """Yield what `encoded_batches` yields; `machines` is a `map` (core/worker_processes.py)."""
    batches = [paths[start : start + BATCH_SIZE] for start in range(0, len(paths), BATCH_SIZE)]
    found = machines(partial(_encoded_there, encoder, max_pixels), map(_files_of, batches))
    named = (
        _encoded_here(encoder, max_pixels, batch) if part is None else _named(part, batch)
        for batch, part in zip(batches, found, strict=True)
    )
    return counted(named, len(paths))


def _files_of(batch: Sequence[Path]) -> dict[str, Content] | None:
    """Return photos' bytes by what a worker calls them, as `0/NAME`; None where they have to be read here."""
    try:
        contents = buffers_of(photo_path(path.parent, path.name) for path in batch)
    except (OSError, UnusableError):
        return None  # what is wrong is said here
    names = (f"{number}/{path.name}" for number, path in enumerate(batch))
    return None if contents is None else dict(zip(names, contents, strict=True))


def _encoded_there(encoder: Encoder, max_pixels: int, files: dict[str, Content] | None) -> Encoded | None:
    """Encode a batch in a worker, whose current folder is its own."""
    if files is None:
        return None
    lay_out(files)
    return _encoded_here(encoder, max_pixels, [Path(name) for name in files])


def _encoded_here(encoder: Encoder, max_pixels: int, batch: Sequence[Path]) -> Encoded:
    [photos] = read_batches(batch, encoder.size, BATCH_SIZE, 1, max_pixels, encoder.cropper)
    return encoded(encoder, photos)


def _named(part: Encoded, batch: Sequence[Path]) -> Encoded:
    """Call photos what they are called here."""

    def named(photos: Sequence[ReadPhoto]) -> list[ReadPhoto]:
        return [replace(photo, path=batch[int(photo.path.parts[0])]) for photo in photos]

    return replace(part, photos=named(part.photos), failed=named(part.failed))
