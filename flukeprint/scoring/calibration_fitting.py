"""Open-set calibration and score fusion of scorers, fitted to calibration queries."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibration import OpenSetCalibration, ScoreFusion
from flukeprint.scoring.candidates import Scored, scored_of
from flukeprint.scoring.conditional_logit import Fit, LogLoss
from flukeprint.scoring.fusion import fuse
from flukeprint.scoring.registry import scorer_of


class FittedScorers(NamedTuple):
    """What models/decision.json says of scorers, and why others are without."""

    scorers: dict[str, OpenSetCalibration]
    fusions: dict[str, ScoreFusion]
    without: dict[str, str]


def fit_scorers(rows: pd.DataFrame, share: float, scorers: Iterable[str]) -> FittedScorers:
    """Fit every scorer that has queries to fit: its calibration rows of query.parquet."""
    found = FittedScorers({}, {}, {})
    for scorer in scorers:
        own = rows[rows["scorer"] == scorer]
        scored, truth = scored_of(own, scorer), own["truth"].tolist()
        if reason := nothing_to_fit(scored, truth):
            found.without[scorer] = reason
            continue
        fusion, found.scorers[scorer] = fit_scorer(scored, truth, scorer, share)
        if fusion:
            found.fusions[scorer] = fusion
    return found


def nothing_to_fit(scored: Scored, truth: Sequence[str]) -> str | None:
    """Say why calibration queries of one scorer do not determine a calibration, or return None."""
    if not truth:
        return "there are no calibration queries; select.holdout sets them aside"
    new = sum(label == NEW_WHALE for label in truth)
    if new in (0, len(truth)):
        return f"all {len(truth)} calibration queries show {'new' if new else 'known'} whales"
    return None if scored.filled.any() else "no calibration query has a candidate"


def fit_scorer(
    scored: Scored, truth: Sequence[str], scorer: str, share: float
) -> tuple[ScoreFusion | None, OpenSetCalibration]:
    """Fit a scorer's calibration, and in one with it the weights of its features, if it has any.

    The right outcome of a query is its candidate, `another` if the individual is not among the candidates, or new;
    queries are weighted so that new whales are `share` of them.

    Raises:
        FlukeprintError: `nothing_to_fit` has a reason, or only some queries have a score for new_whale.
    """
    if reason := nothing_to_fit(scored, truth):
        raise FlukeprintError(f"a calibration cannot be fitted: {reason}.")
    problem = LogLoss.of(scored, truth, share)
    fit = problem.fit()
    absent = [bool(np.isnan(column).all()) for column in scored.new_features.T]
    fusion, weight = None, None if absent[0] else _rounded(fit.new_weights[0])
    if scorer_of(scorer).features:
        fusion = _fusion(fit, scorer, absent)
        weight = 1.0 if any(fusion.new_features.values()) else None
        problem = LogLoss.of(fuse(scored, scorer, fusion), truth, share)
    a, b, c = _rounded(fit.slopes.sum()), _rounded(fit.other), _rounded(fit.new)
    new = sum(label == NEW_WHALE for label in truth)
    return fusion, OpenSetCalibration(
        inverse_temperature=a,
        other=b,
        new=c,
        new_score_weight=weight,
        known_queries=len(truth) - new,
        new_queries=new,
        log_loss=_rounded(problem.log_loss(np.array([a, b, c, weight or 0.0]))),
    )


def _fusion(fit: Fit, scorer: str, absent: Sequence[bool]) -> ScoreFusion:
    """Return the weights of the features. If none helps to tell the right candidate, all weigh the same."""
    total = fit.slopes.sum()
    shares = fit.slopes / total if total > 0 else np.full(len(fit.slopes), 1 / len(fit.slopes))
    of_photo = zip(scorer_of(scorer).photo_features, fit.new_weights, absent, strict=True)
    return ScoreFusion(
        features={name: _rounded(value) for name, value in zip(scorer_of(scorer).features, shares, strict=True)},
        new_features={name: _rounded(value) for name, value, is_absent in of_photo if not is_absent},
    )


def _rounded(value: float) -> float:
    """Keep six digits: more would depend on the order of the machine's sums."""
    return float(f"{value:.6g}")
