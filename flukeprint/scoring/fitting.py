"""Open-set calibration and score fusion of scorers, fitted to calibration queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibration import OpenSetCalibration, ScoreFusion
from flukeprint.scoring.candidates import Scored, scored_of
from flukeprint.scoring.fusion import fuse
from flukeprint.scoring.logit import LogLoss
from flukeprint.scoring.registry import scorer_of


@dataclass(frozen=True)
class FittedScorers:
    """What models/decision.json says of scorers, and why others are without."""

    scorers: dict[str, OpenSetCalibration]
    fusions: dict[str, ScoreFusion]
    without: dict[str, str]


def fit_scorers(rows: pd.DataFrame, share: float, scorers: Iterable[str]) -> FittedScorers:
    """Fit every scorer that has queries to fit.

    Args:
        rows: the calibration rows of query.parquet, of all scorers.
        share: declared share of new whales.
        scorers: names, in any order.

    """
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


def fit_scorer(
    scored: Scored, truth: Sequence[str], scorer: str, share: float
) -> tuple[ScoreFusion | None, OpenSetCalibration]:
    """Fit a scorer's calibration, and its fusion if it has features."""
    if scorer_of(scorer).features:
        return fit_fusion(scored, truth, scorer, share)
    return None, fit_open_set(scored, truth, share)


def nothing_to_fit(scored: Scored, truth: Sequence[str]) -> str | None:
    """Say why calibration queries of one scorer do not determine a calibration, or return None."""
    if not truth:
        return "there are no calibration queries; select.holdout sets them aside"
    new = sum(label == NEW_WHALE for label in truth)
    if new in (0, len(truth)):
        return f"all {len(truth)} calibration queries show {'new' if new else 'known'} whales"
    return None if scored.filled.any() else "no calibration query has a candidate"


def fit_open_set(scored: Scored, truth: Sequence[str], share: float) -> OpenSetCalibration:
    """Fit the model to one scorer's calibration queries, weighted so that new whales are `share` of them.

    The right outcome of a query is its candidate, `another` if the individual is not among the candidates, or new.

    Args:
        scored: one score per candidate.
        truth: the right answers.
        share: declared share of new whales.

    Raises:
        FlukeprintError: `nothing_to_fit` has a reason, or only some queries have a score for new_whale.

    """
    problem = _problem(scored, truth, share)
    a, b, c, d = (_rounded(value) for value in problem.minimum())
    return _described(problem, truth, (a, b, c, None if np.isnan(scored.new_score).all() else d))


def fit_fusion(
    scored: Scored, truth: Sequence[str], scorer: str, share: float
) -> tuple[ScoreFusion, OpenSetCalibration]:
    """Fit the weights of a scorer's features, and the calibration of the fused score, in one.

    If no feature helps to tell the right candidate, all weigh the same and the inverse temperature is 0.

    Args:
        scored: with the scorer's features.
        truth: the right answers.
        scorer: one of those in flukeprint/scoring/fusion.py.
        share: declared share of new whales.

    Raises:
        FlukeprintError: as `fit_open_set`.

    """
    fit = _problem(scored, truth, share).fit()
    total = float(fit.slopes.sum())
    shares = fit.slopes / total if total > 0 else np.full(len(fit.slopes), 1 / len(fit.slopes))
    absent = [bool(np.isnan(column).all()) for column in scored.new_features.T]
    of_photo = zip(scorer_of(scorer).photo_features, fit.new_weights.tolist(), absent, strict=True)
    fusion = ScoreFusion(
        features={name: _rounded(value) for name, value in zip(scorer_of(scorer).features, shares, strict=True)},
        new_features={name: _rounded(value) for name, value, is_absent in of_photo if not is_absent},
    )
    weight = 1.0 if any(fusion.new_features.values()) else None
    fitted = (_rounded(total), _rounded(fit.other), _rounded(fit.new), weight)
    return fusion, _described(LogLoss.of(fuse(scored, scorer, fusion), truth, share), truth, fitted)


def _problem(scored: Scored, truth: Sequence[str], share: float) -> LogLoss:
    if reason := nothing_to_fit(scored, truth):
        raise FlukeprintError(f"a calibration cannot be fitted: {reason}.")
    return LogLoss.of(scored, truth, share)


def _described(
    problem: LogLoss, truth: Sequence[str], fitted: tuple[float, float, float, float | None]
) -> OpenSetCalibration:
    """Return the calibration of a scorer with one score per candidate, of which `problem` is made."""
    a, b, c, d = fitted
    new = sum(label == NEW_WHALE for label in truth)
    return OpenSetCalibration(
        inverse_temperature=a,
        other=b,
        new=c,
        new_score_weight=d,
        known_queries=len(truth) - new,
        new_queries=new,
        log_loss=_rounded(problem.log_loss(np.array([a, b, c, d or 0.0]))),
    )


def _rounded(value: float) -> float:
    """Keep six digits: more would depend on the order of the machine's sums."""
    return float(f"{value:.6g}")
