"""Random geometric and photometric changes of training photos, a whole batch at once, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from flukeprint.core.training_params import AugmentationParams


def augment(inputs: torch.Tensor, params: AugmentationParams, generator: np.random.Generator) -> torch.Tensor:
    """Change every photo in its own way; torchvision's transforms would change all photos of a batch alike.

    Amounts are drawn evenly from -most to +most. Rotation, zoom (of either side), shear and shift are one affine map
    with bilinear sampling; what it uncovers repeats the border. Contrast is scaled about the photo's mean, brightness
    is added, and with probability `grey` all channels become their mean.

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


def _draw(generator: np.random.Generator, like: torch.Tensor, most: float) -> torch.Tensor:
    return _column(generator.uniform(-most, most, len(like)).astype(np.float32), like)


def _column(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Shape n values so that they apply to n photos."""
    return torch.from_numpy(values).to(like.device).view(-1, 1, 1, 1)
