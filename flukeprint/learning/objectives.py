"""Losses of full fine-tuning: metric losses of pytorch-metric-learning, with margins by class size.

References: ArcFace (Deng et al. 2019), sub-centre ArcFace (Deng et al. 2020), triplet (Schroff et al. 2015),
contrastive (Hadsell et al. 2006); margins by class size as in the 1st place of Happywhale 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.utils.common_functions import TorchInitWrapper
from torch import distributed, nn
from torch.nn import functional

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.training_params import PROXY_OBJECTIVES, ArcFaceParams, FinetuneParams, PairParams
from flukeprint.learning.batches import Batch
from flukeprint.learning.synchronization import whole_batch

# Beyond this the gradient of the angle is infinite.
_LARGEST_COSINE = 1 - 1e-6


def class_margins(targets: NDArray[np.int64], classes: int, params: ArcFaceParams) -> NDArray[np.float32]:
    """Return each class's margin in radians, base + factor * n ** power for n training photos: float32, classes.

    A margin of pi or more, which no angle can keep, is a FlukeprintError.
    """
    counts = np.maximum(np.bincount(targets, minlength=classes), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        margins = params.margin_base + params.margin_factor * counts**params.margin_power
    if not (margins < np.pi).all():
        photos = counts[~(margins < np.pi)].max()
        raise FlukeprintError(
            f"finetune.arcface gives an individual of {photos} photos a margin of {margins[counts == photos][0]:g}, "
            f"expected radians below pi. finetune.arcface.margin_power is {params.margin_power:g}: lower it."
        )
    return np.asarray(margins, np.float32)


class _MarginByClass:
    """A margin of its own for each class, mixed into the library's ArcFace losses.

    `nearest` is the class of the nearest proxy, for each photo of the last batch.
    """

    nearest: torch.Tensor

    def __init__(self, margins: NDArray[np.float32], **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("margins", torch.from_numpy(margins), persistent=False)  # type: ignore[attr-defined]

    def compute_loss(self, embeddings: torch.Tensor, labels: torch.Tensor, *_: Any) -> Any:
        """Return what the library reduces; its own method waits for the GPU, and holds another array of all cosines."""
        cosines = self.get_cosine(embeddings)  # type: ignore[attr-defined]
        self.nearest = cosines.detach().argmax(1)
        own = labels.view(-1, 1)
        with_margins = self._with_margins(cosines.gather(1, own), self.margins[own])  # type: ignore[attr-defined]
        logits = self.scale_logits(cosines.scatter(1, own, with_margins), embeddings)  # type: ignore[attr-defined]
        each, indices = functional.cross_entropy(logits, labels, reduction="none"), torch.arange(len(labels))
        return {"loss": {"losses": each, "indices": indices, "reduction_type": "element"}}

    @staticmethod
    def _with_margins(cosines: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
        """Return cos(angle + margin), continued below so that it keeps falling: cos(angle) - margin sin(margin)."""
        cosines = cosines.clamp(-_LARGEST_COSINE, _LARGEST_COSINE)
        angles, beyond = torch.acos(cosines), cosines - margins * torch.sin(margins)
        return torch.where(angles <= torch.pi - margins, torch.cos(angles + margins), beyond)


class ArcFace(_MarginByClass, losses.ArcFaceLoss):  # type: ignore[misc]
    """ArcFace: one proxy per class."""


class SubCenterArcFace(_MarginByClass, losses.SubCenterArcFaceLoss):  # type: ignore[misc]
    """ArcFace with k proxies per class, of which the nearest counts."""


def build_loss(
    params: FinetuneParams, targets: NDArray[np.int64], classes: int, features: int, most: int | None = None
) -> Any:
    """Build the loss of an objective on embeddings, N x D (D is `features`), for the training photos' class indices.

    Its proxies, if it has any, are drawn from torch's global generator. It holds those of `most` classes, None: of all.
    """
    if params.objective not in PROXY_OBJECTIVES:
        return _pair_loss(params)
    options = {
        "margins": class_margins(targets, classes, params.arcface)[:most],
        "num_classes": most or classes,
        "embedding_size": features,
        "scale": params.arcface.scale,
        # Short vectors: Adam's steps have a fixed length, and turn short ones quickly.
        "weight_init_func": TorchInitWrapper(nn.init.normal_, std=0.01),
    }
    if params.objective == "subcenter_arcface":
        return SubCenterArcFace(sub_centers=params.arcface.subcenters, **options)
    return ArcFace(**options)


def _pair_loss(params: FinetuneParams, reducer: Any = None) -> Any:
    pairs = params.pairs
    options = {"distance": pair_distance(pairs.distance), "reducer": reducer}
    if params.objective == "triplet":
        return losses.TripletMarginLoss(margin=pairs.triplet_margin, **options)
    return losses.ContrastiveLoss(pairs.positive_margin, pairs.negative_margin, **options)


def build_validation_loss(params: FinetuneParams) -> Any:
    """Build the loss of validation photos: a pair loss over all pairs, None for an objective with proxies.

    The loss that is trained averages over the pairs that violate it: of a better network there are fewer, harder ones.
    """
    return None if params.objective in PROXY_OBJECTIVES else _pair_loss(params, reducers.MeanReducer())


def pair_distance(name: str) -> Any:
    """Build the distance between embeddings: cosine (a similarity, -1..1) or Euclidean, of unit vectors."""
    return distances.CosineSimilarity() if name == "cosine" else distances.LpDistance(power=1, p=2)


def build_miner(params: PairParams) -> Any:
    """Build the miner that chooses the pairs or triplets of a batch that count; None lets all of them count."""
    distance = pair_distance(params.distance)
    match params.miner:
        case "batch_hard":
            return miners.BatchHardMiner(distance=distance)
        case "semihard":
            return miners.TripletMarginMiner(params.triplet_margin, "semihard", distance=distance)
        case "multi_similarity":
            return miners.MultiSimilarityMiner(epsilon=0.1, distance=distance)
        case _:
            return None


class MetricModel(nn.Module):
    """An embedder and its loss in one module, so that DistributedDataParallel averages the proxies' gradients too."""

    def __init__(self, embedder: nn.Module, loss: Any, miner: Any = None, validation_loss: Any = None) -> None:
        super().__init__()
        self.embedder = embedder
        self.loss = loss
        self.miner = miner
        self.validation_loss = validation_loss

    def forward(self, photos: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean loss of a batch and how many of its photos are recognised.

        With proxies a photo is recognised if its class's proxy is the nearest; without, if the nearest other photo
        (cosine) in the batch shows the same class. In eval mode every pair counts and proxies have no margin. Photos
        are compared with those of all processes; the loss of pairs is their mean over the whole batch, in each process.
        """
        counted = targets >= 0
        embeddings = self.embedder(photos).float()
        if targets.device.type == "cpu" or distributed.is_initialized():
            # Else all count, and to look for those that do not would make a GPU wait.
            embeddings, targets = embeddings[counted], targets[counted]
        own, proxies = slice(None), hasattr(self.loss, "get_logits")
        if not proxies:
            embeddings, own = whole_batch(embeddings)
            targets, _ = whole_batch(targets)
        if not len(targets):
            return 0 * embeddings.sum(), counted.sum()
        # The losses' cosines and logits are too coarse in half precision.
        with torch.autocast(photos.device.type, enabled=False):
            loss, right = (self._with_proxies if proxies else self._in_pairs)(embeddings, targets)
        return loss, right[own].sum()

    def _with_proxies(self, embeddings: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.training:
            loss = self.loss(embeddings, targets)
            return loss, self.loss.nearest == targets
        logits = self.loss.get_logits(embeddings)
        return functional.cross_entropy(logits, targets), logits.argmax(1) == targets

    def _in_pairs(self, embeddings: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        directions = functional.normalize(embeddings.detach())
        similarity = (directions @ directions.T).fill_diagonal_(-torch.inf)
        right = targets[similarity.argmax(1)] == targets
        if not self.training:
            return (self.validation_loss or self.loss)(embeddings, targets), right
        mined = self.miner(embeddings, targets) if self.miner is not None else None
        return self.loss(embeddings, targets, mined), right


def metric_step(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of a batch's losses, and how many photos are recognised, as `training.Job` wants them."""
    loss, right = model(batch.inputs, batch.targets)
    return loss * (batch.targets >= 0).sum(), right
