"""BatchNorm folded into the convolutions before it: constants instead of statistics, and layers that cost nothing.

Which convolution a BatchNorm follows is seen from a run of the network, so that networks whose control flow cannot be
traced are folded as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

# By their exact class (the second one is timm's, with TensorFlow's padding): others change their weights as they run.
_CONVOLUTIONS = ("Conv2d", "Conv2dSame")


def fold_batchnorm(network: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Fold the running statistics of BatchNorm layers into the convolutions before them, in place, in eval mode.

    `size` is (height, width) in px of photos that the network takes. A layer that follows no convolution, or one whose
    output goes elsewhere too, stays. What else a layer does, such as timm's with their activation, stays as well.
    """
    for batchnorm, convolution in _pairs(network.eval(), size):
        _fold(network.get_submodule(convolution), network.get_submodule(batchnorm))  # type: ignore[arg-type]
        # timm's layers hold their activation; torch's own are left as an empty sequence, which changes nothing.
        network.set_submodule(batchnorm, nn.Sequential(*network.get_submodule(batchnorm).children()))
    return network


def _fold(convolution: nn.Conv2d, batchnorm: _BatchNorm) -> None:
    """Give a convolution the weights with which it computes what both layers did."""
    trained = convolution.weight.requires_grad
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, batchnorm.running_mean, batchnorm.running_var,  # type: ignore[arg-type]
        batchnorm.eps, batchnorm.weight, batchnorm.bias,
    )  # fmt: skip
    convolution.requires_grad_(trained)


def _pairs(network: nn.Module, size: tuple[int, int]) -> list[tuple[str, str]]:
    """Return the names of BatchNorm layers, each with that of the convolution whose output it alone takes."""
    ran: Counter[str] = Counter()
    convolutions: dict[object, str] = {}  # by the node of autograd's graph that made their output
    batchnorms: dict[str, object] = {}  # the node whose output they take

    def after_convolution(name: str, output: torch.Tensor) -> None:
        ran[name] += 1
        convolutions[output.grad_fn] = name

    def before_batchnorm(name: str, given: torch.Tensor) -> None:
        ran[name] += 1
        batchnorms[name] = given.grad_fn

    handles = []
    for name, layer in network.named_modules():
        if type(layer).__name__ in _CONVOLUTIONS:
            handles.append(layer.register_forward_hook(lambda *seen, name=name: after_convolution(name, seen[2])))
        elif isinstance(layer, _BatchNorm) and layer.running_var is not None:
            handles.append(layer.register_forward_pre_hook(lambda *seen, name=name: before_batchnorm(name, seen[1][0])))
    try:
        readers = _readers(network, size)
    finally:
        for handle in handles:
            handle.remove()
    return [
        (batchnorm, convolutions[node])
        for batchnorm, node in batchnorms.items()
        if node in convolutions and ran[batchnorm] == ran[convolutions[node]] == readers[node] == 1
    ]


def _readers(network: nn.Module, size: tuple[int, int]) -> Counter[object]:
    """Run a network on a photo and count how often each result is read, by the node of autograd's graph."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        photo = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        output = network(photo.requires_grad_())
    return Counter(_edges(output.grad_fn))


def _edges(node: object) -> Iterator[object]:
    """Yield the node that each edge of a graph leads to."""
    waiting, seen = [node], {node}
    while waiting:
        for following, _ in waiting.pop().next_functions:  # type: ignore[attr-defined]
            if following is not None:
                yield following
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
