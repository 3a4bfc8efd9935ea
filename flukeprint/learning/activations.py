"""Activations that compute what torch's do, in training, with less time and memory: for networks that work in place.

For its gradient torch keeps the input of an activation other than ReLU. In place there is none any more, so torch
copies it first: for MobileNetV2 that copies every second map of features of a step, and holds it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# They need their input for the gradient.
_COPYING = (nn.Hardsigmoid, nn.Hardswish, nn.Mish, nn.SiLU)


class _ClampInPlace(torch.autograd.Function):
    """ReLU6 in place: where its result is within the bounds, so was its input, and the result is all that is kept."""

    @staticmethod
    def forward(context: Any, inputs: torch.Tensor) -> torch.Tensor:
        context.mark_dirty(inputs)
        result = inputs.clamp_(0, 6)
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        (result,) = context.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, result, 0, 6)  # type: ignore[no-any-return]


class LeanReLU6(nn.ReLU6):
    """torch's ReLU6 in place, bit by bit, without the copy."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Clamp to 0..6."""
        if inputs.device.type == "cpu" and inputs.requires_grad:
            clamped: torch.Tensor = _ClampInPlace.apply(inputs)
            return clamped
        # On a GPU, where memory is fast, calling Python in the backward pass would cost more than it saves.
        return nn.functional.relu6(inputs)


def without_copies(network: nn.Module) -> nn.Module:
    """Make the activations of a network, in place, ones that copy nothing; results and state dict are the same."""
    for layer in network.modules():
        if type(layer) is nn.ReLU6 and layer.inplace:
            layer.__class__ = LeanReLU6
        elif isinstance(layer, _COPYING) and layer.inplace:
            layer.inplace = False
    return network
