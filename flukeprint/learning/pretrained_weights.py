"""Weights that come from outside the project: ImageNet's, or a file's."""

from __future__ import annotations

import pickle
import textwrap
from pathlib import Path

import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors
from flukeprint.learning.backbones import family_of
from flukeprint.learning.networks import State


def load_weights(backbone: nn.Module, weights: str, name: str, last_layer: str) -> None:
    """Fill the backbone `name` from `weights`: `imagenet`, `random` (left as built) or a path to a state dict.

    Weights that cannot be had or read, or belong to another network, are a FlukeprintError.
    """
    if weights == "random":
        return
    family = family_of(name)
    state = family.pretrained_weights(name) if weights == "imagenet" else read_state(Path(weights))
    surplus = (f"{last_layer}.", *family.SURPLUS)
    try:
        # A plain dict counts as one of torch's older checkpoints, which have no counters of BatchNorm's batches.
        backbone.load_state_dict({key: value for key, value in state.items() if not key.startswith(surplus)})
    except RuntimeError as error:
        faults = " ".join(str(error).split()).partition(": ")[2]
        raise FlukeprintError(
            f"the weights {weights!r} are not those of {name!r} of {family.TITLE}: {textwrap.shorten(faults, 400)}. "
            "Set backbone.name to the network that they were made for, or give other weights."
        ) from None


def read_state(path: Path) -> State:
    """Read a state dict from .safetensors or a torch file, without running code from it.

    Files may store half precision (float16, bfloat16); networks are trained in float32, so that is what comes back.
    """
    if not path.is_file():
        raise FlukeprintError(
            f"profiles.<profile>.backbone.weights is {str(path)!r}, but there is no such file. "
            "Give the path of a state dict with the key names of the network's library, or imagenet, or random."
        )
    state = read_safetensors(path)[0] if path.suffix == ".safetensors" else _read_torch_file(path)
    half = (torch.float16, torch.bfloat16)
    return {key: value.float() if value.dtype in half else value for key, value in state.items()}


def _read_torch_file(path: Path) -> State:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise FlukeprintError(
            f"{path} cannot be read as a state dict of tensors ({str(error).splitlines()[0]}). "
            "Files that hold anything but tensors are refused, since loading them would run code."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise FlukeprintError(
            f"{path} holds a {type(state).__name__}, expected a state dict of tensors. Save `network.state_dict()`."
        )
    return state
