"""Random geometric and photometric changes of training photos, a whole batch at once, on the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from flukeprint.core.training_params import AugmentationParams

# Of an erased rectangle: its share of the photo's area, and how many times as long as broad it is at most. The paper's
# figures, but for the area, which may be 0.4 there: a fluke fills little of some photos.
ERASED_AREA = (0.02, 0.2)
ERASED_ASPECT = 1 / 0.3


@dataclass(frozen=True)
class Draws:
    """Random numbers for the n photos of a batch, of which a process holds a part: the same for any number of them."""

    generator: np.random.Generator
    n: int
    part: slice = field(default_factory=lambda: slice(None))

    def even(self, low: float, high: float) -> NDArray[np.float64]:
        """Draw evenly from low to high: one number for each photo of the part."""
        return self.generator.uniform(low, high, self.n)[self.part]

    def chosen(self, probability: float) -> NDArray[np.bool_]:
        """Choose each photo with a probability."""
        return self.generator.random(self.n)[self.part] < probability


def augment(inputs: torch.Tensor, params: AugmentationParams, draws: Draws) -> torch.Tensor:
    """Change every photo in its own way; torchvision's transforms would change all photos of a batch alike.

    Amounts are drawn evenly from -most to +most. Rotation, zoom (of either side), shear and shift are one affine map
    with bilinear sampling; what it uncovers repeats the border. Contrast is scaled about the photo's mean, brightness
    is added, with probability `grey` all channels become their mean, and with probability `erase` a rectangle becomes
    the value to which photos are normalised (random erasing, Zhong et al. 2017). Amounts of 0 change nothing.

    Photos are normalised, N x 3 x H x W, and come back in channels_last order; the same generator in `draws` gives the
    same changes on every device.
    """
    if any((params.rotate, params.zoom, params.shear, params.shift)):
        inputs = _warp(inputs, params, draws)
    if params.grey:
        inputs = torch.where(_column(draws.chosen(params.grey), inputs), inputs.mean(1, keepdim=True), inputs)
    if params.contrast or params.brightness:
        mean = inputs.mean((1, 2, 3), keepdim=True)
        drawn = (draws.even(-most, most) for most in (params.contrast, params.brightness))
        contrast, brightness = (_column(amounts.astype(np.float32), inputs) for amounts in drawn)
        inputs = (inputs - mean) * (1 + contrast) + mean + brightness
    if params.erase:
        inputs = inputs.masked_fill(_erased(inputs, params.erase, draws), 0.0)
    return inputs.contiguous(memory_format=torch.channels_last)


def _warp(inputs: torch.Tensor, params: AugmentationParams, draws: Draws) -> torch.Tensor:
    height, width = inputs.shape[2:]
    grid = functional.affine_grid(
        torch.from_numpy(affine_maps(params, draws, height / width)).to(inputs.device),
        list(inputs.shape),
        align_corners=False,
    )
    return functional.grid_sample(inputs, grid, padding_mode="border", align_corners=False)


def affine_maps(params: AugmentationParams, draws: Draws, aspect: float = 1.0) -> NDArray[np.float32]:
    """Draw maps from a result's coordinates (-1..1 from edge to edge) to a photo's: float32 n x 2 x 3.

    `aspect` is the photo's height over its width, by which a rotation in pixels is none in these coordinates.
    """
    limits = (params.rotate, params.zoom, params.zoom, params.shear, params.shift, params.shift)
    degrees, wider, higher, shear, across, down = (draws.even(-limit, limit) for limit in limits)
    angle, wide, high = np.radians(degrees), 1 + wider, 1 + higher
    # A shift is given as a share of the photo, whose sides are 2 long in these coordinates.
    rows = [
        [wide * np.cos(angle), high * (shear - aspect * np.sin(angle)), 2 * across],
        [wide * np.sin(angle) / aspect, high * np.cos(angle), 2 * down],
    ]
    return np.moveaxis(np.array(rows, np.float32), 2, 0)


def _erased(inputs: torch.Tensor, probability: float, draws: Draws) -> torch.Tensor:
    """Draw at most one rectangle per photo: True inside, N x 1 x H x W."""
    area = draws.even(*ERASED_AREA)
    aspect = np.exp(draws.even(-np.log(ERASED_ASPECT), np.log(ERASED_ASPECT)))
    chosen = draws.chosen(probability)
    inside = [
        np.abs(np.arange(side) + 0.5 - draws.even(0, side)[:, None]) < (chosen * side * share / 2)[:, None]
        for side, share in zip(inputs.shape[2:], (np.sqrt(area / aspect), np.sqrt(area * aspect)), strict=True)
    ]
    return torch.from_numpy(inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(inputs.device)


def _column(values: NDArray[Any], like: torch.Tensor) -> torch.Tensor:
    """Shape n values so that they apply to n photos."""
    return torch.from_numpy(values).to(like.device).view(-1, 1, 1, 1)
