"""What would make figures untrue: a query that something was fitted to, or that finds itself. Each is refused."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors_metadata
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import is_trained


def refuse_own_photos(queries: pd.DataFrame, gallery: pd.DataFrame) -> None:
    """Refuse queries that are themselves in the gallery which they search, by name or by row of the embeddings."""
    both = queries["Image"].isin(gallery["Image"]) | queries["pixel"].isin(gallery["pixel"])
    for image in queries.loc[both, "Image"].head(1):
        raise FlukeprintError(
            f"{image} is a query and among the photos that queries search, {int(both.sum())} such photos in all: it "
            "would find itself. Queries search trained photos alone; run `dvc repro --force select` to split anew."
        )


def with_trained_copies(small: pd.DataFrame, full: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which photos of the full set are set aside although what must stay together with them is trained on."""
    trained = {number for table in (small, full) for number in table.loc[is_trained(table), "together"]}
    return full["together"].isin(trained).to_numpy() & ~is_trained(full)


def refuse_trained_copies(small: pd.DataFrame, full: pd.DataFrame) -> None:
    """Refuse a split that trains on a near-duplicate, or on the encounter, of a photo that it sets aside."""
    straddling = with_trained_copies(small, full)
    for image, number in full.loc[straddling, ["Image", "together"]].head(1).to_numpy():
        raise FlukeprintError(
            f"{image} is set aside, but photos that stay together with it (near-duplicates or its encounter, number "
            f"{number}) are trained on; {int(straddling.sum())} photos are set aside so. That is a fault of the split, "
            "not of the photos: report it with params.yaml."
        )


def learned_individuals(weights: Iterable[Path]) -> set[str]:
    """Return the individuals that any of some fine-tuned networks was trained on, by the labels in their files."""
    return {label for path in weights for label in read_safetensors_metadata(path)["labels"]} - {NEW_WHALE}


def refuse_learned(table: pd.DataFrame, learned: AbstractSet[str]) -> None:
    """Refuse networks that were trained on individuals which are held out whole; `learned`: `learned_individuals`.

    `table` is data/selected/full.parquet. So weights of a run that set nothing aside make no figures.
    """
    held_out = {*table["Id"]} - {*table.loc[is_trained(table), "Id"], NEW_WHALE}
    if known := sorted(held_out & learned):
        raise FlukeprintError(
            f"models/finetuned was trained on {len(known)} of the {len(held_out)} individuals that are held out whole "
            f"in data/selected/full.parquet, such as {known[0]}: figures would come from photos that it was fitted to. "
            "Run `dvc repro` to train on this split."
        )
