"""The localiser: a small network that finds the fluke in a photo, and tells whether it stands upside down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors, reading, write_safetensors
from flukeprint.data.fluke_boxes import DIGITS
from flukeprint.learning.backbones import family_of
from flukeprint.learning.network_files import built
from flukeprint.learning.networks import OnBackbone, State, freeze
from flukeprint.learning.records import BackboneRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Channels that a place of the map is described by, and units between the map and the answer. Few: there are some
# hundred boxes to learn from.
CHANNELS, UNITS = 64, 128


class Localiser(OnBackbone):
    """A backbone's last map of features, and a head that sees it as a whole, places and all.

    Normalised photos, N x 3 x H x W, in; N x 6 out: a box as shares of the photo, then two logits: that there is a
    fluke, and that it stands upside down.
    """

    def __init__(self, backbone: nn.Module, record: BackboneRecord) -> None:
        maps, channels = _feature_map(backbone, record)
        super().__init__(maps, frozen_batchnorm=record.folded_batchnorm)
        with torch.no_grad():
            height, width = maps(torch.zeros(1, 3, *record.size)).shape[2:]
        self.head = nn.Sequential(
            nn.Conv2d(channels, CHANNELS, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(CHANNELS * height * width, UNITS),
            nn.ReLU(),
            nn.Linear(UNITS, 6),
        )

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return boxes and logits, N x 6."""
        answers = self.head(self.backbone(photos))
        centre, half = answers[:, :2].sigmoid(), answers[:, 2:4].sigmoid() / 2
        return torch.cat([centre - half, centre + half, answers[:, 4:]], dim=1)


def _feature_map(backbone: nn.Module, record: BackboneRecord) -> tuple[nn.Module, int]:
    try:
        return family_of(record.name).feature_map(backbone, record.size)
    except ValueError as error:
        raise FlukeprintError(
            f"localize.backbone.name is {record.name!r}, which {error}, so it gives no map to find flukes in. "
            "Choose another network."
        ) from None


class Answering(nn.Module):
    """uint8 photos to answers, N x 6: a box within the photo, and two probabilities, averaged over both mirror views.

    It is what a bundle holds as ONNX.
    """

    def __init__(self, localiser: Localiser, record: BackboneRecord) -> None:
        super().__init__()
        self.localiser = freeze(localiser)
        self.mean = nn.Buffer(255 * torch.tensor(record.mean).view(1, 3, 1, 1))
        self.std = nn.Buffer(255 * torch.tensor(record.std).view(1, 3, 1, 1))

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return the answers of both views, the mirrored one's box mirrored back."""
        inputs = (photos.to(torch.float32) - self.mean) / self.std
        seen, mirrored = self.localiser(inputs), self.localiser(inputs.flip(3))
        back = torch.cat([1 - mirrored[:, 2:3], mirrored[:, 1:2], 1 - mirrored[:, 0:1], mirrored[:, 3:]], dim=1)
        mean = (seen + back) / 2
        return torch.cat([mean[:, :4].clamp(0, 1), mean[:, 4:].sigmoid()], dim=1)


def save_localiser(path: Path, state: State, record: BackboneRecord) -> None:
    """Write a trained localiser with the record of its backbone, whose size is that of its inputs."""
    write_safetensors(path, state, {"backbone": record.to_json()})


def load_localiser(path: Path) -> tuple[Answering, BackboneRecord]:
    """Read a localiser, ready to answer."""
    state, metadata = read_safetensors(path)
    with reading(path, "a localiser"):
        record = BackboneRecord.from_json(metadata["backbone"])
        localiser = Localiser(built(record), record)
        localiser.load_state_dict(state)
    return Answering(localiser, record), record


def answers_of(network: nn.Module, photos: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return a localiser's rounded answers to uint8 photos, N x 3 x H x W, of its size: N x 6."""
    device = next(network.buffers()).device
    with torch.inference_mode():
        answers = network(torch.from_numpy(np.ascontiguousarray(photos)).to(device)).cpu().numpy()
    rounded: NDArray[np.float64] = np.round(answers.astype(np.float64), DIGITS)
    return rounded
