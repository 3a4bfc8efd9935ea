"""The embedding head: pooling, a linear map and a BatchNorm neck on a backbone's last map of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.networks import batchnorms

if TYPE_CHECKING:
    from flukeprint.core.training_params import EmbeddingParams
    from flukeprint.learning.records import BackboneRecord


@dataclass(frozen=True)
class EmbedderSpec:
    """What must be known to build a network that fits saved weights."""

    pooling: str  # average: the backbone's own | gem
    gem_p: float
    dimension: int | None
    batchnorm_neck: bool
    l2: bool
    fused: bool  # folded BatchNorm layers were taken out

    @classmethod
    def of(cls, params: EmbeddingParams, record: BackboneRecord) -> EmbedderSpec:
        """Read the params; identities that folding left behind are taken out, which makes training a third faster."""
        return cls(**params.model_dump(), fused=record.folded_batchnorm)


class GeM(nn.Module):
    """Generalised-mean pooling with a learned power p: (mean over places of x^p)^(1/p) (Radenovic et al. 2018)."""

    def __init__(self, p: float, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))
        self.eps = eps

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return N x C for maps of features, N x C x H x W; values below eps count as eps."""
        # Powers of half-precision numbers overflow.
        pooled: torch.Tensor = maps.float().clamp(min=self.eps).pow(self.p).mean((2, 3)).pow(1 / self.p)
        return pooled


class Embedder(nn.Module):
    """A backbone with its embedding head: N x 3 x H x W in, N x D out."""

    def __init__(self, backbone: nn.Module, spec: EmbedderSpec, record: BackboneRecord) -> None:
        super().__init__()
        width = record.features
        if spec.fused:
            backbone = _fused(backbone)
        if spec.pooling == "gem":
            backbone, width = feature_map(backbone, record)
        self.backbone = backbone
        self.pool = GeM(spec.gem_p) if spec.pooling == "gem" else nn.Identity()
        self.projection = nn.Identity() if spec.dimension is None else nn.Linear(width, spec.dimension)
        self.features = width if spec.dimension is None else spec.dimension
        self.neck = nn.BatchNorm1d(self.features) if spec.batchnorm_neck else nn.Identity()
        self.l2 = spec.l2
        self.frozen_batchnorm = record.folded_batchnorm

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return embeddings, N x D; of length 1 with `l2`."""
        embeddings: torch.Tensor = self.neck(self.projection(self.pool(self.backbone(photos))))
        return functional.normalize(embeddings) if self.l2 else embeddings

    def train(self, mode: bool = True) -> Embedder:
        """Switch to training; the backbone's BatchNorm stays in eval mode where its statistics are folded."""
        super().train(mode)
        if self.frozen_batchnorm:
            for layer in batchnorms(self.backbone):
                layer.eval()
        return self


def _fused(backbone: nn.Module) -> nn.Module:
    """Take BatchNorm layers out whose statistics are folded: what they still do moves into the convolutions."""
    from torch.fx.experimental import optimization

    fused: nn.Module = optimization.fuse(backbone.eval())
    return fused.requires_grad_(True)


def feature_map(backbone: nn.Module, record: BackboneRecord) -> tuple[nn.Module, int]:
    """Cut a backbone before its pooling and return the part that gives maps, N x C x H x W, with C.

    What a network does in training alone, such as stochastic depth, is lost by the cut.

    Raises:
        FlukeprintError: layers with weights come after the pooling, so pooling otherwise would skip them; or there is
            no average pooling; or the network's control flow cannot be followed.

    """
    from torch import fx

    try:
        traced = fx.symbolic_trace(backbone.eval())
    except (fx.proxy.TraceError, TypeError) as error:
        raise _no_map(record.name, f"cannot be followed ({error})") from None
    pools = [node for node in traced.graph.nodes if _averages(node, traced)]
    if not pools:
        raise _no_map(record.name, "has no average pooling")
    if skipped := _weighted_after(traced, pools[-1]):
        raise _no_map(record.name, f"goes on with {', '.join(skipped)} after its pooling")
    [output] = [node for node in traced.graph.nodes if node.op == "output"]
    output.args = (pools[-1].args[0],)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    with torch.no_grad():
        return traced, int(traced(torch.zeros(1, 3, *record.size)).shape[1])


def _no_map(name: str, reason: str) -> FlukeprintError:
    return FlukeprintError(
        f"finetune.embedding.pooling is gem, but backbone {name!r} {reason}. "
        "Set it to average (the backbone's own pooling), or choose another backbone."
    )


def _averages(node: Any, traced: Any) -> bool:
    """Tell whether a node is an average over places, in one of the ways that torchvision writes it."""
    if node.op == "call_module":
        return isinstance(traced.get_submodule(node.target), nn.AdaptiveAvgPool2d)
    return node.target in (functional.adaptive_avg_pool2d, torch.mean, "mean")


def _weighted_after(traced: Any, pool: Any) -> list[str]:
    """Return the names of the modules after a node that have weights."""
    nodes = list(traced.graph.nodes)
    after = [node for node in nodes[nodes.index(pool) + 1 :] if node.op == "call_module"]
    return [str(node.target) for node in after if any(True for _ in traced.get_submodule(node.target).parameters())]
