"""How far two boxes overlap: the measure of a detector."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flukeprint.metrics.arrays import Floats, floats


def box_iou(boxes: ArrayLike, others: ArrayLike) -> Floats:
    """Return the intersection over union of every pair of M and K boxes, shape (M, K); 0 for two without area.

    Boxes are rows of left, top, right, bottom, in any unit; one that is turned inside out is a ValueError.
    """
    import torch
    from torchvision import ops

    first, second = (torch.from_numpy(_checked(table)) for table in (boxes, others))
    return np.asarray(np.nan_to_num(ops.box_iou(first, second).numpy()))


def _checked(boxes: ArrayLike) -> Floats:
    table = floats(boxes)
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all():
        raise ValueError(f"boxes of the shape {table.shape} must be M x 4 finite numbers")
    if (table[:, 2:] < table[:, :2]).any():
        raise ValueError("a box has its right left of its left, or its bottom above its top")
    return table
