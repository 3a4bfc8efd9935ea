"""Full fine-tuning of one member: every layer, as a classifier or as an embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.core.training_params import PROXY_OBJECTIVES
from flukeprint.learning.batches import Batch, Batches, PhotoScaler
from flukeprint.learning.checkpoints import checkpoint_folder
from flukeprint.learning.embedder import Embedder, EmbedderSpec
from flukeprint.learning.networks import Classifier, embedding_size
from flukeprint.learning.sampling import TrainingBatches, photo_size
from flukeprint.learning.training import Job, Result, classification_step, fit
from flukeprint.learning.training_data import Labelled, TrainingData, validation_pairs

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from flukeprint.core.training_params import FinetuneParams
    from flukeprint.learning.records import BackboneRecord
    from flukeprint.learning.training import Step

# Keeps this stage's checkpoints and seeds apart from others'.
STAGE = "finetune"


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts: the pretrained backbone with its record, and a head (of cross_entropy alone)."""

    backbone: nn.Module
    record: BackboneRecord
    head: nn.Linear


def finetune(
    data: TrainingData,
    start: Start,
    member: str,
    epochs: int,
    seed: int,
    params: FinetuneParams,
    accelerator: Accelerator,
) -> Result:
    """Train all layers of the networks in `start`, in place, on photos (`data` holds pixels).

    Returns the kept state: `backbone.*` and `head.*` of a classifier; `embedder.*` and `loss.*` of an embedding. Where
    no best epoch is chosen, validation photos are trained on too. `seed` is the project's: members draw their own.
    """
    seed = derived_seed(seed, STAGE, member)
    if params.schedule.keep != "best":
        data = data.without_validation()
    _refuse_small_photos(data, start, params, epochs)
    head = [weights.detach().numpy() for weights in start.head.parameters()]
    ingredients = [seed, epochs, params.model_dump(), asdict(start.record), *data.ingredients(), *head]
    scaler = PhotoScaler(start.record.mean, start.record.std, accelerator.device)
    photos = Batches(data.array, data.train, scaler, accelerator)
    train = TrainingBatches(photos, len(data.labels), epochs, params, seed)
    model, step = _model(data, start, params, seed)
    job = Job(
        model=model.to(memory_format=torch.channels_last),
        train_batches=train.epoch,
        steps=len(train),
        valid_batches=_validation(data, params, scaler, accelerator),
        epochs=epochs,
        seed=seed,
        checkpoints=checkpoint_folder(STAGE, member, *ingredients),
        label=f"{STAGE} {member}",
        params=params,
        schedule=params.schedule,
        step=step,
    )
    return fit(job, accelerator)


def _refuse_small_photos(data: TrainingData, start: Start, params: FinetuneParams, epochs: int) -> None:
    """Refuse photos of the first epoch that the network cannot take, before anything is trained."""
    height, width = data.array.shape[2:]
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


def _model(data: TrainingData, start: Start, params: FinetuneParams, seed: int) -> tuple[nn.Module, Step]:
    """Return the network with its loss, and how a batch is run."""
    if not params.metric:
        frozen = start.record.folded_batchnorm
        return Classifier(start.backbone, start.head, frozen_batchnorm=frozen), classification_step
    from flukeprint.learning.objectives import MetricModel, metric_step

    targets, classes = data.train.targets, len(data.labels)
    if params.mirrored_ids:
        targets, classes = np.concatenate([targets, targets + classes]), 2 * classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "init"))
        embedder = Embedder(start.backbone, EmbedderSpec.of(params.embedding, start.record), start.record)
        return MetricModel.of(embedder, params, targets, classes), metric_step


def _validation(
    data: TrainingData, params: FinetuneParams, scaler: PhotoScaler, accelerator: Accelerator
) -> Callable[[], Iterator[Batch]] | None:
    """Return what yields the validation batches; None where there are no photos for them."""
    compares = params.metric and params.objective not in PROXY_OBJECTIVES
    labelled: Labelled = validation_pairs(data.train, data.valid) if compares else data.valid
    if not len(labelled.rows):
        return None
    photos = Batches(data.array, labelled, scaler, accelerator)
    return lambda: photos.in_order(2 * params.batch_size)
