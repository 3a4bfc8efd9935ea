"""Which scorer is best, by calibration queries alone: MAP@5 of answers to queries that the scorer was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json
from flukeprint.data.labels import NEW_WHALE, individuals_of
from flukeprint.metrics.arrays import new_share_weights, weighted_mean
from flukeprint.metrics.rankings import reciprocal_ranks
from flukeprint.scoring.calibration import Answers, calibrated, decision_of, fit_scorer, nothing_to_fit
from flukeprint.scoring.copies import copied
from flukeprint.scoring.fusion import mix, mixed, read_mixtures
from flukeprint.scoring.registry import DUPLICATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

FOLDS = 5
_TOP = 5


def folds_of(rows: pd.DataFrame, most: int = FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Deal the queries' individuals into folds, known and new ones apart, so that every fold has both if it can.

    Args:
        rows: queries of one scorer: Image, Id, truth. A photo of new_whale is an individual of its own.
        most: folds, if there are as many individuals of either kind.
        seed: of the deal.

    Returns:
        The fold of each query; all 0 where either kind has fewer than two individuals.

    """
    is_new = (rows["truth"] == NEW_WHALE).to_numpy(dtype=bool)
    groups = individuals_of(rows["Id"], rows["Image"])
    kinds = [np.unique(groups[is_new == kind]) for kind in (False, True)]
    number = min(most, *(len(names) for names in kinds))
    if number < 2:
        return np.zeros(len(rows), np.int64)
    generator = np.random.default_rng(seed)
    dealt: dict[str, int] = {}
    for names in kinds:
        dealt |= {name: place % number for place, name in enumerate(generator.permutation(names).tolist())}
    return np.array([dealt[name] for name in groups.tolist()])


def cross_validated(rows: pd.DataFrame, scorer: str, share: float, folds: NDArray[np.int64]) -> float | None:
    """Return MAP@5, weighted to `share`, of answers by decisions that were fitted to the other folds.

    None where the other folds of some query cannot be fitted to.
    """
    points = np.zeros(len(rows))
    for fold in np.unique(folds):
        asked, others = rows[folds == fold], rows[folds != fold]
        if nothing_to_fit(others):
            return None
        mixture, decision = fit_scorer(others, scorer, share)
        scored = mix(asked, scorer, mixture) if mixture else asked
        points[folds == fold] = reciprocal_ranks(asked["truth"].tolist(), calibrated(scored, decision, _TOP).labels)
    return weighted_mean(points, new_share_weights(rows["truth"] == NEW_WHALE, share))


def choose(rows: pd.DataFrame, share: float, scorers: Sequence[str]) -> dict[str, Any]:
    """Choose the scorer with the highest cross-validated MAP@5; of equal ones the first.

    Args:
        rows: the calibration rows of query.parquet, of all scorers.
        share: declared share of new whales.
        scorers: those to choose from.

    Returns:
        {"scorer": its name, or None; "map5": by scorer; "folds": how many}.

    """
    found: dict[str, float] = {}
    number = 0
    for scorer in scorers:
        own = rows[rows["scorer"] == scorer]
        if nothing_to_fit(own):
            continue
        folds = folds_of(own)
        number = len(np.unique(folds))
        value = cross_validated(own, scorer, share, folds)
        if value is not None:
            found[scorer] = round(value, 6)
    return {"scorer": max(found, key=found.__getitem__) if found else None, "map5": found, "folds": number}


@dataclass(frozen=True)
class Best:
    """The scorer that was chosen, and the probability that near-duplicates show the same whale."""

    scorer: str
    copy_probability: float


def read_best(path: Path | str) -> Best:
    """Return what models/decision.json chose.

    Raises:
        FlukeprintError: nothing was chosen.

    """
    content = read_json(path)
    scorer = content["best"]["scorer"]
    if scorer is None:
        raise FlukeprintError(
            f"{path} names no best scorer: too few calibration queries to compare any. Set submit.decision to class in "
            "params.yaml, or set calibration queries aside (select.holdout)."
        )
    return Best(scorer, content["duplicates"]["probability"])


def best_answers(rows: pd.DataFrame, path: Path | str, top: int) -> Answers:
    """Answer with the best scorer's calibrated decision, after the labels of near-duplicates.

    Args:
        rows: rows of query.parquet or test.parquet, of all scorers.
        path: models/decision.json.
        top: most labels to answer.

    Raises:
        FlukeprintError: no scorer was chosen, or the rows lack the one that was.

    """
    best = read_best(path)
    duplicates, own = (rows[rows["scorer"] == name] for name in (DUPLICATES, best.scorer))
    if own["Image"].tolist() != duplicates["Image"].tolist():
        raise FlukeprintError(
            f"the candidates of {best.scorer} and {DUPLICATES} are not of the same photos. Run `dvc repro ensemble`."
        )
    own = mixed(own, read_mixtures(path))
    most = 1 + int(own["candidates"].map(len).max()) if len(own) else 1
    answers = calibrated(own, decision_of(best.scorer, path), most)
    return copied(answers, duplicates, best.copy_probability, top)
