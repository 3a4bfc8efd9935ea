"""The splits of a selected table (small.parquet, full.parquet), and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_frame
from flukeprint.data.labels import NEW_WHALE

# Values of the `split` column. The last two are set aside: nothing is trained on them.
SPLITS = TRAIN, VALID, QUERY, CALIBRATION = "train", "valid", "query", "calibration"

# Of the small set: a classifier of one class learns nothing.
LEAST_CLASSES = 2


def is_trained(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows of a selected table are trained on: those of the splits train and valid."""
    return table["split"].isin([TRAIN, VALID]).to_numpy(dtype=bool)


def class_labels(table: pd.DataFrame) -> list[str]:
    """Return the sorted labels that have a training photo: the classes of a head, in order of their index."""
    return sorted(set(table.loc[is_trained(table), "Id"]))


def often_seen(table: pd.DataFrame, photos: int) -> pd.DataFrame:
    """Return the rows of the individuals that have at least so many photos to train on (splits train and valid)."""
    counts = table[is_trained(table)]["Id"].value_counts()
    return table[table["Id"].isin(counts.index[counts >= photos])]


def true_labels(table: pd.DataFrame, labels: Iterable[str]) -> list[str]:
    """Return the right answer for each row: its Id, or new_whale for an individual that is not among `labels`."""
    known = set(labels)
    return [label if label in known else NEW_WHALE for label in table["Id"]]


def read_selected(path: Path | str) -> pd.DataFrame:
    """Read small.parquet or full.parquet; refuse one that has a photo twice: it could be trained on and set aside."""
    table = read_frame(path, repair="Run `dvc repro select` to make it.")
    for column in ("Image", "pixel"):
        for index in np.flatnonzero(table[column].duplicated())[:1]:
            twice = table[table[column] == table[column].iloc[index]]
            splits = ", ".join(twice["split"])
            raise FlukeprintError(
                f"{path} has {twice['Image'].iloc[0]} twice ({column} {twice[column].iloc[0]}; split {splits}): it "
                "could be trained on and asked about. Run `dvc repro --force select` to split anew."
            )
    return table
