"""Batches for fine-tuning: which photos meet in a batch, mirrored or not, augmented, small at first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.core.training_params import FinetuneParams, ScheduleParams
from flukeprint.learning.augmentation import Draws, augment
from flukeprint.learning.batches import Batch, Batches, Size, batch_shape, epoch_order, own_part
from flukeprint.learning.proxies import ClassDraw

Order = Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]

# px; sides that are no multiples leave the strides of a network with odd borders.
SIZE_STEP = 8
# Steps in which photos grow: a device plans its work anew for every size.
GROWTH_STEPS = 4


@dataclass(frozen=True)
class TrainingBatches:
    """The training photos of one member as batches; everything random follows from (seed, epoch).

    Too few individuals for one batch of `pairs.per_class` photos of each are a FlukeprintError, and so are too few
    photos for every process to have one.
    """

    photos: Batches
    size: Size  # in the end
    classes: int  # mirror classes aside
    epochs: int
    params: FinetuneParams
    seed: int

    def __post_init__(self) -> None:
        """Refuse to sample by class from too few classes, and processes without photos."""
        self._refuse_idle_processes()
        size, per_class = self.params.batch_size, self.params.pairs.per_class
        available = len(np.unique(self.photos.targets)) * (2 if self.params.mirrored_ids else 1)
        if self._by_class and available < size // per_class:
            raise FlukeprintError(
                f"finetune.pairs.sampler is per_class: a batch of {size} holds {per_class} photos of each of "
                f"{size // per_class} individuals, but there are only {available}. Lower finetune.batch_size, "
                "raise finetune.pairs.per_class, or set finetune.on to full."
            )

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        n, size = len(self.photos.targets), self.params.batch_size
        return max(1, n // size if self._by_class else batch_shape(n, size, self._least)[0])

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of one epoch. With `mirrored_ids` class c + classes is the mirror class of class c."""
        mirror = self.classes if self.params.mirrored_ids else 0
        size = photo_size(self.size, self.params.schedule, number, self.epochs)
        order = list(self._order(number))
        targets = [self.photos.targets[positions] + mirror * flipped for positions, flipped in order]
        draw = ClassDraw.of(self.params, self.classes, self.seed).steps(targets, number)
        for index, ((positions, flipped), classes) in enumerate(zip(order, draw, strict=True)):
            batch = self.photos.batch(positions, flipped, mirror, size, classes)
            generator = np.random.default_rng(derived_seed(self.seed, "augment", number, index))
            own, _ = own_part(len(positions), self.photos.accelerator)
            draws = Draws(generator, len(positions), own)
            yield replace(batch, inputs=augment(batch.inputs, self.params.augmentation, draws))

    def _refuse_idle_processes(self) -> None:
        """Refuse batches without a photo for every process: what it took in its place would count for BatchNorm."""
        processes, n = int(self.photos.accelerator.num_processes), len(self.photos.targets)
        if processes > min(self.params.batch_size, n):
            raise FlukeprintError(
                f"{processes} processes train on {n} photos in batches of {self.params.batch_size} "
                "(finetune.batch_size), which leaves processes without any. Lower runtime.processes."
            )

    @property
    def _by_class(self) -> bool:
        return self.params.pairs.sampler == "per_class"

    @property
    def _least(self) -> int:
        # Photos of the smallest batch: two, as BatchNorm needs, and one for every process.
        return max(2, int(self.photos.accelerator.num_processes))

    def _order(self, number: int) -> Order:
        """Yield the positions of the photos of each batch of an epoch, and which of them are flipped."""
        if self._by_class:
            return self._per_class(number)
        params, n = self.params, len(self.photos.targets)
        return epoch_order(n, params.batch_size, params.flip, self.seed, number, self._least)

    def _per_class(self, number: int) -> Order:
        """Draw `per_class` photos of each of some classes per batch, by pytorch-metric-learning's MPerClassSampler."""
        from pytorch_metric_learning.samplers import MPerClassSampler
        from pytorch_metric_learning.utils import common_functions

        params, targets = self.params, self.photos.targets
        n = len(targets)
        if params.mirrored_ids:
            # A mirrored photo is one more photo, of the mirror class.
            targets = np.concatenate([targets, targets + self.classes])
        seed = derived_seed(self.seed, "order", number)
        # The sampler draws from this generator of its library.
        common_functions.NUMPY_RANDOM = np.random.RandomState(seed % 2**32)
        sampler = MPerClassSampler(targets, params.pairs.per_class, params.batch_size, max(n, params.batch_size))
        chosen = np.fromiter(sampler, np.int64)
        flips = chosen >= n if params.mirrored_ids else np.random.default_rng(seed).random(len(chosen)) < params.flip
        for part in range(0, len(chosen), params.batch_size):
            own = slice(part, part + params.batch_size)
            yield chosen[own] % n, flips[own]


def photo_size(full: Size, params: ScheduleParams, epoch: int, epochs: int) -> Size:
    """Return (height, width) in px of the training photos of an epoch, counted from 1.

    Small photos first: an epoch costs less, and changes less, while little is known (progressive learning, Tan and Le
    2021). From `first_size` of the full sides they grow evenly until `full_size_at` of the epochs are done, in
    GROWTH_STEPS steps, each taken halfway, so that photos have as many pixels over the training as if they grew in
    every epoch. Sides are multiples of SIZE_STEP px.
    """
    growing = params.full_size_at * epochs
    done = min((epoch - 1) / growing, 1.0) if growing else 1.0
    share = params.first_size + (1 - params.first_size) * round(GROWTH_STEPS * done) / GROWTH_STEPS
    if share == 1:
        return full
    height, width = (min(side, max(SIZE_STEP, round(share * side / SIZE_STEP) * SIZE_STEP)) for side in full)
    return height, width
