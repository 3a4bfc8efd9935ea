"""Batches: which rows, in which order, flipped or not, from pixels or embeddings, shared out among processes.

Everything random follows from (seed, epoch), so any epoch can be given again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from flukeprint.core.runtime import derived_seed

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray

# The target of a photo that takes part in a step without counting (cross_entropy's ignore_index).
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """The calling process's part of a batch: network inputs, class indices, and the photos in all parts together."""

    inputs: torch.Tensor
    targets: torch.Tensor
    size: int


@dataclass(frozen=True)
class Labelled:
    """Rows of an array (pixels or embeddings) with their class indices; both of length n."""

    rows: NDArray[np.int64]
    targets: NDArray[np.int64]


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


def epoch_order(
    n: int, batch_size: int, flip: float, seed: int, epoch: int, least: int = 2
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield (positions 0..n-1, flipped) of each batch of one epoch: every position once, in random order.

    A last batch of fewer than `least` photos joins the one before it: BatchNorm cannot normalise a single photo.
    """
    generator = np.random.default_rng(derived_seed(seed, "order", epoch))
    order = generator.permutation(n)
    flipped = generator.random(n) < flip
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] < least:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], n], strict=True):
        yield order[start:stop], flipped[start:stop]


def own_part(positions: NDArray[np.int64], accelerator: Accelerator) -> slice:
    """Return the slice of a batch that this process works on: parts as equal as can be, in order of rank."""
    bounds = np.linspace(0, len(positions), accelerator.num_processes + 1).round().astype(int)
    return slice(int(bounds[accelerator.process_index]), int(bounds[accelerator.process_index + 1]))


def number_of_batches(n: int, batch_size: int, least: int = 2) -> int:
    """Return how many batches `epoch_order` gives."""
    return max(1, -(-n // batch_size) - (n > batch_size and 0 < n % batch_size < least))


class PixelBatches:
    """Batches of normalised photos from an array of uint8 pixels, N x 3 x H x W (a memory map will do)."""

    def __init__(
        self, pixels: NDArray[np.uint8], labelled: Labelled, scaler: PhotoScaler, accelerator: Accelerator
    ) -> None:
        # The photos of a training fit in memory; a memory map would be read again in every epoch.
        self._pixels = np.array(pixels[labelled.rows])
        self._targets = torch.tensor(labelled.targets)
        self._scaler = scaler
        self._accelerator = accelerator

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self._targets)

    def shuffled(self, batch_size: int, flip: float, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the training batches of one epoch."""
        for positions, flipped in epoch_order(len(self), batch_size, flip, seed, epoch):
            yield self.batch(positions, flipped)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield unflipped batches in row order, for validation."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))), None)

    def batch(self, positions: NDArray[np.int64], flipped: NDArray[np.bool_] | None) -> Batch:
        """Return this process's part of the batch of photos at `positions`."""
        part = own_part(positions, self._accelerator)
        # A process without a share still has to step with the others: it takes a photo that does not count.
        idle = part.start == part.stop
        part = slice(0, 1) if idle else part
        own = positions[part]
        inputs = self._scaler(self._pixels[own], None if flipped is None else flipped[part])
        targets = torch.full((1,), IGNORED) if idle else self._targets[own]
        return Batch(inputs, targets.to(self._accelerator.device), len(positions))


class EmbeddingBatches:
    """Batches of cached embeddings, N x views x D: view 0 is the photo, view 1 (if there is one) its mirror image."""

    def __init__(self, embeddings: NDArray[np.float32], labelled: Labelled, device: torch.device) -> None:
        self._embeddings = torch.tensor(embeddings[labelled.rows], device=device)
        self._targets = torch.tensor(labelled.targets, device=device)

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self._targets)

    def shuffled(self, batch_size: int, flip: float, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the training batches of one epoch; a flip takes the mirror image's embedding."""
        for positions, flipped in epoch_order(len(self._targets), batch_size, flip, seed, epoch):
            own = torch.from_numpy(positions).to(self._targets.device)
            view = torch.from_numpy(flipped.astype(np.int64)).to(self._targets.device)
            yield Batch(self._embeddings[own, view], self._targets[own], len(positions))

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield batches of view 0 in row order, for validation."""
        for start in range(0, len(self._targets), batch_size):
            targets = self._targets[start : start + batch_size]
            yield Batch(self._embeddings[start : start + batch_size, 0], targets, len(targets))
