"""Random geometric and photometric changes of training photos, a whole batch at once, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from flukeprint.core.training_params import AugmentationParams

# Of an erased rectangle: its share of the photo's area, and how many times as long as broad it is at most. The paper's
# figures, but for the area, which may be 0.4 there: a fluke fills little of some photos.
ERASED_AREA = (0.02, 0.2)
ERASED_ASPECT = 1 / 0.3


def augment(inputs: torch.Tensor, params: AugmentationParams, generator: np.random.Generator) -> torch.Tensor:
    """Change every photo in its own way; torchvision's transforms would change all photos of a batch alike.

    Amounts are drawn evenly from -most to +most. Rotation, zoom (of either side), shear and shift are one affine map
    with bilinear sampling; what it uncovers repeats the border. Contrast is scaled about the photo's mean, brightness
    is added, with probability `grey` all channels become their mean, and with probability `erase` a rectangle becomes
    the value to which photos are normalised (random erasing, Zhong et al. 2017).

    Args:
        inputs: normalised photos, N x 3 x H x W.
        params: the amounts; 0 everywhere returns the inputs untouched.
        generator: of the draws; the same state gives the same changes on every device.

    Returns:
        N x 3 x H x W in channels_last order.

    """
    if any((params.rotate, params.zoom, params.shear, params.shift)):
        inputs = _warp(inputs, params, generator)
    if params.grey:
        chosen = generator.random(len(inputs)) < params.grey
        inputs = torch.where(_column(chosen, inputs), inputs.mean(1, keepdim=True), inputs)
    if params.contrast or params.brightness:
        mean = inputs.mean((1, 2, 3), keepdim=True)
        contrast, brightness = (_draw(generator, inputs, most) for most in (params.contrast, params.brightness))
        inputs = (inputs - mean) * (1 + contrast) + mean + brightness
    if params.erase:
        inputs = inputs.masked_fill(_erased(inputs, params.erase, generator), 0.0)
    return inputs.contiguous(memory_format=torch.channels_last)


def _warp(inputs: torch.Tensor, params: AugmentationParams, generator: np.random.Generator) -> torch.Tensor:
    grid = functional.affine_grid(
        torch.from_numpy(affine_maps(len(inputs), params, generator)).to(inputs.device),
        list(inputs.shape),
        align_corners=False,
    )
    return functional.grid_sample(inputs, grid, padding_mode="border", align_corners=False)


def affine_maps(n: int, params: AugmentationParams, generator: np.random.Generator) -> np.ndarray:
    """Draw n maps from a result's coordinates (-1..1 from edge to edge) to a photo's: float32 n x 2 x 3."""

    def most(limit: float) -> np.ndarray:
        return generator.uniform(-limit, limit, n)

    angle = np.radians(most(params.rotate))
    wide, high, shear = 1 + most(params.zoom), 1 + most(params.zoom), most(params.shear)
    # A shift is given as a share of the photo, whose sides are 2 long in these coordinates.
    across, down = 2 * most(params.shift), 2 * most(params.shift)
    rows = [
        [wide * np.cos(angle), high * (shear - np.sin(angle)), across],
        [wide * np.sin(angle), high * np.cos(angle), down],
    ]
    return np.moveaxis(np.array(rows, np.float32), 2, 0)


def _erased(inputs: torch.Tensor, probability: float, generator: np.random.Generator) -> torch.Tensor:
    """Draw at most one rectangle per photo: True inside, N x 1 x H x W."""
    n, _, *sides = inputs.shape
    area = generator.uniform(*ERASED_AREA, n)
    aspect = np.exp(generator.uniform(-np.log(ERASED_ASPECT), np.log(ERASED_ASPECT), n))
    chosen = generator.random(n) < probability
    inside = [
        np.abs(np.arange(side) + 0.5 - generator.uniform(0, side, (n, 1))) < (chosen * side * share / 2)[:, None]
        for side, share in zip(sides, (np.sqrt(area / aspect), np.sqrt(area * aspect)), strict=True)
    ]
    return torch.from_numpy(inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(inputs.device)


def _draw(generator: np.random.Generator, like: torch.Tensor, most: float) -> torch.Tensor:
    return _column(generator.uniform(-most, most, len(like)).astype(np.float32), like)


def _column(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Shape n values so that they apply to n photos."""
    return torch.from_numpy(values).to(like.device).view(-1, 1, 1, 1)
