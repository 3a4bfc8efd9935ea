"""Boxes around flukes: the tables that people mark, those that a localiser fills, and what is done to a box.

A box is (x0, y0, x1, y1): left, top, right, bottom as shares of the width and height of the photo as it is seen
(upright), 0 to 1.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_parquet
from flukeprint.data.cropping import Found
from flukeprint.data.labels import BOX_SIDES, MARKED
from flukeprint.data.tables import require_table

# Answers are rounded to so many digits: a ten-thousandth of a side is below a pixel, and above what rounding in other
# kernels changes.
DIGITS = 4
# Shares of a side; a box that is thinner is a slip of the hand.
_LEAST_SIDE = 0.01

FOUND = pa.schema(
    [
        pa.field("Image", pa.string(), False, metadata={"unit": "", "description": "file name of the photo"}),
        *(
            pa.field(side, pa.float64(), False, metadata={"unit": "share of the photo", "description": ""})
            for side in BOX_SIDES
        ),
        pa.field(
            "confidence", pa.float64(), False, metadata={"unit": "0 to 1", "description": "that there is a fluke"}
        ),
        pa.field(
            "upside_down", pa.float64(), False, metadata={"unit": "0 to 1", "description": "that it stands on its head"}
        ),
    ]
)


def read_marked(path: Path, photos: Collection[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Read a table of marked boxes (CSV: Image, x0, y0, x1, y1) of some `photos`; return names and boxes, N x 4.

    A row whose four numbers are empty is a photo without a fluke: NaN. A FlukeprintError names the row that is wrong:
    a photo that is not there or is listed twice, no number, or a box that is turned inside out or leaves the photo.
    """
    frame = require_table(path, MARKED)
    known, seen = set(photos), set[str]()
    boxes = np.full((len(frame), 4), np.nan)
    cells = frame[list(MARKED)].astype(object).where(frame[list(MARKED)].notna(), None)
    for place, (line, (name, *sides)) in enumerate(
        zip(frame["csv_line"], cells.itertuples(index=False, name=None), strict=True)
    ):
        fault = _fault_of_name(name, known, seen)
        if fault is None and sides != [None] * 4:
            fault = _fill(boxes[place], sides)
        if fault:
            raise FlukeprintError(f"{path} row {line}: {fault}. Repair or remove the row.")
        seen.add(name)
    return cells["Image"].tolist(), boxes


def _fault_of_name(name: str | None, known: Collection[str], seen: Collection[str]) -> str | None:
    if name is None:
        return "Image is empty"
    if name not in known:
        return f"Image is {name!r}, which is no training photo"
    return f"Image {name!r} is there twice" if name in seen else None


def _fill(box: NDArray[np.float64], sides: list[str | None]) -> str | None:
    """Fill in a box, or say what is wrong with it."""
    try:
        box[:] = [float(side or "") for side in sides]
    except ValueError:
        return f"{','.join(side or '' for side in sides)} are not four numbers (or four empty cells: no fluke)"
    if not ((box >= 0) & (box <= 1)).all():  # so written, NaN is refused too
        return f"{box.tolist()} are not shares of the photo, 0 to 1"
    if (box[2:] - box[:2] < _LEAST_SIDE).any():
        return f"{box.tolist()} is no box: expected left, top, right, bottom, at least {_LEAST_SIDE} apart"
    return None


def found_table(names: list[str], found: NDArray[np.float64]) -> pa.Table:
    """Return a localiser's answers (N x 6: box, confidence, upside down) as a table."""
    columns = [pa.array(names, pa.string()), *(pa.array(column) for column in np.round(found.T, DIGITS))]
    return pa.table(columns, schema=FOUND)


def read_found(path: Path) -> dict[str, Found]:
    """Read a table of found boxes, by the photo's name; it has no rows where no localiser is in use."""
    names, *columns = (column.to_pylist() for column in read_parquet(path, FOUND).columns)
    return dict(zip(names, map(Found, *columns), strict=True))
