"""Weights that come from outside the project: ImageNet's, or a file's."""

from __future__ import annotations

import mmap
import textwrap
import zipfile
from pathlib import Path

import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors, reading
from flukeprint.learning.backbones import family_of
from flukeprint.learning.networks import State

# Words of `backbone.weights` for those published under the network's name: of most they are ImageNet's.
PUBLISHED = ("imagenet", "pretrained")
_REPAIR = (
    "Set profiles.<profile>.backbone.weights to a file that `torch.save(network.state_dict(), ...)` or safetensors "
    "wrote. Files that hold anything but tensors are refused, since loading them would run code."
)


def load_weights(backbone: nn.Module, weights: str, name: str, last_layer: str, size: tuple[int, int]) -> None:
    """Fill the backbone `name` from `weights`: one of PUBLISHED, `random` (left as built) or a path to a state dict.

    Weights that cannot be had or read, or belong to another network, are a FlukeprintError.
    """
    if weights == "random":
        return
    family = family_of(name)
    state = family.pretrained_weights(name, size) if weights in PUBLISHED else read_state(Path(weights))
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


def read_state(path: Path, repair: str = _REPAIR) -> State:
    """Read a state dict from .safetensors or a torch file, without running code from it.

    Files may store half precision (float16, bfloat16); networks are trained in float32, so that is what comes back.
    """
    if not path.exists():
        raise FlukeprintError(
            f"profiles.<profile>.backbone.weights is {str(path)!r}, but there is no such file. "
            "Give the path of a state dict with the key names of the network's library, or pretrained, or random."
        )
    state = read_safetensors(path, repair)[0] if path.suffix == ".safetensors" else _read_torch_file(path, repair)
    half = (torch.float16, torch.bfloat16)
    return {key: value.float() if value.dtype in half else value for key, value in state.items()}


def _read_torch_file(path: Path, repair: str) -> State:
    with reading(path, "a state dict of tensors", repair):
        size = path.stat().st_size
        _refuse_bombs(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError(f"it holds a {type(state).__name__}, expected a state dict of tensors")
        if (unpacked := sum(value.numel() * value.element_size() for value in state.values())) > 2 * size:
            raise ValueError(f"{size} bytes would unpack to {unpacked} (decompression bomb?)")
        return state


def _refuse_bombs(path: Path) -> None:
    """Refuse what torch.load would unpack without asking: compressed entries, and bytes made by their number alone."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type or entry.file_size > entry.compress_size for entry in archive.infolist()):
                raise ValueError("its entries are compressed, which torch.save never does")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"bytearray") >= 0:
            raise ValueError("it holds a bytearray")
