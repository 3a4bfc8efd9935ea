"""Depthwise convolutions on a GPU without a wait for each size of photos.

cuDNN compiles its kernels for them anew for every shape, for about a second each; a network of a dozen waits eight
seconds for each size that photos grow through. Those in depthwise_kernels.py are compiled once.
"""

from __future__ import annotations

import logging
import os
import shutil
from importlib.util import find_spec

import torch
from torch import nn

logger = logging.getLogger(__name__)

# timm's, which pads as TensorFlow does: as many outputs as there are strides in the inputs, the odd row at the end.
_SAME = "Conv2dSame"
# Of these, Triton looks for one that compiles what launches its kernels (triton/runtime/build.py).
_COMPILERS = ("clang", "gcc", "cc")


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution on a GPU; `same` tells that it pads as TensorFlow does."""

    same: bool

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Convolve N x C x H x W, in the precision that autocast asks for."""
        from flukeprint.learning.depthwise_kernels import Depthwise

        if torch.is_autocast_enabled("cuda"):
            inputs = inputs.to(torch.get_autocast_dtype("cuda"))
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


def compiled_once(network: nn.Module, device: torch.device) -> nn.Module:
    """Have a GPU run the depthwise convolutions of a network by kernels for photos of any size; its state is the same.

    Elsewhere, and where they cannot be compiled, which is said, the network stays as it is.
    """
    layers = [layer for layer in network.modules() if _fits(layer)] if device.type == "cuda" else []
    if layers and not _compiles():
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
