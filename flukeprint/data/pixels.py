"""Photos to one array of pixels, decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from flukeprint.core.files import create_npy
from flukeprint.core.replacement import replacing
from flukeprint.core.worker_processes import spread_map
from flukeprint.data.photos import read_rgb

_CHUNK = 64


def write_pixels(path: Path, folder: Path, names: Sequence[str], size: tuple[int, int], workers: int) -> None:
    """Decode the photos `names` of `folder` into an .npy file: uint8, N x 3 x H x W, RGB, in the given order.

    They are squashed to `size`, (height, width) in px. One that cannot be read is a FlukeprintError. Several `workers`
    are spawned, so a script that asks for them needs Python's usual `if __name__ == "__main__":`.
    """
    chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
    spread = spread_map(workers) if workers > 1 and len(chunks) > 1 else nullcontext(map)
    with replacing(path) as temporary, spread as mapped:
        array = create_npy(temporary, np.uint8, (len(names), 3, *size))
        decoded = mapped(partial(_read_chunk, folder, size), chunks)
        bar = tqdm(decoded, f"pixels of {folder.name}", len(chunks), unit="batch", disable=None)
        for start, photos in zip(range(0, len(names), _CHUNK), bar, strict=True):
            array[start : start + len(photos)] = photos
        array.flush()


def _read_chunk(folder: Path, size: tuple[int, int], names: Sequence[str]) -> NDArray[np.uint8]:
    return np.stack([read_rgb(folder, name, size) for name in names])
