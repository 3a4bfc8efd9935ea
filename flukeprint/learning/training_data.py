"""What a training learns from: rows of an array with their classes, and which of them choose the best epoch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.data.selected_tables import TRAIN, VALID
from flukeprint.learning.rows import RowArray, Selection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """Rows of an array (pixels or embeddings) with their class indices; both of length n."""

    rows: NDArray[np.int64]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """An array, the rows of it to train on and to choose the best epoch with, and the class labels.

    The array holds pixels, uint8 N x 3 x H x W, or embeddings, float32 N x views x D.
    """

    array: RowArray
    train: Labelled
    valid: Labelled
    labels: list[str]

    def without_validation(self) -> TrainingData:
        """Train on the validation rows too, for a training that chooses no epoch."""
        rows, targets = (
            np.concatenate([getattr(part, name) for part in (self.train, self.valid)]) for name in ("rows", "targets")
        )
        return replace(self, train=Labelled(rows, targets), valid=Labelled(rows[:0], targets[:0]))

    def ingredients(self) -> list[Selection | NDArray[Any]]:
        """Return all that a training's result depends on here."""
        parts = (self.train, self.valid)
        return [one for part in parts for one in (Selection(self.array, part.rows), part.targets)]


def training_data(
    array: RowArray, table: pd.DataFrame, labels: list[str], column: str = "pixel", *, chooses: bool = True
) -> TrainingData:
    """Pair an array with the train and valid rows of a selected table, whose `column` holds rows of the array.

    Where validation rows choose the best epoch (`chooses`) and there are none, the training rows serve for both, so
    that tiny data still runs; that is said.
    """
    train, valid = (table[table["split"] == split] for split in (TRAIN, VALID))
    if valid.empty and chooses:
        logger.warning("no photo is left for validation: the best epoch is chosen on the training photos")
        valid = train
    index = {label: number for number, label in enumerate(labels)}

    def labelled(part: pd.DataFrame) -> Labelled:
        rows, targets = np.array([part[column], part["Id"].map(index)], np.int64)
        return Labelled(rows, targets)

    return TrainingData(array, labelled(train), labelled(valid), labels)


def validation_pairs(train: Labelled, valid: Labelled) -> Labelled:
    """Return the validation photos class by class, each class followed by a training photo of it, the first there is.

    Losses that compare photos have nothing to compare in a batch of single photos of many individuals. Validation
    photos whose class has no training photo are left out.
    """
    partner = dict(zip(reversed(train.targets.tolist()), reversed(train.rows.tolist()), strict=True))
    pairs = [
        (row, target)
        for target in dict.fromkeys(valid.targets.tolist())
        if target in partner
        for row in [*valid.rows[valid.targets == target].tolist(), partner[target]]
    ]
    rows, targets = np.array(pairs, np.int64).reshape(-1, 2).T
    return Labelled(rows, targets)
