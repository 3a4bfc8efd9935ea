"""Backbones of torchvision: any of its classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.backbones.published import Published

TITLE = "torchvision's classifiers"
# Auxiliary classifiers of Inception networks, which are built without them.
SURPLUS: tuple[str, ...] = ("AuxLogits.", "aux")


# What nearly all of torchvision's weights want, should one name nothing else.
_IMAGENET = Published(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(224, 224))


def knows(name: str) -> bool:
    """Tell whether a name is one of torchvision's classifiers."""
    return name in names()


def names() -> list[str]:
    """Return the names of torchvision's classifiers but MNASNet, which cannot be read back from safetensors.

    (It refuses state dicts without the version numbers that only torch's own files hold.)
    """
    import torchvision

    found = torchvision.models.list_models(module=torchvision.models)
    return [name for name in found if not name.startswith("mnasnet")]


def published(name: str) -> Published:
    """Return the scaling and size that the first published weights of a classifier want."""
    transforms = _weights(name).transforms()
    if not hasattr(transforms, "crop_size"):
        return _IMAGENET
    [side] = transforms.crop_size
    return Published(tuple(transforms.mean), tuple(transforms.std), (side, side))


def build(name: str, size: tuple[int, int], _: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """Build a classifier for photos of (height, width) px without its last layer, whose name is returned too."""
    import torchvision

    network: nn.Module = torchvision.models.get_model(name, weights=None, **_options(name, size))
    return network, _take_off_last_layer(network)


def _options(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the constructor's options that a classifier needs to serve as a plain embedding."""
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary heads would make the output a tuple in training.
        return {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_") and size[0] == size[1]:
        return {"image_size": size[0]}
    return {}


def _take_off_last_layer(network: nn.Module) -> str:
    """Replace the last linear layer by the identity and return its name (SqueezeNet ends in a 1x1 convolution)."""
    layers = [name for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    linear = [name for name in layers if isinstance(network.get_submodule(name), nn.Linear)]
    name: str = (linear or layers)[-1]
    network.set_submodule(name, nn.Identity())
    return name


def _weights(name: str) -> Any:
    """Return torchvision's record of the first published weights, as the reference procedure used."""
    import torchvision

    choices = torchvision.models.get_model_weights(name)
    return getattr(choices, "IMAGENET1K_V1", None) or choices.DEFAULT


def pretrained_weights(name: str, _: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Download torchvision's ImageNet weights."""
    chosen = _weights(name)
    try:
        state: dict[str, torch.Tensor] = chosen.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise FlukeprintError(
            f"torchvision's ImageNet weights of {name!r} could not be downloaded ({error}). "
            f"Either download {chosen.url} on another machine and set profiles.<profile>.backbone.weights "
            "to the file, or set it to random."
        ) from None
    return state


def feature_map(backbone: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Cut a backbone before its pooling and return the part that gives maps, N x C x H x W, with C.

    What a network does in training alone, such as stochastic depth, is lost by the cut. A ValueError says that layers
    with weights come after the pooling, that there is no average pooling, or that the control flow cannot be followed.
    """
    from torch import fx

    try:
        traced = fx.symbolic_trace(backbone.eval())
    except (fx.proxy.TraceError, TypeError) as error:
        raise ValueError(f"cannot be followed ({error})") from None
    nodes = list(traced.graph.nodes)
    pools = [index for index, node in enumerate(nodes) if _averages(node, traced)]
    if not pools:
        raise ValueError("has no average pooling")
    if skipped := [str(node.target) for node in nodes[pools[-1] + 1 :] if _has_weights(node, traced)]:
        raise ValueError(f"goes on with {', '.join(skipped)} after its pooling")
    nodes[-1].args = (nodes[pools[-1]].args[0],)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    with torch.no_grad():
        return traced, int(traced(torch.zeros(1, 3, *size)).shape[1])


def _averages(node: Any, traced: Any) -> bool:
    """Tell whether a node is an average over places, in one of the ways that torchvision writes it."""
    if node.op == "call_module":
        return isinstance(traced.get_submodule(node.target), nn.AdaptiveAvgPool2d)
    return node.target in (functional.adaptive_avg_pool2d, torch.mean, "mean")


def _has_weights(node: Any, traced: Any) -> bool:
    return node.op == "call_module" and any(True for _ in traced.get_submodule(node.target).parameters())
