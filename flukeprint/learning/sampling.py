"""Batches for fine-tuning: which photos meet in a batch, mirrored or not, augmented, and the pairs for validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.learning.augmentation import Draws, augment
from flukeprint.learning.batches import Batch, PixelBatches, epoch_order, number_of_batches, own_part

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from flukeprint.core.training_params import FinetuneParams, ScheduleParams
    from flukeprint.learning.batches import Labelled, PhotoScaler

    Order = Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]

# px; sides that are no multiples leave the strides of a network with odd borders.
SIZE_STEP = 8


@dataclass(frozen=True)
class TrainingBatches:
    """The training photos of one member as batches; everything random follows from (seed, epoch)."""

    photos: PixelBatches
    labelled: Labelled
    classes: int  # without mirrored twins
    epochs: int
    params: FinetuneParams
    seed: int
    accelerator: Accelerator

    @classmethod
    def of(
        cls,
        pixels: NDArray[np.uint8],
        labelled: Labelled,
        classes: int,
        epochs: int,
        scaler: PhotoScaler,
        params: FinetuneParams,
        seed: int,
        accelerator: Accelerator,
    ) -> TrainingBatches:
        """Hold the labelled photos of an array of pixels, N x 3 x H x W.

        Raises:
            FlukeprintError: there are too few individuals for one batch of `pairs.per_class` photos of each.

        """
        if params.pairs.sampler == "per_class":
            _refuse_few_classes(len(np.unique(labelled.targets)), params)
        photos = PixelBatches(pixels, labelled, scaler, accelerator)
        return cls(photos, labelled, classes, epochs, params, seed, accelerator)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        n, size = len(self.photos), self.params.batch_size
        return (
            max(1, n // size) if self.params.pairs.sampler == "per_class" else number_of_batches(n, size, self._least)
        )

    @property
    def _least(self) -> int:
        """Photos of the smallest batch: two for every process, as BatchNorm needs."""
        return 2 * int(self.accelerator.num_processes)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of one epoch. With mirrored identities the mirror image of class c is class c + classes."""
        for index, (positions, flipped) in enumerate(self._order(number)):
            batch = self.photos.batch(positions, flipped)
            generator = np.random.default_rng(derived_seed(self.seed, "augment", number, index))
            own = own_part(positions, self.accelerator)
            # A process without a share holds one photo that does not count.
            draws = Draws(generator, len(positions), own if own.start < own.stop else slice(0, 1))
            inputs = augment(self._sized(batch.inputs, number), self.params.augmentation, draws)
            targets = self._twins(batch, positions, flipped) if self.params.mirrored_ids else batch.targets
            yield replace(batch, inputs=inputs, targets=targets)

    def _sized(self, inputs: torch.Tensor, number: int) -> torch.Tensor:
        height, width = inputs.shape[2:]
        size = photo_size((height, width), self.params.schedule, number, self.epochs)
        if size == (height, width):
            return inputs
        return functional.interpolate(inputs, size, mode="bilinear", antialias=True, align_corners=False)

    def _twins(self, batch: Batch, positions: NDArray[np.int64], flipped: NDArray[np.bool_]) -> torch.Tensor:
        own = torch.from_numpy(flipped[own_part(positions, self.accelerator)]).to(batch.targets.device)
        return torch.where(own, batch.targets + self.classes, batch.targets) if len(own) else batch.targets

    def _order(self, number: int) -> Order:
        params = self.params
        if params.pairs.sampler == "per_class":
            return self._per_class(number)
        return epoch_order(len(self.photos), params.batch_size, params.flip, self.seed, number, self._least)

    def _per_class(self, number: int) -> Order:
        """Draw `per_class` photos of each of some classes per batch, by pytorch-metric-learning's MPerClassSampler."""
        from pytorch_metric_learning.samplers import MPerClassSampler
        from pytorch_metric_learning.utils import common_functions

        params, n = self.params, len(self.photos)
        targets = self.labelled.targets
        if params.mirrored_ids:
            # A mirrored photo is one more photo, of another class.
            targets = np.concatenate([targets, targets + self.classes])
        seed = derived_seed(self.seed, "order", number)
        # The sampler draws from this generator of its library.
        common_functions.NUMPY_RANDOM = np.random.RandomState(seed % 2**32)
        length = max(n, params.batch_size)
        sampler = MPerClassSampler(targets, params.pairs.per_class, params.batch_size, length)
        chosen = np.fromiter(sampler, np.int64)
        flips = chosen >= n if params.mirrored_ids else np.random.default_rng(seed).random(len(chosen)) < params.flip
        for start in range(0, len(chosen), params.batch_size):
            part = slice(start, start + params.batch_size)
            yield chosen[part] % n, flips[part]


def photo_size(full: tuple[int, int], params: ScheduleParams, epoch: int, epochs: int) -> tuple[int, int]:
    """Return (height, width) in px of the training photos of an epoch, counted from 1.

    Small photos first: an epoch costs less, and changes less, while little is known (progressive learning, Tan and Le
    2021). From `first_size` of the full sides they grow evenly, in steps of SIZE_STEP px, until `full_size_at` of the
    epochs are done.
    """
    growing = params.full_size_at * epochs
    done = min((epoch - 1) / growing, 1.0) if growing else 1.0
    share = params.first_size + (1 - params.first_size) * done
    if share == 1:
        return full
    height, width = (min(side, max(SIZE_STEP, round(share * side / SIZE_STEP) * SIZE_STEP)) for side in full)
    return height, width


def _refuse_few_classes(classes: int, params: FinetuneParams) -> None:
    needed = params.batch_size // params.pairs.per_class
    available = classes * (2 if params.mirrored_ids else 1)
    if available < needed:
        raise FlukeprintError(
            f"finetune.pairs.sampler is per_class: a batch of {params.batch_size} holds {params.pairs.per_class} "
            f"photos of each of {needed} individuals, but there are only {available}. Lower finetune.batch_size, "
            "raise finetune.pairs.per_class, or set finetune.on to full."
        )


def validation_pairs(train: Labelled, valid: Labelled) -> Labelled:
    """Return the validation photos class by class, each class followed by a training photo of it, the first there is.

    Losses that compare photos have nothing to compare in a batch of single photos of many individuals. Validation
    photos whose class has no training photo are left out.
    """
    partner = dict(zip(reversed(train.targets.tolist()), reversed(train.rows.tolist()), strict=True))
    rows: list[int] = []
    targets: list[int] = []
    for target in dict.fromkeys(valid.targets.tolist()):
        if target in partner:
            own = [*valid.rows[valid.targets == target].tolist(), partner[target]]
            rows += own
            targets += [target] * len(own)
    return replace(valid, rows=np.array(rows, np.int64), targets=np.array(targets, np.int64))
