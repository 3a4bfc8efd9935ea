"""Batches: which rows, in which order, flipped or not, from pixels or embeddings, shared out among processes.

Everything random follows from (seed, epoch), so any epoch can be given again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from flukeprint.core.runtime import derived_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

    from flukeprint.learning.training_data import Labelled

# The target of a photo that takes part in a step without counting (cross_entropy's ignore_index).
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """The calling process's part of a batch: network inputs, class indices, and the photos in all parts together."""

    inputs: torch.Tensor
    targets: torch.Tensor
    size: int


class PhotoScaler:
    """Turns uint8 photos into network inputs on the device: flip, scale to 0..1, subtract mean, divide by std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self._mean = 255 * torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = 255 * torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, photos: NDArray[np.uint8], flipped: NDArray[np.bool_] | None = None) -> torch.Tensor:
        """Return float32 N x 3 x H x W in channels_last order; rows where `flipped` is true are mirrored."""
        inputs = torch.from_numpy(photos).to(self.device, non_blocking=True)
        inputs = inputs.to(torch.float32, memory_format=torch.channels_last)
        inputs = inputs.sub_(self._mean).div_(self._std)
        if flipped is not None and flipped.any():
            chosen = torch.from_numpy(flipped).to(self.device).view(-1, 1, 1, 1)
            inputs = torch.where(chosen, inputs.flip(3), inputs)
        return inputs


def batch_slices(n: int, batch_size: int, least: int = 2) -> list[slice]:
    """Divide an epoch of n photos into batches.

    A last batch of fewer than `least` photos joins the one before it: BatchNorm cannot normalise a single photo.
    """
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] < least:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n], strict=True)]


def epoch_order(
    n: int, batch_size: int, flip: float, seed: int, epoch: int, least: int = 2
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield (positions 0..n-1, flipped) of each batch of one epoch: every position once, in random order."""
    generator = np.random.default_rng(derived_seed(seed, "order", epoch))
    order = generator.permutation(n)
    flipped = generator.random(n) < flip
    for part in batch_slices(n, batch_size, least):
        yield order[part], flipped[part]


def own_part(n: int, accelerator: Accelerator) -> tuple[slice, bool]:
    """Return this process's part of a batch of n photos, and whether it counts.

    Parts are as equal as can be, in order of rank. A process without a share still has to step with the others: it
    takes the first photo, which does not count.
    """
    bounds = np.linspace(0, n, accelerator.num_processes + 1).round().astype(int).tolist()
    start, stop = bounds[accelerator.process_index : accelerator.process_index + 2]
    return (slice(start, stop), True) if start < stop else (slice(0, 1), False)


# Makes network inputs on the device of rows of an array, mirrored where the second array is true.
Prepare = Callable[[NDArray[Any], NDArray[np.bool_]], torch.Tensor]


def prepare_embeddings(device: torch.device) -> Prepare:
    """Return what takes the photo's embedding, or where flipped the mirror image's, from N x views x D."""
    return lambda rows, flipped: torch.from_numpy(rows[np.arange(len(rows)), flipped.astype(int)]).to(device)


class Batches:
    """Batches of the labelled rows of an array: uint8 pixels, N x 3 x H x W, or embeddings, N x views x D."""

    def __init__(self, array: NDArray[Any], labelled: Labelled, prepare: Prepare, accelerator: Accelerator) -> None:
        # What is trained on fits in memory; a memory map would be read again in every epoch.
        self._rows = np.array(array[labelled.rows])
        self.targets = labelled.targets
        self._prepare = prepare
        self.accelerator = accelerator

    def shuffled(self, batch_size: int, flip: float, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch in random order, each row flipped with probability `flip`."""
        for positions, flipped in epoch_order(len(self.targets), batch_size, flip, seed, epoch):
            yield self.batch(positions, flipped)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield unflipped batches in row order, for validation."""
        n = len(self.targets)
        for start in range(0, n, batch_size):
            positions = np.arange(start, min(start + batch_size, n))
            yield self.batch(positions, np.zeros(len(positions), bool))

    def batch(self, positions: NDArray[np.int64], flipped: NDArray[np.bool_], mirror: int = 0) -> Batch:
        """Return this process's part of the batch of rows at `positions`; class c, flipped, is class c + mirror."""
        part, counts = own_part(len(positions), self.accelerator)
        own, turned = positions[part], flipped[part]
        targets = self.targets[own] + mirror * turned if counts else np.array([IGNORED])
        inputs = self._prepare(self._rows[own], turned)
        return Batch(inputs, torch.from_numpy(targets).to(self.accelerator.device), len(positions))
