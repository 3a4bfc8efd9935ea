"""Triton's kernels by its interpreter, on the CPU: how far results and gradients are from torch's, as JSON.

Run with TRITON_INTERPRET=1 in a process of its own, since Triton looks at that once.
"""

import json
import sys

import torch
from timm.layers import Conv2dSame
from torch import nn

from flukeprint.learning.depthwise import DepthwiseConv2d


class ByKernels(DepthwiseConv2d):
    def forward(self, inputs):
        return self._by_kernels(inputs)


CASES = {
    "3 by 3": (nn.Conv2d, 5, 3, 1, (6, 7)),
    "5 by 5, more channels than a tile has": (nn.Conv2d, 70, 5, 1, (4, 3)),
    "stride 2": (nn.Conv2d, 4, 3, 2, (9, 8)),
    "stride 2, 5 by 5": (nn.Conv2d, 4, 5, 2, (8, 9)),
    "as TensorFlow pads": (Conv2dSame, 4, 3, 2, (9, 8)),
    "as TensorFlow pads, 5 by 5": (Conv2dSame, 4, 5, 2, (8, 12)),
    "no bias": (nn.Conv2d, 3, 3, 1, (5, 5)),
}


def differences(kind, channels, side, stride, size, bias):
    torch.manual_seed(0)
    layer = kind(channels, channels, side, stride, 0 if kind is Conv2dSame else side // 2, groups=channels, bias=bias)
    photos = torch.randn(2, channels, *size, requires_grad=True)
    wanted = results(layer, photos)
    layer.same, layer.__class__ = kind is Conv2dSame, ByKernels
    return [float((own - other).abs().max()) for own, other in zip(results(layer, photos), wanted, strict=True)]


def results(layer, photos):
    """Return what a layer gives, and the gradients of its inputs and parameters."""
    output = layer(photos)
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output.detach(), *torch.autograd.grad(output, [photos, *layer.parameters()], gradient)]


if __name__ == "__main__":
    json.dump({name: differences(*case, bias=name != "no bias") for name, case in CASES.items()}, sys.stdout)
