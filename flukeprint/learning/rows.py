"""Rows of arrays that may be larger than the memory: read as they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class RowArray(Protocol):
    """An array, a memory map, or the shards of data/pixel_shards.py."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of each."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Return the rows of a slice, or of an array of their numbers."""


@dataclass(frozen=True)
class Selection:
    """Some rows of an array, such as a memory map: read as they are asked for, so that no copy of them is held."""

    array: RowArray
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, places: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return a copy of the rows at some places of the selection."""
        return np.asarray(self.array[self.rows[places]])
