"""Backbones of timm: its own networks (`timm/<name>`), and those of the Hugging Face hub (`hf-hub:<org>/<name>`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.backbones.published import Published

TITLE = "timm's networks"
OWN, HUB = "timm/", "hf-hub:"
# Heads of a second teacher, which networks without a last layer have not.
SURPLUS: tuple[str, ...] = ("head_dist.",)
_REPAIR = (
    "Either download the weights on another machine and set profiles.<profile>.backbone.weights to the file and "
    f"backbone.name to {OWN}<its architecture>, or set backbone.weights to random."
)


def knows(name: str) -> bool:
    """Tell whether a name is one of timm's, or may be one of the hub's: who is there only the hub knows."""
    if name.startswith(HUB):
        return name.count("/") == 1
    if not name.startswith(OWN):
        return False
    import timm

    return bool(timm.is_model(name.removeprefix(OWN)))


def names() -> list[str]:
    """Return timm's networks; those of the hub cannot be listed."""
    import timm

    return [f"{OWN}{name}" for name in timm.list_models()]


def published(name: str) -> Published:
    """Return the scaling and size of timm's own record of a network, or the hub's, which says how it is built too."""
    import timm

    if not name.startswith(HUB):
        return _published(asdict(timm.get_pretrained_cfg(name.removeprefix(OWN)) or timm.models.PretrainedCfg()), {})
    from timm.models import _hub

    with _Downloading(name):
        given, architecture, arguments = _hub.load_model_config_from_hf(name.removeprefix(HUB))
        return _published(given, {"architecture": architecture, **(arguments or {})})


def _published(config: Mapping[str, Any], options: Mapping[str, Any]) -> Published:
    height, width = config["input_size"][1:]
    return Published(tuple(config["mean"]), tuple(config["std"]), (height, width), options)


def build(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """Build a network for photos of (height, width) px without its last layer, whose name is returned too."""
    import timm

    own = {key: value for key, value in options.items() if key != "architecture"}
    architecture = options.get("architecture", name.removeprefix(OWN))
    network: nn.Module = timm.create_model(architecture, num_classes=0, **{**own, **_sized(architecture, size)})
    last = network.pretrained_cfg.get("classifier") or "classifier"  # type: ignore[union-attr, operator]
    return network, last if isinstance(last, str) else last[0]


def _sized(architecture: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the constructor's option of networks that are built for one size."""
    import timm

    config = timm.get_pretrained_cfg(architecture)
    return {"img_size": size} if config is not None and config.fixed_input_size else {}


def pretrained_weights(name: str, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Download the weights that timm names, or the hub's, as timm's loader fits them to photos of a size."""
    import timm

    with _Downloading(name):
        options = published(name).options
        sized = _sized(options.get("architecture", name.removeprefix(OWN)), size)
        network = timm.create_model(name.removeprefix(OWN), pretrained=True, num_classes=0, **sized)
    state: dict[str, torch.Tensor] = network.state_dict()
    return state


class _Downloading:
    """Turns the faults of timm's and the hub's clients into a FlukeprintError that names the network."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Nothing has to be prepared."""

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: Any) -> None:
        """Raise a FlukeprintError in place of a fault of the network, of the hub, or of a file that is no tensors."""
        if isinstance(fault, UnpicklingError):
            raise FlukeprintError(
                f"the weights published as {self.name!r} hold other things than tensors, which could run code, and are "
                "refused. Choose another backbone.name."
            ) from None
        if isinstance(fault, KeyError):
            fault = ValueError(f"its record has no {fault}")
        # A ValueError is of a name that the hub cannot have, or of a record that is none.
        if isinstance(fault, (OSError, RuntimeError, ValueError)):
            said = " ".join(str(fault).split())
            raise FlukeprintError(f"{self.name!r} could not be downloaded ({said}). {_REPAIR}") from None


class _Maps(nn.Module):
    """A network of timm up to its pooling."""

    def __init__(self, network: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.network = network
        self.channels_last = channels_last

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return maps of features, N x C x H x W."""
        maps: torch.Tensor = self.network.forward_features(photos)  # type: ignore[operator]
        return maps.permute(0, 3, 1, 2) if self.channels_last else maps


def feature_map(backbone: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, int]:
    """Return the part of a network that gives maps, N x C x H x W, and C.

    A ValueError says that it gives no maps, or does more after them than average over places.
    """
    maps = _Maps(backbone, channels_last=getattr(backbone, "output_fmt", "NCHW") == "NHWC").eval()
    photos = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, embeddings = backbone.forward_features(photos), backbone(photos)  # type: ignore[operator]
        if found.dim() != 4:
            raise ValueError(f"gives features of {found.dim()} dimensions, no maps")
        found = maps(photos)
        averages = found.mean((2, 3))
    if averages.shape != embeddings.shape or not torch.allclose(averages, embeddings, rtol=1e-3, atol=1e-4):
        raise ValueError("does more after its last maps than average over places")
    return maps, int(found.shape[1])
