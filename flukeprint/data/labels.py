"""The label that is no individual's, and what follows from that; what a table of labels may tell beside them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# The competition's label for a whale without a known identity. Two photos with it usually show two whales.
NEW_WHALE = "new_whale"
# Columns that train.csv may have beside Image and Id: on which occasion a photo was taken, and when.
ENCOUNTER, TAKEN_AT = "encounter", "taken_at"
# Columns of a table of marked boxes: shares of the photo's width and height from its upper left corner.
BOX_SIDES = ("x0", "y0", "x1", "y1")
MARKED = ("Image", *BOX_SIDES)


def individuals_of(ids: Iterable[str], images: Iterable[str]) -> NDArray[np.str_]:
    """Name the individual of each photo: its id, or a name of its own for each photo of new_whale."""
    pairs = zip(ids, images, strict=True)
    return np.array([f"{NEW_WHALE} {image}" if label == NEW_WHALE else label for label, image in pairs], dtype=str)
