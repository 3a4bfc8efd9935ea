"""Depthwise convolutions where torch's are slow: on a GPU for each new size of photos, on a CPU in bfloat16.

cuDNN compiles its kernels for them anew for every shape, for about a second each; a network of a dozen waits eight
seconds for each size that photos grow through. Those in depthwise_kernels.py are compiled once. On a CPU, oneDNN has
fast gradients of few shapes in bfloat16, and of all of them in single precision.
"""

from __future__ import annotations

import logging
import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

# timm's, which pads as TensorFlow does: as many outputs as there are strides in the inputs, the odd row at the end.
_SAME = "Conv2dSame"
# Of these, Triton looks for one that compiles what launches its kernels (triton/runtime/build.py).
_COMPILERS = ("clang", "gcc", "cc")


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution of N x C x H x W in the precision of autocast; `same`: it pads as TensorFlow does."""

    same: bool

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve each channel by itself."""
        device = inputs.device.type
        if torch.is_autocast_enabled(device):
            inputs = inputs.to(torch.get_autocast_dtype(device))
        return self._on_cpu(inputs) if device == "cpu" else self._by_kernels(inputs)

    def _by_kernels(self, inputs: torch.Tensor) -> torch.Tensor:
        from flukeprint.learning.depthwise_kernels import Depthwise

        rows, columns = (self._placed(side, inputs.shape[2 + side]) for side in (0, 1))
        edge, shape = zip(rows, columns, strict=True)
        result: torch.Tensor = Depthwise.apply(inputs, self.weight, self.bias, self.stride[0], edge, shape)
        return result

    def _placed(self, side: int, length: int) -> tuple[int, int]:
        """Return how far the first output looks over the edge of a side, and how many outputs there are along it."""
        kernel, stride = self.kernel_size[side], self.stride[side]
        if self.same:
            outputs = -(-length // stride)
            return max((outputs - 1) * stride + kernel - length, 0) // 2, outputs
        padding = int(self.padding[side])
        return padding, (length + 2 * padding - kernel) // stride + 1

    def _on_cpu(self, inputs: torch.Tensor) -> torch.Tensor:
        from timm.layers.padding import pad_same

        padded = pad_same(inputs, list(self.kernel_size), list(self.stride)) if self.same else inputs
        result: torch.Tensor = _GradientsInSingle.apply(padded, self.weight, self.bias, self.stride, self.padding)
        return result


class _GradientsInSingle(torch.autograd.Function):
    """torch's depthwise convolution, whose gradients are computed in single precision."""

    @staticmethod
    def forward(
        context: Any,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        context.save_for_backward(inputs, weights)
        context.stride, context.padding, context.biased = stride, padding, bias is not None
        rounded = None if bias is None else bias.to(inputs.dtype)
        return nn.functional.conv2d(inputs, weights.to(inputs.dtype), rounded, stride, padding, 1, len(weights))

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, weights = context.saved_tensors
        number, wanted = len(weights), [*context.needs_input_grad[:2], context.biased and context.needs_input_grad[2]]
        of_inputs, of_weights, of_bias = torch.ops.aten.convolution_backward(
            gradient.float(), inputs.float(), weights.to(inputs.dtype).float(), [number],
            context.stride, context.padding, [1, 1], False, [0, 0], number, wanted,
        )  # fmt: skip
        return None if of_inputs is None else of_inputs.to(inputs.dtype), of_weights, of_bias, None, None


def fast_depthwise(network: nn.Module, accelerator: Accelerator) -> nn.Module:
    """Run the depthwise convolutions of a network, in place, by those of this module; its state is the same.

    In single precision on a CPU, and on a GPU whose kernels cannot be compiled, which is said, it stays as it is.
    """
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and accelerator.mixed_precision != "bf16":
        return network
    layers = [layer for layer in network.modules() if _fits(layer)]
    if layers and not on_cpu and not _compiles():
        logger.warning(
            "depthwise convolutions are compiled anew for every size of photos, which takes seconds each: install "
            "triton and a C compiler (%s, or the one that CC names) to avoid it",
            ", ".join(_COMPILERS),
        )
        return network
    for layer in layers:
        layer.same, layer.__class__ = type(layer).__name__ == _SAME, DepthwiseConv2d  # type: ignore[assignment]
    return network


def _compiles() -> bool:
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, _COMPILERS)), None)
    return find_spec("triton") is not None and compiler is not None


def _fits(layer: nn.Module) -> bool:
    """Tell whether a layer convolves each channel by itself, by a square of weights, zeros around the photo."""
    if not isinstance(layer, nn.Conv2d) or type(layer).__name__ not in ("Conv2d", _SAME):
        return False
    alike = len(set(layer.kernel_size)) == len(set(layer.stride)) == 1 and set(layer.dilation) == {1}
    apart = 1 < layer.groups == layer.in_channels == layer.out_channels
    return alike and apart and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
