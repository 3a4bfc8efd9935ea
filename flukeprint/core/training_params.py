"""The sections of params.yaml that say how networks are trained: `train`, `finetune`, `full_head`."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from flukeprint.core.param_types import BatchSize, Epochs, Float, Section, Share, SomeRows, UnitInterval

# Upper bounds are far above any published recipe's value: steps and decays beyond them leave no finite weights.
LearningRate = Annotated[Float, Field(gt=0, le=100)]
Decay = Annotated[Float, Field(ge=0, le=100)]
Angle = Annotated[Float, Field(ge=0, le=180)]
Radians = Annotated[Float, Field(ge=0, lt=math.pi)]
Margin = Annotated[Float, Field(ge=-1000, le=1000)]  # of similarities, or of distances of embeddings of any length

# Objectives that learn a vector for each class; the others compare the photos of a batch with one another.
PROXY_OBJECTIVES = ("arcface", "subcenter_arcface")


class TrainingParams(Section):
    """The loop of the reference procedure (docs/reference.md), with its constants."""

    optimizer: Literal["adam", "adamw", "sgd"]
    lr: LearningRate
    weight_decay: Decay
    batch_size: Annotated[BatchSize, Field(ge=2)]
    step_size: Epochs
    gamma: Annotated[Float, Field(gt=0, le=1)]
    flip: UnitInterval


class FullHeadParams(TrainingParams):
    """`full_head`: the head of every class, and how many classes are trained."""

    most_classes: SomeRows


class ScheduleParams(Section):
    """`finetune.schedule`: how the learning rates change, and what is kept of the training."""

    shape: Literal["step", "cosine"]
    warm_up: Share
    head_lr: LearningRate | None
    max_gradient: Annotated[Float, Field(gt=0, le=1e6)] | None
    ema: Share
    first_size: Annotated[Float, Field(gt=0, le=1)]
    full_size_at: UnitInterval
    keep: Literal["best", "last"]


class EmbeddingParams(Section):
    """`finetune.embedding`: from the backbone's last map of features to the embedding."""

    pooling: Literal["average", "gem"]
    gem_p: Annotated[Float, Field(ge=1, le=20)]  # higher powers of features overflow
    dimension: Annotated[int, Field(ge=2, le=65_536)] | None
    batchnorm_neck: bool
    l2: bool


class ArcFaceParams(Section):
    """`finetune.arcface`: scale and margins (radians: base + factor * n ** power for an individual of n photos)."""

    scale: Annotated[Float, Field(gt=0, le=1000)]
    margin_base: Radians
    margin_factor: Radians
    margin_power: Annotated[Float, Field(ge=-10, le=0)]  # the margin of one photo is the largest
    subcenters: Annotated[int, Field(ge=1, le=100)]
    most_classes: SomeRows


class PairParams(Section):
    """`finetune.pairs`: losses that compare the photos of a batch; names are pytorch-metric-learning's."""

    distance: Literal["cosine", "euclidean"]
    miner: Literal["none", "batch_hard", "semihard", "multi_similarity"]
    sampler: Literal["shuffle", "per_class"]
    per_class: Annotated[BatchSize, Field(ge=2)]
    triplet_margin: Annotated[Margin, Field(ge=0)]
    positive_margin: Margin
    negative_margin: Margin


class AugmentationParams(Section):
    """`finetune.augmentation`: random changes of every training photo, on the device."""

    rotate: Angle
    zoom: Share
    shear: Share
    shift: Share
    contrast: Share
    brightness: Share
    grey: UnitInterval
    erase: UnitInterval


class FinetuneParams(TrainingParams):
    """`finetune`: the loop, and what is learned with it."""

    epochs: Epochs | None
    on: Literal["small", "full"]
    min_photos: SomeRows
    objective: Literal["cross_entropy", "arcface", "subcenter_arcface", "triplet", "contrastive"]
    mirrored_ids: bool
    schedule: ScheduleParams
    embedding: EmbeddingParams
    arcface: ArcFaceParams
    pairs: PairParams
    augmentation: AugmentationParams

    @model_validator(mode="after")
    def _fits_together(self) -> FinetuneParams:
        """Refuse values that do not go together, by their whole keys."""
        pairs, embedding = self.pairs, self.embedding
        head = embedding.pooling == "gem" or embedding.dimension or embedding.batchnorm_neck or embedding.l2
        largest = self.arcface.margin_base + self.arcface.margin_factor
        if pairs.sampler == "per_class" and self.batch_size % pairs.per_class:
            multiple = f"no multiple of finetune.pairs.per_class {pairs.per_class}"
            raise ValueError(f"finetune.batch_size is {self.batch_size}, {multiple}")
        if not self.metric and (head or self.mirrored_ids):
            raise ValueError("finetune.objective is cross_entropy, which has no embedding head and no mirrored_ids")
        if self.mirrored_ids and pairs.sampler == "shuffle" and not 0 < self.flip < 1:
            raise ValueError(f"finetune.flip is {self.flip}, but mirrored_ids needs a value between 0 and 1")
        if largest >= math.pi:
            raise ValueError(f"finetune.arcface has a margin of {largest:g} for one photo, expected radians below pi")
        distances = self.objective == "contrastive" and pairs.distance == "euclidean"
        if distances and pairs.positive_margin >= pairs.negative_margin:
            raise ValueError(
                f"finetune.pairs.positive_margin is {pairs.positive_margin} and finetune.pairs.negative_margin "
                f"{pairs.negative_margin}: of distances, the first must be smaller"
            )
        return self

    @property
    def metric(self) -> bool:
        """Whether an embedding is learned rather than a classifier."""
        return self.objective != "cross_entropy"

    @property
    def starts_from_head(self) -> bool:
        """Whether training goes on with the head of stage `train`, which knows the classes of the small set."""
        return not self.metric and self.on == "small"
