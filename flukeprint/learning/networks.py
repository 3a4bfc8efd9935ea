"""What is built on a backbone and done to networks: a classifier, linear heads, freezing, fast inference."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.batchnorm_folding import fold_batchnorm

State = dict[str, torch.Tensor]

# Of single precision, times a few layers: embeddings closer than this share of their values are the same.
ROUNDING = 1e-5


class OnBackbone(nn.Module):
    """A network on a backbone, whose BatchNorm layers stay in eval mode in training if `frozen_batchnorm`.

    Those are the ones that follow no convolution which they could have been folded into.
    """

    def __init__(self, backbone: nn.Module, *, frozen_batchnorm: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen_batchnorm = frozen_batchnorm

    def train(self, mode: bool = True) -> Self:
        """Switch to training or, with False, to eval mode."""
        super().train(mode)
        for layer in batchnorms(self.backbone):
            layer.train(mode and not self.frozen_batchnorm)
        return self


class Classifier(OnBackbone):
    """A backbone and a linear head: normalised photos, N x 3 x H x W, in, logits, N x classes, out."""

    def __init__(self, backbone: nn.Module, head: nn.Linear, *, frozen_batchnorm: bool = False) -> None:
        super().__init__(backbone, frozen_batchnorm=frozen_batchnorm)
        self.head = head

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return logits, N x classes."""
        logits: torch.Tensor = self.head(self.backbone(photos))
        return logits


def batchnorms(network: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of a network."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]


def has_folded_batchnorm(network: nn.Module) -> bool:
    """Tell whether every BatchNorm has mean 0 and variance 1: its statistics were folded into the convolutions.

    A freshly built network looks the same, so the answer says something of trained weights only.
    """
    layers = batchnorms(network)
    statistics = [(layer.running_mean, layer.running_var) for layer in layers]
    # Folding tools leave a variance of 1 - eps, so that sqrt(var + eps) is exactly 1.
    return bool(layers) and all(
        mean is not None and var is not None and not mean.any() and bool(((var - 1).abs() < 2e-3).all())
        for mean, var in statistics
    )


def embedding_size(backbone: nn.Module, size: tuple[int, int], name: str) -> int:
    """Return D of a backbone's N x D output for photos of (height, width) px; refuse a size that it cannot take."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            return int(backbone(torch.zeros(1, 3, *size)).shape[1])
    except (RuntimeError, AssertionError, ValueError) as error:
        raise FlukeprintError(
            f"backbone {name!r} cannot take photos of {size[0]}x{size[1]} px ({error}). "
            "Change profiles.<profile>.image_size in params.yaml, or choose another backbone."
        ) from None
    finally:
        backbone.train(was_training)


def refuse_constant(backbone: nn.Module, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a backbone and the scaling of its inputs that tell a black, a white and a random photo not apart.

    Their embeddings have to differ by more than rounding, and to have a length: squares of small numbers vanish.
    """
    generator = np.random.default_rng(0)
    photos = np.stack([np.zeros((3, *size)), np.ones((3, *size)), generator.random((3, *size))])
    shape = (1, 3, 1, 1)
    with np.errstate(over="ignore", invalid="ignore"), torch.inference_mode():
        inputs = ((photos - np.reshape(mean, shape)) / np.reshape(std, shape)).astype(np.float32)
        embeddings = backbone.eval()(torch.from_numpy(inputs))
    length, apart = ((each**2).sum(1).amax() for each in (embeddings, embeddings - embeddings[0]))
    if not length.isfinite() or apart <= ROUNDING**2 * length:
        found = "the same embedding" if length.isfinite() else "embeddings that are not finite"
        raise FlukeprintError(
            f"the backbone gives a black, a white and a random photo {found}. Its inputs are scaled by "
            f"profiles.<profile>.backbone.mean {list(mean)} and std {list(std)}, of values from 0 to 1: set them to "
            "those of its weights. If they are, the weights (profiles.<profile>.backbone.weights) are unusable."
        )


def new_head(features: int, classes: int, seed: int) -> nn.Linear:
    """Build a linear layer features -> classes with torch's default initialisation from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(features, classes)


def freeze(network: nn.Module) -> nn.Module:
    """Make a network a constant: no gradients, and eval mode, so that BatchNorm statistics and dropout stand still."""
    return network.eval().requires_grad_(False)


def for_inference(backbone: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Return a copy in eval mode that computes the same faster, for photos of (height, width) px.

    BatchNorm is folded, and weights are channels_last.
    """
    # Folding looks at autograd's graph, which tensors made in inference mode never enter.
    with torch.inference_mode(mode=False):
        return fold_batchnorm(deepcopy(backbone), size).to(memory_format=torch.channels_last)


def parts_of(state: State) -> dict[str, State]:
    """Split a state dict by the first name of its keys: {"head.weight": w} gives {"head": {"weight": w}}."""
    parts: dict[str, State] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts
