"""A network that resizes photos before it looks at them, for members that see them in a size of their own."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Resized(nn.Module):
    """A network behind a resize of its inputs, from one (height, width) in px to another: bilinear, antialiased.

    The resize is two products of matrices, which ONNX runtimes compute as torch does. ONNX has an operator for it, but
    runtimes take its places in single precision: of 512 x 1024 px its values are wrong by 1e-4 of the largest.
    """

    def __init__(self, network: nn.Module, given: tuple[int, int], wanted: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        rows, columns = (_weights(*sides) for sides in zip(given, wanted, strict=True))
        self.rows = nn.Buffer(rows, persistent=False)
        self.columns = nn.Buffer(columns.T.contiguous(), persistent=False)

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        """Return what the network gives of photos, N x 3 x H x W, in the size that it wants."""
        # Half precision would take fine shades from the photos.
        with torch.autocast(photos.device.type, enabled=False):
            resized = self.rows @ (photos @ self.columns)
        outputs: torch.Tensor = self.network(resized)
        return outputs


def _weights(given: int, wanted: int) -> torch.Tensor:
    """Return, wanted x given, what each old line of pixels adds to each new one, as torch resizes."""
    lines = torch.eye(given).view(1, 1, given, given)
    return functional.interpolate(lines, (wanted, given), mode="bilinear", antialias=True, align_corners=False)[0, 0]
