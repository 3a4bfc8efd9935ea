"""Networks: any torchvision classifier as a backbone, a linear head, and how they are frozen, loaded and saved."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator

State = dict[str, torch.Tensor]
# The two layer types that end torchvision's classifiers (SqueezeNet ends in a 1x1 convolution).
_LAST_LAYERS = (nn.Linear, nn.Conv2d)


class Classifier(nn.Module):
    """A backbone and a linear head: uint8-free, normalised N x 3 x H x W in, N x classes logits out."""

    def __init__(self, backbone: nn.Module, head: nn.Linear, *, frozen_batchnorm: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen_batchnorm = frozen_batchnorm

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return logits, N x classes."""
        logits: torch.Tensor = self.head(self.backbone(photos))
        return logits

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training; BatchNorm stays in eval mode where its statistics are folded into the weights."""
        super().train(mode)
        if self.frozen_batchnorm:
            for layer in batchnorms(self):
                layer.eval()
        return self


def classifier_names() -> list[str]:
    """Return the names that `backbone.name` may have: torchvision's classifiers."""
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def build_backbone(name: str, size: tuple[int, int], seed: int) -> tuple[nn.Module, str]:
    """Build a torchvision classifier without its last layer, randomly initialised.

    Args:
        name: one of `classifier_names()`.
        size: (height, width) in px of its input.
        seed: of the initialisation; the global generator is left as it was.

    Returns:
        The network (N x 3 x H x W -> N x D) and the name of the layer that was taken off.

    Raises:
        FlukeprintError: an unknown name.

    """
    import torchvision

    if name not in classifier_names():
        raise FlukeprintError(
            f"backbone.name is {name!r}; torchvision's classifiers are {', '.join(classifier_names())}. "
            "Set profiles.<profile>.backbone.name in params.yaml to one of these."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.get_model(name, weights=None, **_options(name, size))
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
    """Replace the last linear (or classifying convolution) layer by the identity and return its name."""
    layers = [name for name, layer in network.named_modules() if isinstance(layer, _LAST_LAYERS)]
    linear = [name for name in layers if isinstance(network.get_submodule(name), nn.Linear)]
    name: str = (linear or layers)[-1]
    owner, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(owner), attribute, nn.Identity())
    return name


def embedding_size(backbone: nn.Module, size: tuple[int, int], name: str) -> int:
    """Return D of the backbone's N x D output for photos of `size`; refuse a size that it cannot take."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            output = backbone(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise FlukeprintError(
            f"backbone {name!r} cannot take photos of {size[0]}x{size[1]} px ({error}). "
            "Change profiles.<profile>.image_size in params.yaml, or choose another backbone."
        ) from None
    finally:
        backbone.train(was_training)
    return int(output.shape[1])


def load_weights(backbone: nn.Module, weights: str, name: str, last_layer: str) -> None:
    """Fill a backbone from `weights`: `imagenet`, `random` (left as built) or a path to a state dict.

    Raises:
        FlukeprintError: the weights cannot be had or read, or belong to another network.

    """
    if weights == "random":
        return
    state = imagenet_weights(name) if weights == "imagenet" else read_state(Path(weights))
    wanted = backbone.state_dict()
    found = {key: value for key, value in state.items() if not key.startswith((f"{last_layer}.", "AuxLogits.", "aux"))}
    faults = _mismatches(wanted, found)
    if faults:
        raise FlukeprintError(
            f"the weights {weights!r} are not those of torchvision's {name!r}: {'; '.join(faults[:5])}"
            f"{f'; and {len(faults) - 5} more' if len(faults) > 5 else ''}. "
            "Set backbone.name to the network that they were made for, or give other weights."
        )
    backbone.load_state_dict(found)


def _mismatches(wanted: State, found: State) -> list[str]:
    """List missing keys, unknown keys and keys of another shape."""
    # torch's older checkpoints have no counters of BatchNorm batches; nothing depends on them.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    unknown = [key for key in found if key not in wanted]
    shapes = [key for key in wanted if key in found and wanted[key].shape != found[key].shape]
    for key in wanted:
        if key not in found and key.endswith("num_batches_tracked"):
            found[key] = wanted[key]
    return (
        [f"{key} is missing" for key in missing]
        + [f"{key} is unknown" for key in unknown]
        + [f"{key} is {tuple(found[key].shape)}, expected {tuple(wanted[key].shape)}" for key in shapes]
    )


def imagenet_weights(name: str) -> State:
    """Fetch torchvision's own ImageNet weights, the first published ones, as the reference procedure used."""
    import torchvision

    choices = torchvision.models.get_model_weights(name)
    chosen = getattr(choices, "IMAGENET1K_V1", None) or choices.DEFAULT
    try:
        state: State = chosen.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise FlukeprintError(
            f"torchvision's ImageNet weights of {name!r} could not be downloaded ({error}). "
            f"Either download {chosen.url} on another machine and set profiles.<profile>.backbone.weights "
            "to the file, or set it to random."
        ) from None
    return state


def read_state(path: Path) -> State:
    """Read a state dict from .safetensors or a torch file, without running code from it.

    Files may store half precision (float16, bfloat16); networks are trained in float32, so that is what comes back.
    """
    if not path.is_file():
        raise FlukeprintError(
            f"profiles.<profile>.backbone.weights is {str(path)!r}, but there is no such file. "
            "Give the path of a state dict with torchvision's key names, or imagenet, or random."
        )
    if path.suffix == ".safetensors":
        return _single_precision(read_safetensors(path)[0])
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise FlukeprintError(
            f"{path} cannot be read as a state dict of tensors ({str(error).splitlines()[0]}). "
            "Files that hold anything but tensors are refused, since loading them would run code."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FlukeprintError(f"{path} holds a {type(state).__name__}, expected a state dict of tensors.")
    return _single_precision(state)


def _single_precision(state: State) -> State:
    """Convert tensors of half precision to float32; leave the others, such as counters, as they are."""
    half = (torch.float16, torch.bfloat16)
    return {key: value.float() if value.dtype in half else value for key, value in state.items()}


def batchnorms(network: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """Give the BatchNorm layers of a network."""
    return (layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))


def has_folded_batchnorm(network: nn.Module) -> bool:
    """Tell whether every BatchNorm is the identity: mean 0, variance 1, scale 1.

    Then its statistics were folded into the convolutions, and normalising by those of a batch
    would destroy the weights. (A freshly built network looks the same: ask only for trained weights.)
    """
    layers = list(batchnorms(network))
    return bool(layers) and all(
        layer.running_mean is not None
        and layer.running_var is not None
        and bool(torch.all(layer.running_mean == 0))
        # Folding tools leave 1 - eps, so that sqrt(var + eps) is exactly 1.
        and bool(torch.allclose(layer.running_var, torch.ones_like(layer.running_var), atol=2e-3))
        for layer in layers
    )


def new_head(features: int, classes: int, seed: int) -> nn.Linear:
    """Build a linear layer features -> classes with torch's default initialisation from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(features, classes)


def freeze(network: nn.Module) -> nn.Module:
    """Make a network a constant: no gradients, and eval mode, so that BatchNorm statistics and dropout stand still."""
    return network.eval().requires_grad_(False)


def for_inference(backbone: nn.Module) -> nn.Module:
    """Return a copy in eval mode that computes the same faster: BatchNorm folded, channels_last."""
    from torch.fx.experimental import optimization
    from torch.fx.proxy import TraceError

    backbone = backbone.eval()
    try:
        backbone = optimization.fuse(backbone)
    except (TraceError, TypeError, ValueError, KeyError, NotImplementedError):
        # Networks whose control flow cannot be traced run as they are.
        return backbone.to(memory_format=torch.channels_last)
    return backbone.to(memory_format=torch.channels_last)
