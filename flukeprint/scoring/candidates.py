"""Candidates: what a scorer says about a photo, and the files data/predictions/{query,test}.parquet that hold it.

Columns, one row per scorer and photo:

- `Image`, `scorer`; in query.parquet also `Id`, `split`, `truth` (new_whale for an individual unseen in training);
- `candidates`: identities, best first, at most DEPTH; never new_whale;
- `scores`: one float32 for each candidate, larger is better;
- `new_score`: float32, new_whale's score on the same scale; missing (NaN) where the scorer has none;
- `features`, `new_features`: empty, but for the scorers that combine others (flukeprint/scoring/fusion.py). There
  `features` are K float32 for each candidate, one candidate after the other, and `new_features` L for the photo, NaN
  for what does not exist. Candidates are then the union of the best DEPTH by each feature, and every feature is exact
  for all of them. Until `calibrate` has fitted the weights, `scores` are the first feature and `new_score` is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_parquet
from flukeprint.data.labels import NEW_WHALE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Most candidates that are kept of a photo.
DEPTH = 20
_COLUMNS = ("candidates", "scores", "new_score", "features", "new_features")


@dataclass(frozen=True)
class Scored:
    """One scorer's candidates of n photos: labels and scores are n lists, best first; new_score is float32, n.

    A scorer that combines others has n lists of m K features and of L features of the photo; else they are None.
    """

    candidates: list[list[str]]
    scores: list[NDArray[np.float32]]
    new_score: NDArray[np.float32]
    features: list[NDArray[np.float32]] | None = None
    new_features: list[NDArray[np.float32]] | None = None


def best_candidates(scores: NDArray[np.float32], labels: Sequence[str], depth: int = DEPTH) -> Scored:
    """Keep the best identities of each row; equal scores stand in order of their labels.

    Args:
        scores: n x L, larger is better.
        labels: the L columns' labels, sorted; new_whale may be one of them.
        depth: most candidates to keep.

    """
    names = np.array(labels, dtype=object)
    is_new = names == NEW_WHALE
    new_score = scores[:, is_new][:, 0] if is_new.any() else np.full(len(scores), np.nan, np.float32)
    identities = scores[:, ~is_new]
    best = best_columns(identities, depth)
    kept = np.take_along_axis(identities, best, axis=1)
    return Scored(names[~is_new][best].tolist(), list(kept), new_score.astype(np.float32))


def best_columns(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """Return each row's columns with the largest values, best first, equal ones from left to right: n x depth."""
    if scores.shape[1] <= depth:
        return np.argsort(-scores, axis=1, kind="stable")
    # A full stable sort would do, but takes ten times as long; a partition breaks ties at its edge at random.
    best = np.sort(np.argpartition(-scores, depth - 1, axis=1)[:, :depth], axis=1)
    kept = np.take_along_axis(scores, best, axis=1)
    tied = (scores >= kept.min(axis=1, keepdims=True)).sum(axis=1) > depth
    order = np.argsort(-kept, axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    best[tied] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :depth]
    return best


def combined_candidates(
    features: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    new_features: NDArray[np.float32],
    depth: int = DEPTH,
) -> Scored:
    """Keep the identities that are among the best by any feature, with all their features.

    Args:
        features: K arrays, each n x L, larger is better.
        labels: the L columns' labels, sorted; new_whale is none of them.
        new_features: of the photos, n x (number of them).
        depth: most candidates to keep by each feature.

    """
    best = np.concatenate([best_columns(feature, depth) for feature in features], axis=1)
    names = np.array(labels, dtype=object)
    candidates, scores, kept = [], [], []
    for row, columns in enumerate(best):
        union = np.unique(columns)
        values = np.stack([feature[row, union] for feature in features], axis=1)
        order = np.argsort(-values[:, 0], kind="stable")
        candidates.append(names[union[order]].tolist())
        scores.append(values[order, 0])
        kept.append(values[order].ravel())
    return Scored(candidates, scores, np.full(len(best), np.nan, np.float32), kept, list(new_features))


def joined(parts: Sequence[Scored]) -> Scored:
    """Put the results of consecutive photos together; all or none of them have features."""
    several = any(part.features is not None for part in parts)
    return Scored(
        [row for part in parts for row in part.candidates],
        [row for part in parts for row in part.scores],
        np.concatenate([np.zeros(0, np.float32), *(part.new_score for part in parts)]),
        [row for part in parts for row in part.features or []] if several else None,
        [row for part in parts for row in part.new_features or []] if several else None,
    )


def candidate_rows(photos: pd.DataFrame, scorer: str, scored: Scored) -> pd.DataFrame:
    """Return the rows of one scorer: the columns of `photos`, `scorer` and the five of the candidates."""
    empty: list[list[float]] = [[]] * len(photos)
    candidates, scores, features, new_features = (
        pd.Series(values, index=photos.index, dtype=object)
        for values in (scored.candidates, scored.scores, scored.features or empty, scored.new_features or empty)
    )
    return photos.assign(
        scorer=scorer,
        candidates=candidates,
        scores=scores,
        new_score=scored.new_score,
        features=features,
        new_features=new_features,
    )


def write_candidates(path: Path | str, rows: pd.DataFrame) -> None:
    """Write rows of `candidate_rows`; the types are the same for no rows, and where no photo has a candidate."""
    import pyarrow as pa

    numbers = pa.list_(pa.float32())
    types = {
        "candidates": pa.list_(pa.string()),
        "scores": numbers,
        "new_score": pa.float32(),
        "features": numbers,
        "new_features": numbers,
    }
    schema = pa.schema([(column, types.get(column, pa.string())) for column in rows.columns])
    write_parquet(path, pa.Table.from_pandas(rows, schema=schema, preserve_index=False))


def read_candidates(path: Path | str) -> pd.DataFrame:
    """Read query.parquet or test.parquet.

    Raises:
        FlukeprintError: the file is missing, or an older version of the pipeline wrote it.

    """
    try:
        rows = pd.read_parquet(path)
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing. Run `dvc repro ensemble` to make it.") from None
    missing = [column for column in _COLUMNS if column not in rows]
    if missing:
        raise FlukeprintError(f"{path} has no column {missing[0]!r}. Run `dvc repro ensemble` to make it anew.")
    return rows
