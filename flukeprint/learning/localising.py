"""From a folder of photos to boxes: the marked photos, those held out of them, and the answers for every photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.core.worker_processes import Workers, spread_map
from flukeprint.data.fluke_boxes import read_marked
from flukeprint.data.inspection import PhotoRecord, read_photos
from flukeprint.data.near_duplicates import columns_of, near_duplicate_clusters
from flukeprint.data.photo_folders import list_folder
from flukeprint.learning.localiser import answers_of

if TYPE_CHECKING:
    from torch import nn

# Photos that are decoded, and answered, at a time.
_CHUNK = 64
# Marked photos to learn from; far fewer teach a network nothing.
_FEWEST = 20


@dataclass(frozen=True)
class MarkedPhotos:
    """Photos whose flukes somebody marked."""

    pixels: NDArray[np.uint8]  # N x 3 x H x W
    boxes: NDArray[np.float64]  # N x 4; NaN: no fluke
    clusters: NDArray[np.int64]  # N; near-duplicates have one number

    def held_out(self, share: float, seed: int) -> NDArray[np.bool_]:
        """Draw about a share of the photos to measure with; near-duplicates stay together. A flag for each photo."""
        numbers = np.unique(self.clusters)
        drawn = np.random.default_rng(derived_seed(seed, "localize", "holdout")).permutation(numbers)
        counts = np.bincount(self.clusters, minlength=int(numbers.max()) + 1)[drawn]
        return np.isin(self.clusters, drawn[np.cumsum(counts) <= round(share * len(self.clusters))])


def marked_photos(table: Path, folder: Path, size: tuple[int, int], workers: Workers) -> MarkedPhotos:
    """Read the photos of a table of boxes; too few of them, or one that cannot be read, are a FlukeprintError."""
    names, boxes = read_marked(table, list_folder(folder).photos)
    flukes = int((~np.isnan(boxes[:, 0])).sum())
    if flukes < _FEWEST:
        raise FlukeprintError(
            f"localize.use is crop, but {table} (localize.boxes) holds the boxes of {flukes} flukes, expected at least "
            f"{_FEWEST}. Mark some hundred photos (docs/localiser.md), or set localize.use to off."
        )
    read = [photo for chunk in _read(folder, names, size, workers) for photo in chunk]
    if faulty := [record for record, pixels in read if pixels is None]:
        raise FlukeprintError(
            f"{folder / faulty[0].name}, which {table} marks, cannot be read: {faulty[0].fault}. Remove its row."
        )
    clusters = near_duplicate_clusters(**columns_of([record for record, _ in read]))
    return MarkedPhotos(np.stack([pixels for _, pixels in read if pixels is not None]), boxes, clusters)


def find_in_folder(
    network: nn.Module, folder: Path, size: tuple[int, int], workers: Workers
) -> tuple[list[str], NDArray[np.float64]]:
    """Return the names of a folder's photos and a localiser's answers, N x 6; those that cannot be read are left out.

    (`validate` names them, and stops.)
    """
    names: list[str] = []
    answers = [np.zeros((0, 6))]
    for chunk in _read(folder, list_folder(folder).photos, size, workers):
        readable = [(record.name, pixels) for record, pixels in chunk if pixels is not None]
        if readable:
            names += [name for name, _ in readable]
            answers.append(answers_of(network, np.stack([pixels for _, pixels in readable])))
    return names, np.concatenate(answers)


def _read(
    folder: Path, names: Sequence[str], size: tuple[int, int], workers: Workers
) -> Iterator[list[tuple[PhotoRecord, NDArray[np.uint8] | None]]]:
    """Yield what `read_photos` gives of a chunk of photos after the other, read by several processes."""
    chunks = [[folder / name for name in names[start : start + _CHUNK]] for start in range(0, len(names), _CHUNK)]
    with spread_map(workers if len(chunks) > 1 else 1) as mapped:
        found = mapped(partial(read_photos, size=size), chunks, files=list)
        yield from tqdm(found, f"flukes of {folder.name}", len(chunks), unit="batch", disable=None)
