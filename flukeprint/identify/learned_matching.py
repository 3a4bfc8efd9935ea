"""Local matching by networks: ALIKED finds keypoints (Zhao 2023), LightGlue pairs them (Lindenberger 2023).

Both are built by kornia, without weights, and filled from files that somebody gives: nothing is downloaded.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.pretrained_weights import read_state
from flukeprint.retrieval.local_matching import Keypoints

if TYPE_CHECKING:
    from torch import nn

# The kind of ALIKED, the most keypoints of a picture (its strongest), and the numbers of a descriptor.
_KIND, _KEYPOINTS, _NUMBERS = "aliked-n16", 512, 128
_OPTION = "--local-networks"
_REPAIR = (
    f"{_OPTION} wants the weights of {_KIND} and of LightGlue for ALIKED, as their authors publish them or in "
    "safetensors. Files that hold anything but tensors are refused, since loading them would run code."
)
# Older files name the layers of attention by their kind first.
_OLD_NAME = re.compile(r"^(self|cross)_attn\.(\d+)\.")
# Follows from other values, and files have it or not.
_DERIVED = "confidence_thresholds"


class LightGlueMatcher:
    """Keypoints of ALIKED, paired by LightGlue."""

    def __init__(self, keypoints: Path, pairing: Path) -> None:
        """Build both networks and fill them from their files; needs kornia (extra `local`) and torch.

        Raises:
            FlukeprintError: a file is missing, holds other things than tensors, or is of another network.
        """
        from kornia.feature import ALIKED, LightGlue

        self._aliked = _filled(ALIKED(_KIND, _KEYPOINTS, detection_threshold=0), keypoints)
        self._lightglue = _filled(LightGlue(features=None, input_dim=_NUMBERS), pairing)

    def describe(self, picture: NDArray[np.uint8]) -> Keypoints:
        """Return the keypoints of a picture, H x W x 3 in RGB."""
        import torch

        pixels = torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32) / 255)[None]
        with torch.inference_mode():
            [found] = self._aliked(pixels)
        return Keypoints(found.keypoints.numpy(), found.descriptors.numpy(), (picture.shape[1], picture.shape[0]))

    def pairs(self, one: Keypoints, other: Keypoints) -> NDArray[np.int64]:
        """Return which keypoints of two pictures may be the same spot, P x 2."""
        import torch

        if min(len(one.points), len(other.points)) < 2:
            return np.zeros((0, 2), np.int64)
        both = {
            f"image{place}": {
                "keypoints": torch.from_numpy(own.points)[None],
                "descriptors": torch.from_numpy(own.descriptors)[None],
                "image_size": torch.tensor([own.size]),
            }
            for place, own in enumerate((one, other))
        }
        with torch.inference_mode():
            found = self._lightglue(both)
        return np.asarray(found["matches"][0].numpy(), np.int64)


def _filled(network: nn.Module, path: Path) -> nn.Module:
    """Fill a network from a file, and make it ready to answer."""
    if not path.exists():
        raise FlukeprintError(f"{_OPTION}: there is no file {str(path)!r}. {_REPAIR}")
    state = {_OLD_NAME.sub(r"transformers.\2.\1_attn.", key): value for key, value in read_state(path, _REPAIR).items()}
    state.pop(_DERIVED, None)
    derived = {key: value for key, value in network.state_dict().items() if key in (_DERIVED, "dkd.hw_grid")}
    try:
        network.load_state_dict(derived | state)
    except RuntimeError as error:
        faults = textwrap.shorten(" ".join(str(error).split()).partition(": ")[2], 300)
        raise FlukeprintError(f"{path} holds the weights of another network: {faults}. {_REPAIR}") from None
    return network.eval()
