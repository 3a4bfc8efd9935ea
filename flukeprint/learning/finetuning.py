"""Full fine-tuning of one member: every layer, as a classifier or as an embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.core.training_params import PROXY_OBJECTIVES
from flukeprint.learning.batches import Batch, Labelled, PhotoScaler, PixelBatches
from flukeprint.learning.checkpoints import checkpoint_folder
from flukeprint.learning.embedder import Embedder, EmbedderSpec
from flukeprint.learning.networks import Classifier, embedding_size
from flukeprint.learning.optimization import Optimization
from flukeprint.learning.sampling import TrainingBatches, photo_size, validation_pairs
from flukeprint.learning.training import Job, Result, classification_step, fit

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import nn

    from flukeprint.core.training_params import FinetuneParams
    from flukeprint.learning.records import BackboneRecord
    from flukeprint.learning.training import Step

# Keeps this stage's checkpoints and seeds apart from others'.
STAGE = "finetune"


@dataclass(frozen=True)
class FinetuneData:
    """Pixels (uint8, N x 3 x H x W), the rows to train on and to choose the best epoch with, and the class labels."""

    pixels: NDArray[np.uint8]
    train: Labelled
    valid: Labelled
    labels: list[str]

    def used_by(self, params: FinetuneParams) -> FinetuneData:
        """Add the validation photos to the training photos where no epoch is chosen with them."""
        if params.schedule.keep == "best":
            return self
        both = Labelled(
            np.concatenate([self.train.rows, self.valid.rows]), np.concatenate([self.train.targets, self.valid.targets])
        )
        empty = Labelled(self.valid.rows[:0], self.valid.targets[:0])
        return FinetuneData(self.pixels, both, empty, self.labels)


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts: the pretrained backbone with its record, and a head (of cross_entropy alone)."""

    backbone: nn.Module
    record: BackboneRecord
    head: nn.Linear


def finetune(
    data: FinetuneData,
    start: Start,
    member: str,
    epochs: int,
    seed: int,
    params: FinetuneParams,
    accelerator: Accelerator,
) -> Result:
    """Train all layers; return the kept state: `backbone.*`, `head.*` of a classifier, else `embedder.*`, `loss.*`."""
    seed = derived_seed(seed, STAGE, member)
    data = data.used_by(params)
    _refuse_small_photos(data, start, params, epochs)
    scaler = PhotoScaler(start.record.mean, start.record.std, accelerator.device)
    train = TrainingBatches.of(data.pixels, data.train, len(data.labels), epochs, scaler, params, seed, accelerator)
    model, step = _model(data, start, params, seed)
    job = Job(
        model=model.to(memory_format=torch.channels_last),
        train_batches=train.epoch,
        steps=len(train),
        valid_batches=_validation(data, params, scaler, accelerator),
        epochs=epochs,
        seed=seed,
        checkpoints=_checkpoints(data, start, member, [seed, epochs, params.model_dump()]),
        label=f"{STAGE} {member}",
        step=step,
    )
    return fit(job, Optimization.of_finetuning(params), accelerator)


def _refuse_small_photos(data: FinetuneData, start: Start, params: FinetuneParams, epochs: int) -> None:
    """Refuse photos of the first epoch that the network cannot take, before anything is trained."""
    height, width = data.pixels.shape[2:]
    size = photo_size((height, width), params.schedule, 1, epochs)
    try:
        embedding_size(start.backbone, size, start.record.name)
    except FlukeprintError as error:
        if size == (height, width):
            raise
        raise FlukeprintError(
            f"finetune.schedule.first_size is {params.schedule.first_size}, but {str(error).partition('. ')[0]}. "
            "Set it to 1, or choose another backbone."
        ) from None


def _model(data: FinetuneData, start: Start, params: FinetuneParams, seed: int) -> tuple[nn.Module, Step]:
    """Return the network with its loss, and how a batch is run."""
    if not params.metric:
        frozen = start.record.folded_batchnorm
        return Classifier(start.backbone, start.head, frozen_batchnorm=frozen), classification_step
    from flukeprint.learning.objectives import MetricModel, build_judge, build_loss, build_miner, metric_step

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "init"))
        embedder = Embedder(start.backbone, EmbedderSpec.of(params.embedding, start.record), start.record)
        targets, classes = data.train.targets, len(data.labels)
        if params.mirrored_ids:
            targets, classes = np.concatenate([targets, targets + classes]), 2 * classes
        loss = build_loss(params, targets, classes, embedder.features)
    return MetricModel(embedder, loss, build_miner(params.pairs), build_judge(params)), metric_step


def _validation(
    data: FinetuneData, params: FinetuneParams, scaler: PhotoScaler, accelerator: Accelerator
) -> Callable[[], Iterator[Batch]] | None:
    """Return what gives the validation batches; None where there are no photos for it."""
    pairs = params.metric and params.objective not in PROXY_OBJECTIVES
    labelled = validation_pairs(data.train, data.valid) if pairs else data.valid
    if not len(labelled.rows):
        return None
    photos = PixelBatches(data.pixels, labelled, scaler, accelerator)
    return lambda: photos.in_order(2 * params.batch_size)


def _checkpoints(data: FinetuneData, start: Start, member: str, settings: list[Any]) -> Path:
    """Return the folder of this very training's checkpoints."""
    photos = [data.pixels[data.train.rows], data.train.targets, data.pixels[data.valid.rows], data.valid.targets]
    head = [parameter.detach().numpy() for parameter in start.head.parameters()]
    return checkpoint_folder(STAGE, member, settings, asdict(start.record), *photos, *head)
