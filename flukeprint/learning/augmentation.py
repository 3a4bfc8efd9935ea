"""Random geometric and photometric changes of training photos, a whole batch at once, on the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from flukeprint.core.training_params import AugmentationParams
from flukeprint.learning.batches import on_device

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
        inputs = warped(inputs, affine_maps(params, draws, inputs.shape[2] / inputs.shape[3]))
    if params.grey or params.contrast or params.brightness:
        inputs = _recoloured(inputs, params, draws)
    if params.erase:
        inputs = inputs * _kept(inputs, params.erase, draws)
    return inputs.contiguous(memory_format=torch.channels_last)


def warped(inputs: torch.Tensor, maps: NDArray[np.float32]) -> torch.Tensor:
    """Return what maps (result to photo, n x 2 x 3) show of photos; beyond its border a photo repeats it.

    The grid is `affine_grid`'s, as a sum over rows and columns, which is several times faster on a CPU.
    """
    drawn = on_device(maps, inputs.device)[..., None]
    height, width = ((torch.arange(side, device=inputs.device) * 2 + 1) / side - 1 for side in inputs.shape[2:])
    across, down = drawn[:, :, 0] * width, drawn[:, :, 1] * height + drawn[:, :, 2]
    # Both coordinates apart in memory: side by side, a CPU reads them two and a half times as slowly.
    grid = (across[:, :, None] + down[..., None]).permute(0, 2, 3, 1)
    return functional.grid_sample(inputs, grid, padding_mode="border", align_corners=False)


def _recoloured(inputs: torch.Tensor, params: AugmentationParams, draws: Draws) -> torch.Tensor:
    """Change the colours of each photo by one linear map of its channels."""
    grey = draws.chosen(params.grey) if params.grey else np.zeros(len(inputs), bool)
    contrast, brightness = np.zeros((2, len(inputs)))
    if params.contrast or params.brightness:
        contrast, brightness = (draws.even(-most, most) for most in (params.contrast, params.brightness))
    channels = inputs.shape[1]
    mixed = np.where(grey[:, None, None], 1 / channels, np.eye(channels)) * (1 + contrast)[:, None, None]
    matrix, scale, shift = (
        on_device(one.astype(np.float32), inputs.device)
        for one in (mixed, contrast[:, None, None], brightness[:, None, None])
    )
    flat = inputs.flatten(2)
    return torch.baddbmm(shift - scale * flat.mean((1, 2), keepdim=True), matrix, flat).view(inputs.shape)


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


def _kept(inputs: torch.Tensor, probability: float, draws: Draws) -> torch.Tensor:
    """Draw at most one rectangle per photo: 0 inside, 1 outside, N x 1 x H x W."""
    area = draws.even(*ERASED_AREA)
    aspect = np.exp(draws.even(-np.log(ERASED_ASPECT), np.log(ERASED_ASPECT)))
    chosen = draws.chosen(probability)
    inside = [
        np.abs(np.arange(side) + 0.5 - draws.even(0, side)[:, None]) < (chosen * side * share / 2)[:, None]
        for side, share in zip(inputs.shape[2:], (np.sqrt(area / aspect), np.sqrt(area * aspect)), strict=True)
    ]
    rows, columns = (on_device(one.astype(np.float32), inputs.device) for one in inside)
    return 1 - rows[:, None, :, None] * columns[:, None, None, :]
