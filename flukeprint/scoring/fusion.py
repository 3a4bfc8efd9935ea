"""Scorers that combine several features of a candidate: which features, and their weights.

`gallery` scores an individual by w x nearest + (1 - w) x centre, `blend` also by the head's log-probability. The
weights are the slopes of the conditional logit (flukeprint/scoring/logit.py) fitted to calibration queries: the convex
log-loss of the calibrated decision has one minimum, and no weight is below 0. Divided by their sum they are the
mixture; the sum is the inverse temperature of a decision on the mixed score, so that what follows sees a scorer like
any other.

The labels of near-duplicates are no feature: no calibration query has one in the gallery, by construction, so a slope
of theirs cannot be learned. They have a rule of their own, flukeprint/scoring/copies.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json
from flukeprint.scoring.registry import SCORERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

# What the columns `features` and `new_features` of data/predictions/*.parquet hold, in order.
FEATURES = {scorer.name: scorer.features for scorer in SCORERS if scorer.features}
NEW_FEATURES = {scorer.name: scorer.photo_features for scorer in SCORERS if scorer.features}


@dataclass(frozen=True)
class Mixture:
    """Weights by the names of features: those of a candidate sum to 1; those of the photo add up to new_whale's score.

    A feature of the photo that does not exist, such as the head's new_whale where that is no class, has no weight.
    """

    features: dict[str, float]
    new_features: dict[str, float]


def mixed(rows: pd.DataFrame, mixtures: Mapping[str, Mixture]) -> pd.DataFrame:
    """Turn features into scores, for all scorers that have any.

    Args:
        rows: rows of query.parquet or test.parquet.
        mixtures: by scorer. Rows of a scorer with features but without a mixture are left out.

    Returns:
        The rows in their order, without features: scores, best first, equal ones by label, and new_score.

    """
    parts = []
    for scorer, own in rows.groupby("scorer", sort=False):
        if scorer not in FEATURES:
            parts.append(own)
        elif scorer in mixtures:
            parts.append(mix(own, str(scorer), mixtures[str(scorer)]))
    return pd.concat(parts) if parts else rows[:0]


def mix(rows: pd.DataFrame, scorer: str, mixture: Mixture) -> pd.DataFrame:
    """Turn one scorer's features into scores.

    Raises:
        FlukeprintError: the mixture is of other features than the rows have.

    """
    names, of_photo = FEATURES[scorer], NEW_FEATURES[scorer]
    unknown = (set(mixture.features) ^ set(names)) | (set(mixture.new_features) - set(of_photo))
    columns = list(zip(rows["candidates"], rows["features"], strict=True))
    if unknown or any(len(features) != len(names) * len(labels) for labels, features in columns):
        raise FlukeprintError(
            f"the weights of {scorer} are for other features than {', '.join(names)}. "
            "Run `dvc repro calibrate` to fit them to these candidates."
        )
    slopes = np.array([mixture.features[name] for name in names])
    weights = np.array([mixture.new_features.get(name, 0.0) for name in of_photo])
    pairs = [
        _ranked(labels, np.asarray(features, float).reshape(-1, len(names)) @ slopes) for labels, features in columns
    ]
    empty: pd.Series[Any] = pd.Series([[]] * len(rows), index=rows.index, dtype=object)
    return rows.assign(
        candidates=pd.Series([labels for labels, _ in pairs], index=rows.index, dtype=object),
        scores=pd.Series([scores for _, scores in pairs], index=rows.index, dtype=object),
        new_score=_new_scores(rows["new_features"], weights),
        features=empty,
        new_features=empty,
    )


def _ranked(labels: Iterable[str], values: NDArray[np.float64]) -> tuple[list[str], NDArray[np.float64]]:
    order = sorted(zip((-values).tolist(), labels, strict=True))
    return [label for _, label in order], np.array([-value for value, _ in order])


def _new_scores(features: Iterable[NDArray[np.float32]], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weigh the photo's features; NaN where none has a weight, or one with a weight is missing."""
    used = np.flatnonzero(weights)
    if not len(used):
        return np.full(len(list(features)), np.nan)
    return np.array([np.asarray(row, float)[used] @ weights[used] for row in features])


def read_mixtures(path: Path | str) -> dict[str, Mixture]:
    """Return {scorer: its mixture} of models/decision.json."""
    return {scorer: Mixture(**fields) for scorer, fields in read_json(path)["mixtures"].items()}
