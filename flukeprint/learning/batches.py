"""Batches: which rows, in which order, flipped or not, from pixels or embeddings, shared out among processes.

All batches of an epoch have the same size, so that what a device prepares for a shape serves for every step.

Everything random follows from (seed, epoch), so any epoch can be given again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from flukeprint.core.runtime import derived_seed
from flukeprint.learning.rows import RowArray, Selection

if TYPE_CHECKING:
    from accelerate import Accelerator

    from flukeprint.learning.training_data import Labelled

# The target of a photo that takes part in a step without counting (cross_entropy's ignore_index).
IGNORED = -100

# Of a GPU's free memory: an array that takes no more lies there from the start.
RESIDENT = 0.5

Size = tuple[int, int]  # height and width in px


def on_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on the device; a GPU is not waited for, so what it is doing goes on."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device)
    # From pageable memory the copy would wait for all that was given to the GPU before.
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Batch:
    """The calling process's part of a batch: network inputs, class indices, and the photos in all parts together.

    `classes` are the classes that the photos are compared with, which targets then count along; None: all.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    size: int
    classes: NDArray[np.int64] | None = field(default=None, kw_only=True)


class PhotoScaler:
    """Turns uint8 photos into network inputs on the device: flip, scale to 0..1, subtract mean, divide by std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self._mean = 255 * torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = 255 * torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(
        self, photos: torch.Tensor, flipped: NDArray[np.bool_] | None = None, size: Size | None = None
    ) -> torch.Tensor:
        """Return float32 N x 3 x H x W, of `size` if given; rows where `flipped` is true are mirrored.

        Bytes are moved rather than floats, and in the order in which they come: turning them to channels_last, three
        numbers at a time, is left to the last step before the network.
        """
        if flipped is not None and flipped.any():
            rows = on_device(np.flatnonzero(flipped), self.device)
            photos = photos.index_copy(0, rows, photos[rows].flip(3))
        if size is not None and size != photos.shape[2:]:
            # torch resizes bytes on the CPU only.
            photos = photos if self.device.type == "cpu" else photos.to(torch.float32)
            photos = functional.interpolate(photos, size, mode="bilinear", antialias=True, align_corners=False)
        return photos.to(torch.float32).sub_(self._mean).div_(self._std)


def batch_shape(n: int, batch_size: int, least: int = 2) -> tuple[int, int]:
    """Return how many batches an epoch of n photos has, and how many photos each of them holds.

    No more than `batch_size` and no fewer than `least`: BatchNorm cannot normalise a single photo.
    """
    batches = math.ceil(n / batch_size)
    return batches, max(least, math.ceil(n / max(batches, 1)))


def epoch_order(
    n: int, batch_size: int, flip: float, seed: int, epoch: int, least: int = 2
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield (positions 0..n-1, flipped) of each batch of one epoch: every position once, in random order.

    What the last batch lacks is filled with the first positions, fewer than there are batches.
    """
    generator = np.random.default_rng(derived_seed(seed, "order", epoch))
    shape = batch_shape(n, batch_size, least)
    order = np.resize(generator.permutation(n), shape)
    yield from zip(order, generator.random(shape) < flip, strict=True)


def own_part(n: int, accelerator: Accelerator) -> tuple[slice, bool]:
    """Return this process's part of a batch of n photos, and whether it counts.

    Parts are as equal as can be, in order of rank. A process without a share still has to step with the others: it
    takes the first photo, which does not count.
    """
    bounds = np.linspace(0, n, accelerator.num_processes + 1).round().astype(int).tolist()
    start, stop = bounds[accelerator.process_index : accelerator.process_index + 2]
    return (slice(start, stop), True) if start < stop else (slice(0, 1), False)


# Tells, of each batch's targets, the classes to compare it with, ascending; None: all.
Draw = Callable[[list[NDArray[np.int64]]], Iterable[NDArray[np.int64] | None]]


def _all_classes(targets: list[NDArray[np.int64]]) -> Iterable[None]:
    return repeat(None, len(targets))


# Makes network inputs of rows on the device, mirrored where the array is true, photos of a size if one is given.
Prepare = Callable[[torch.Tensor, NDArray[np.bool_], Size | None], torch.Tensor]


def choose_views(rows: torch.Tensor, flipped: NDArray[np.bool_], _: Size | None = None) -> torch.Tensor:
    """Take the photo's embedding, or where flipped the mirror image's, from N x views x D."""
    return rows[torch.arange(len(rows), device=rows.device), on_device(flipped.astype(int), rows.device)]


class _Rows:
    """Selected rows as tensors on the device, where they lie from the start if it is a GPU with room for them.

    Elsewhere they are read as they are needed: a memory map stays in the page cache, and no copy is held.
    """

    def __init__(self, selection: Selection, device: torch.device) -> None:
        self._selection, self._device = selection, device
        self._resident = self._uploaded() if self._fits() else None

    def __getitem__(self, positions: NDArray[np.int64]) -> torch.Tensor:
        if self._resident is not None:
            return self._resident[on_device(positions, self._device)]
        return on_device(self._selection[positions], self._device)

    def _fits(self) -> bool:
        if self._device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self._device)
        return len(self._selection) * self._selection[:1].nbytes <= RESIDENT * free

    def _uploaded(self) -> torch.Tensor:
        """Copy all rows to the device, some at a time."""
        none = torch.from_numpy(self._selection[:0])
        held = none.new_empty((len(self._selection), *none.shape[1:]), device=self._device)
        for start in range(0, len(held), 1024):
            part = self._selection[start : start + 1024]
            held[start : start + len(part)] = on_device(part, self._device)
        return held


class Batches:
    """Batches of the labelled rows of an array: uint8 pixels, N x 3 x H x W, or embeddings, N x views x D."""

    def __init__(self, array: RowArray, labelled: Labelled, prepare: Prepare, accelerator: Accelerator) -> None:
        self._rows = _Rows(Selection(array, labelled.rows), accelerator.device)
        self.shape = array.shape[1:]
        self.targets = labelled.targets
        self._prepare = prepare
        self.accelerator = accelerator

    def shuffled(self, batch_size: int, flip: float, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch in random order, each row flipped with probability `flip`."""
        for positions, flipped in epoch_order(len(self.targets), batch_size, flip, seed, epoch):
            yield self.batch(positions, flipped)

    def in_order(self, batch_size: int, draw: Draw = _all_classes) -> Iterator[Batch]:
        """Yield unflipped batches in row order, for validation."""
        rows = np.arange(len(self.targets))
        parts = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        for positions, classes in zip(parts, draw([self.targets[part] for part in parts]), strict=True):
            yield self.batch(positions, np.zeros(len(positions), bool), classes=classes)

    def batch(
        self,
        positions: NDArray[np.int64],
        flipped: NDArray[np.bool_],
        mirror: int = 0,
        size: Size | None = None,
        classes: NDArray[np.int64] | None = None,
    ) -> Batch:
        """Return this process's part of the batch of rows at `positions`; class c, flipped, is class c + mirror."""
        part, counts = own_part(len(positions), self.accelerator)
        own, turned = positions[part], flipped[part]
        targets = self.targets[own] + mirror * turned if counts else np.array([IGNORED])
        if classes is not None and counts:
            targets = np.searchsorted(classes, targets)
        inputs = self._prepare(self._rows[own], turned, size)
        return Batch(inputs, on_device(targets, self.accelerator.device), len(positions), classes=classes)
