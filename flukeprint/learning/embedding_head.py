"""The embedding head: pooling, a linear map and a BatchNorm neck on a backbone's last map of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.backbones import family_of
from flukeprint.learning.networks import OnBackbone
from flukeprint.learning.records import BackboneRecord

if TYPE_CHECKING:
    from flukeprint.core.training_params import EmbeddingParams


@dataclass(frozen=True)
class EmbedderSpec:
    """What must be known to build a network that fits saved weights."""

    pooling: str  # average: the backbone's own | gem
    gem_p: float
    dimension: int | None
    batchnorm_neck: bool
    l2: bool

    @classmethod
    def of(cls, params: EmbeddingParams) -> EmbedderSpec:
        """Read the params."""
        return cls(**params.model_dump())


class GeM(nn.Module):
    """Generalised-mean pooling with a learned power p: (mean over places of x^p)^(1/p) (Radenovic et al. 2018)."""

    def __init__(self, p: float, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return N x C for maps of features, N x C x H x W; values below eps count as eps."""
        # Powers of half-precision numbers overflow. Gradients of `pow` take twice as long as those of log and exp.
        powers = (self.p * maps.float().clamp(min=self.eps).log()).exp()
        pooled: torch.Tensor = powers.mean((2, 3)).pow(1 / self.p)
        return pooled


class Embedder(OnBackbone):
    """A backbone with its embedding head: N x 3 x H x W in, N x D out."""

    def __init__(self, backbone: nn.Module, spec: EmbedderSpec, record: BackboneRecord) -> None:
        width = record.features
        if spec.pooling == "gem":
            backbone, width = feature_map(backbone, record)
        super().__init__(backbone, frozen_batchnorm=record.folded_batchnorm)
        self.pool = GeM(spec.gem_p) if spec.pooling == "gem" else nn.Identity()
        self.projection = nn.Identity() if spec.dimension is None else nn.Linear(width, spec.dimension)
        self.features = width if spec.dimension is None else spec.dimension
        self.neck = nn.BatchNorm1d(self.features) if spec.batchnorm_neck else nn.Identity()
        self.l2 = spec.l2

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return embeddings, N x D; of length 1 with `l2`."""
        embeddings: torch.Tensor = self.neck(self.projection(self.pool(self.backbone(photos))))
        return functional.normalize(embeddings) if self.l2 else embeddings


def feature_map(backbone: nn.Module, record: BackboneRecord) -> tuple[nn.Module, int]:
    """Return the part of a backbone that gives maps, N x C x H x W, before its pooling, and C; refuse one without."""
    try:
        return family_of(record.name).feature_map(backbone, record.seen_size)
    except ValueError as error:
        raise FlukeprintError(
            f"finetune.embedding.pooling is gem, but backbone {record.name!r} {error}. "
            "Set it to average (the backbone's own pooling), or choose another backbone."
        ) from None
