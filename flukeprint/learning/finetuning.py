"""Full fine-tuning of one member: every layer, as a classifier or as an embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.core.training_params import PROXY_OBJECTIVES, FinetuneParams
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import class_labels, often_seen
from flukeprint.learning.activations import without_copies
from flukeprint.learning.batches import Batch, Batches, PhotoScaler, Prepare
from flukeprint.learning.checkpoints import checkpoint_folder
from flukeprint.learning.divergence import LossBounds
from flukeprint.learning.embedding import EmbeddingJob, embed
from flukeprint.learning.embedding_head import Embedder, EmbedderSpec
from flukeprint.learning.network_files import load_head
from flukeprint.learning.networks import Classifier, embedding_size, new_head
from flukeprint.learning.proxies import ClassDraw, SampledProxies
from flukeprint.learning.records import BackboneRecord
from flukeprint.learning.sampling import TrainingBatches, photo_size
from flukeprint.learning.training import Job, Step, classification_step
from flukeprint.learning.training_data import TrainingData, validation_pairs
from flukeprint.metrics.spread import Spread, evenly, spread_of

if TYPE_CHECKING:
    from accelerate import Accelerator

# Keeps this stage's checkpoints and seeds apart from others'.
STAGE = "finetune"
# Photos that are embedded to measure their spread: enough for a mean, few enough to cost nothing beside the training.
_MEASURED = 512


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts: the pretrained backbone with its record, and a head (of cross_entropy alone)."""

    backbone: nn.Module
    record: BackboneRecord
    head: nn.Linear


def starting_head(
    table: pd.DataFrame, trained: Path, member: str, features: int, seed: int, params: FinetuneParams
) -> tuple[pd.DataFrame, list[str], nn.Linear]:
    """Return the photos of a selected table to learn from, their classes' labels, and the head to start with.

    That is the one of the file `trained` where params say so, else a new one of the individuals with `min_photos`.
    """
    if params.starts_from_head:
        head, labels = load_head(trained)
        return table, labels, head
    table = often_seen(table[table["Id"] != NEW_WHALE], params.min_photos)
    labels = class_labels(table)
    if len(labels) < 2:
        raise FlukeprintError(
            f"finetune.min_photos is {params.min_photos}, which leaves {len(labels)} individual(s) to learn, "
            "expected at least 2. Lower it."
        )
    return table, labels, new_head(features, len(labels), derived_seed(seed, STAGE, member, "head"))


def finetuning_job(
    data: TrainingData,
    start: Start,
    member: str,
    epochs: int,
    seed: int,
    params: FinetuneParams,
    accelerator: Accelerator,
) -> Job:
    """Return the training of all layers of the networks in `start`, in place, on photos (`data` holds pixels).

    Its result is the kept state: `backbone.*` and `head.*` of a classifier; `embedder.*` and `loss.*` of an embedding.
    Where no best epoch is chosen, validation photos are trained on too. `seed` is the project's; members draw their
    own.
    """
    seed = derived_seed(seed, STAGE, member)
    if params.schedule.keep != "best":
        data = data.without_validation()
    _refuse_small_photos(start, params, epochs)
    head = [weights.detach().numpy() for weights in start.head.parameters()]
    ingredients = [seed, epochs, params.model_dump(), start.record.to_json(), *data.ingredients(), *head]
    prepare = _scaled(start.record, accelerator.device)
    photos = Batches(data.array, data.train, prepare, accelerator)
    train = TrainingBatches(photos, start.record.seen_size, len(data.labels), epochs, params, seed)
    draw = ClassDraw.of(params, len(data.labels), seed)
    model, step, proxies = _model(data, start, params, draw)
    return Job(
        model=without_copies(model).to(memory_format=torch.channels_last),
        train_batches=train.epoch,
        steps=len(train),
        valid_batches=_validation(data, params, prepare, accelerator, draw),
        epochs=epochs,
        seed=seed,
        checkpoints=checkpoint_folder(STAGE, member, *ingredients),
        bounds=LossBounds(STAGE, member, len(data.labels), params),
        params=params,
        schedule=params.schedule,
        step=step,
        recordable=not _compares(params),
        proxies=proxies,
    )


def _scaled(record: BackboneRecord, device: torch.device) -> Prepare:
    """Return what makes network inputs of photos, in the size that the network sees where no other is asked for."""
    scaler = PhotoScaler(record.mean, record.std, device)
    return lambda photos, flipped, size: scaler(photos, flipped, size or record.seen_size)


def _refuse_small_photos(start: Start, params: FinetuneParams, epochs: int) -> None:
    """Refuse photos of the first epoch that the network cannot take, before anything is trained."""
    full = start.record.seen_size
    size = photo_size(full, params.schedule, 1, epochs)
    try:
        embedding_size(start.backbone, size, start.record.name)
    except FlukeprintError as error:
        if size == full:
            raise
        raise FlukeprintError(
            f"finetune.schedule.first_size is {params.schedule.first_size}, but {str(error).partition('. ')[0]}. "
            "Set it to 1, or choose another backbone."
        ) from None


def _model(
    data: TrainingData, start: Start, params: FinetuneParams, draw: ClassDraw
) -> tuple[nn.Module, Step, SampledProxies | None]:
    """Return the network with its loss, how a batch is run, and the proxies that the loss does not hold all at once."""
    if not params.metric:
        frozen = start.record.folded_batchnorm
        return Classifier(start.backbone, start.head, frozen_batchnorm=frozen), classification_step, None
    from flukeprint.learning import objectives

    targets, classes = data.train.targets, draw.classes
    if params.mirrored_ids:
        targets = np.concatenate([targets, targets + classes // 2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(draw.seed, "init"))
        embedder = Embedder(start.backbone, EmbedderSpec.of(params.embedding), start.record)
        loss = objectives.build_loss(params, targets, classes, embedder.features, draw.most)
        margins = objectives.class_margins(targets, classes, params.arcface)
        proxies = SampledProxies(loss, margins) if draw.samples else None
    miner, validation = objectives.build_miner(params.pairs), objectives.build_validation_loss(params)
    return objectives.MetricModel(embedder, loss, miner, validation), objectives.metric_step, proxies


def _compares(params: FinetuneParams) -> bool:
    """Tell whether the objective compares the photos of a batch with one another."""
    return params.metric and params.objective not in PROXY_OBJECTIVES


def _validation(
    data: TrainingData, params: FinetuneParams, prepare: Prepare, accelerator: Accelerator, draw: ClassDraw
) -> Callable[[], Iterator[Batch]] | None:
    """Return what yields the validation batches; None where there are no photos for them."""
    labelled = validation_pairs(data.train, data.valid) if _compares(params) else data.valid
    if not len(labelled.rows):
        return None
    photos = Batches(data.array, labelled, prepare, accelerator)
    # The same draw after every epoch, so that their losses can be compared.
    return lambda: photos.in_order(2 * params.batch_size, partial(draw.steps, epoch=0))


def trained_spread(job: EmbeddingJob, data: TrainingData) -> Spread | None:
    """Measure the spread of the embeddings of some training photos; None where they show one class only."""
    some = evenly(len(data.train.rows), _MEASURED)
    embeddings = embed(job, data.array[data.train.rows[some]], 1)[:, 0]
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return spread_of(embeddings / np.maximum(lengths, np.finfo(np.float32).tiny), data.train.targets[some])
