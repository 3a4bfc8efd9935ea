"""Photos to one array of pixels, decoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from flukeprint.core.files import create_npy
from flukeprint.core.replacement import replacing
from flukeprint.core.worker_processes import Workers, spread_map
from flukeprint.data.photos import read_rgb

if TYPE_CHECKING:
    from flukeprint.data.cropping import Crop, Found

_CHUNK = 64


@dataclass(frozen=True)
class Crops:
    """How to crop photos, and what was found in them, by name; one that is not there is seen whole."""

    crop: Crop
    found: Mapping[str, Found]


def write_pixels(
    path: Path, folder: Path, names: Sequence[str], size: tuple[int, int], workers: Workers, crops: Crops | None = None
) -> None:
    """Decode the photos `names` of `folder` into an .npy file: uint8, N x 3 x H x W, RGB, in the given order.

    They are squashed to `size`, (height, width) in px, after they were cropped, if they are to be (`crops`). One that
    cannot be read is a FlukeprintError. Several `workers` are spawned, so a script that asks for them needs Python's
    usual `if __name__ == "__main__":`.
    """
    crop, boxes = (None, {}) if crops is None else (crops.crop, crops.found)
    asked = [(name, boxes.get(name)) for name in names]
    chunks = [asked[start : start + _CHUNK] for start in range(0, len(asked), _CHUNK)]
    with replacing(path) as temporary, spread_map(workers if len(chunks) > 1 else 1) as mapped:
        array = create_npy(temporary, np.uint8, (len(names), 3, *size))
        decoded = mapped(
            partial(_read_chunk, folder, size, crop), chunks, files=lambda some: [folder / name for name, _ in some]
        )
        bar = tqdm(decoded, f"pixels of {folder.name}", len(chunks), unit="batch", disable=None)
        for start, photos in zip(range(0, len(names), _CHUNK), bar, strict=True):
            array[start : start + len(photos)] = photos
        array.flush()


def _read_chunk(
    folder: Path, size: tuple[int, int], crop: Crop | None, photos: Sequence[tuple[str, Found | None]]
) -> NDArray[np.uint8]:
    if crop is None:
        # Processes that decode whole photos start sooner without the import below.
        return np.stack([read_rgb(folder, name, size) for name, _ in photos])
    from flukeprint.data.cropping import cropped

    parts = ((name, partial(cropped, found=found, crop=crop, size=size)) for name, found in photos)
    return np.stack([read_rgb(folder, name, size, part=part) for name, part in parts])
