"""Which scorer is best, by calibration queries alone: MAP@5 of answers to queries that the scorer was not fitted to."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE, individuals_of
from flukeprint.data.submission import MAX_LABELS
from flukeprint.metrics.arrays import new_share_weights, weighted_mean
from flukeprint.metrics.rankings import reciprocal_ranks
from flukeprint.scoring.calibrated_answers import Answers, as_ordinary_class, calibrated
from flukeprint.scoring.calibration import BestScorer, Calibration
from flukeprint.scoring.calibration_fitting import fit_scorer, nothing_to_fit
from flukeprint.scoring.candidates import Scored, scored_of
from flukeprint.scoring.copies import copied, decided
from flukeprint.scoring.fusion import fuse, fused_of
from flukeprint.scoring.registry import DUPLICATES, GALLERY_NEAREST, scorer_of

FOLDS = 5


def folds_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Deal the individuals of one scorer's queries into folds, known and new ones apart: every fold has both.

    A photo of new_whale is an individual of its own. There are FOLDS folds, fewer where either kind has fewer
    individuals, and all queries are in fold 0 where it has fewer than two.
    """
    is_new = (rows["truth"] == NEW_WHALE).to_numpy(dtype=bool)
    groups = individuals_of(rows["Id"], rows["Image"])
    kinds = [np.unique(groups[is_new == kind]) for kind in (False, True)]
    number = min(FOLDS, *(len(names) for names in kinds))
    if number < 2:
        return np.zeros(len(rows), np.int64)
    generator = np.random.default_rng(0)
    dealt: dict[str, int] = {}
    for names in kinds:
        dealt |= {name: place % number for place, name in enumerate(generator.permutation(names).tolist())}
    return np.array([dealt[name] for name in groups.tolist()])


def cross_validated(
    scored: Scored, truth: Sequence[str], scorer: str, share: float, folds: NDArray[np.int64]
) -> float | None:
    """Return MAP@5, weighted to `share`, of answers by calibrations that were fitted to the other folds.

    None where the other folds of some query cannot be fitted to.
    """
    right = np.array(truth, dtype=object)
    points = np.zeros(len(right))
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        if nothing_to_fit(scored[others], right[others].tolist()):
            return None
        fusion, fitted = fit_scorer(scored[others], right[others].tolist(), scorer, share)
        fused = fuse(scored[own], scorer, fusion) if fusion else scored[own]
        points[own] = reciprocal_ranks(right[own].tolist(), calibrated(fused, fitted, MAX_LABELS).labels)
    return weighted_mean(points, new_share_weights(right == NEW_WHALE, share))


def choose(rows: pd.DataFrame, share: float, scorers: Sequence[str]) -> BestScorer:
    """Choose of some scorers, by their calibration rows, the one with the highest cross-validated MAP@5 (first)."""
    found: dict[str, float] = {}
    number = 0
    for scorer in scorers:
        own = rows[rows["scorer"] == scorer]
        scored, truth = scored_of(own, scorer), own["truth"].tolist()
        if nothing_to_fit(scored, truth):
            continue
        folds = folds_of(own)
        number = len(np.unique(folds))
        value = cross_validated(scored, truth, scorer, share, folds)
        if value is not None:
            found[scorer] = round(value, 6)
    return BestScorer(scorer=max(found, key=found.__getitem__) if found else None, map5=found, folds=number)


def by_similarity(scored: Scored) -> Answers:
    """Answer where too few calibration queries chose a scorer: new_whale stands second, after the most similar one.

    First it would cost half of every right answer, further back most of what it earns. The numbers put labels in order;
    they are no probabilities. `scored` has no score for new_whale.
    """
    found = as_ordinary_class(scored, scored.label.shape[1])
    second = [row[0] if row else 1.0 for row in found.probabilities]
    return Answers(
        [[*row[:1], NEW_WHALE, *row[1:]] for row in found.labels],
        [[*row[:1], new, *row[1:]] for row, new in zip(found.probabilities, second, strict=True)],
        np.array(second),
    )


def best_answers(rows: pd.DataFrame, calibration: Calibration, top: int) -> Answers:
    """Answer with the best scorer's calibrated candidates, or `by_similarity`, after the labels of near-duplicates.

    Rows of test.parquet tell how many individuals were searched; those of query.parquet searched the gallery that was
    calibrated with.

    Raises:
        FlukeprintError: the rows (of all scorers) lack the scorer that was chosen.
    """
    scorer = calibration.best.scorer or GALLERY_NEAREST
    duplicates, own = (rows[rows["scorer"] == name] for name in (DUPLICATES, scorer))
    fused = fused_of(own, scorer, calibration)
    if fused is None or own["Image"].tolist() != duplicates["Image"].tolist():
        raise FlukeprintError(
            f"the candidates of {scorer} and {DUPLICATES} are not of the same photos. Run `dvc repro ensemble`."
        )
    copies = scored_of(duplicates, DUPLICATES)
    if calibration.best.scorer is None:
        return copied(by_similarity(fused), copies, calibration.duplicates.probability, top)
    searched = int(own["individuals"].iloc[0]) if "individuals" in own and len(own) else None
    individuals = searched if scorer_of(scorer).searches else None
    return decided(fused, calibration.of(scorer), copies, calibration.duplicates, top, individuals)
