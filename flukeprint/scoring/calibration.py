"""The decision among candidates and new_whale: as an ordinary class, or by calibrated probability.

The calibrated model is that of flukeprint/scoring/logit.py. new_whale is one more candidate, not a reject: MAP@5 is
highest if labels stand in order of their probabilities, because the reward 1, 1/2, ..., 1/5 falls (rearrangement
inequality).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.fusion import FEATURES, NEW_FEATURES, Mixture, mix
from flukeprint.scoring.logit import LogLoss, ScoreTable, logits, softmax

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """For each photo up to `top` labels, best first, with their probabilities, and the probability of a new whale."""

    labels: list[list[str]]
    probabilities: list[list[float]]
    new_probability: Floats


@dataclass(frozen=True)
class Decision:
    """The fitted a, b, c, d of one scorer, how many queries they come from, and their log-loss (nats, weighted)."""

    inverse_temperature: float
    other: float
    new: float
    new_score_weight: float | None
    known_queries: int
    new_queries: int
    log_loss: float


def as_ordinary_class(rows: pd.DataFrame, top: int) -> Answers:
    """Rank new_whale by its score among the candidates' scores, as the reference procedure does.

    Probabilities are the softmax over what is there (the kept candidates and new_whale); without a score new_whale is
    never answered and has probability 0.

    Args:
        rows: rows of query.parquet or test.parquet of one scorer.
        top: most labels to answer.

    """
    table = ScoreTable.of(rows)
    new = np.where(np.isnan(table.new_score), -np.inf, table.new_score)
    together = np.column_stack([np.where(table.filled, table.scores, -np.inf), new])
    return _ranked(table, together, softmax(together), top)


def calibrated(rows: pd.DataFrame, decision: Decision, top: int) -> Answers:
    """Rank new_whale by its calibrated probability among the candidates'.

    Probabilities need not sum to 1 over the labels: the rest is that of another known individual.

    Args:
        rows: rows of query.parquet or test.parquet of one scorer.
        decision: that scorer's.
        top: most labels to answer.

    Raises:
        FlukeprintError: the decision weighs new_whale's score, but rows have none.

    """
    table = ScoreTable.of(rows)
    weight = decision.new_score_weight
    if weight is not None and np.isnan(table.new_score).any():
        raise FlukeprintError(
            "the decision was fitted with a score for new_whale, but these candidates have none. "
            "Run `dvc repro calibrate` to fit it to them."
        )
    new = decision.new + (0.0 if weight is None else weight * table.new_score)
    slope = np.array([decision.inverse_temperature])
    together = logits(table, slope, decision.other, np.broadcast_to(new, len(rows)))
    # Another known individual has its share of the probability, but no label to answer with.
    answerable = np.delete(together, -2, axis=1)
    return _ranked(table, answerable, np.delete(softmax(together), -2, axis=1), top)


def _ranked(table: ScoreTable, keys: Floats, probabilities: Floats, top: int) -> Answers:
    """Put new_whale where its key belongs: candidates keep their order, equal ones go by label.

    Args:
        table: n photos with up to m candidates each.
        keys: n x (m + 1), new_whale's last; probabilities may underflow to equal zeros, their logarithms do not.
        probabilities: of the same.
        top: most labels to keep.

    """
    answers = Answers([], [], probabilities[:, -1])
    for labels, (*own, new), chances in zip(table.labels, keys.tolist(), probabilities.tolist(), strict=True):
        pairs = list(zip(labels, chances, strict=False))
        if new > -np.inf:
            before = sum(
                key > new or (key == new and label < NEW_WHALE) for label, key in zip(labels, own, strict=False)
            )
            pairs.insert(before, (NEW_WHALE, chances[-1]))
        answers.labels.append([label for label, _ in pairs[:top]])
        answers.probabilities.append([value for _, value in pairs[:top]])
    return answers


def nothing_to_fit(rows: pd.DataFrame) -> str | None:
    """Say why calibration queries of one scorer do not determine a decision, or return None."""
    if not len(rows):
        return "there are no calibration queries; select.holdout sets them aside"
    is_new = rows["truth"] == NEW_WHALE
    if is_new.all() or not is_new.any():
        return f"all {len(rows)} calibration queries show {'new' if is_new.all() else 'known'} whales"
    if not rows["candidates"].map(len).any():
        return "no calibration query has a candidate"
    return None


def fit_decision(rows: pd.DataFrame, share: float) -> Decision:
    """Fit the model to one scorer's calibration queries, weighted so that new whales are `share` of them.

    The right outcome of a query is its candidate, `another` if the individual is not among the candidates, or new.

    Args:
        rows: rows of query.parquet of one scorer and split (calibration).
        share: declared share of new whales.

    Raises:
        FlukeprintError: `nothing_to_fit` has a reason, or only some rows have a score for new_whale.

    """
    if reason := nothing_to_fit(rows):
        raise FlukeprintError(f"a decision cannot be fitted: {reason}.")
    problem = LogLoss.of(rows, share)
    a, b, c, d = (_rounded(value) for value in problem.minimum())
    return _decision(problem, rows, (a, b, c, None if np.isnan(problem.table.new_score).all() else d))


def _decision(problem: LogLoss, rows: pd.DataFrame, fitted: tuple[float, float, float, float | None]) -> Decision:
    """Return the decision of a scorer with one score per candidate, of which `problem` is made."""
    a, b, c, d = fitted
    is_new = rows["truth"] == NEW_WHALE
    return Decision(
        inverse_temperature=a,
        other=b,
        new=c,
        new_score_weight=d,
        known_queries=int((~is_new).sum()),
        new_queries=int(is_new.sum()),
        log_loss=_rounded(problem.log_loss(np.array([a, b, c, d or 0.0]))),
    )


def fit_mixture(rows: pd.DataFrame, scorer: str, share: float) -> tuple[Mixture, Decision]:
    """Fit the weights of a scorer's features, and the decision on the mixed score, in one.

    If no feature helps to tell the right candidate, all weigh the same and the inverse temperature is 0.

    Args:
        rows: rows of query.parquet of this scorer and one split (calibration).
        scorer: one of those in flukeprint/scoring/fusion.py.
        share: declared share of new whales.

    Raises:
        FlukeprintError: as `fit_decision`.

    """
    if reason := nothing_to_fit(rows):
        raise FlukeprintError(f"a decision cannot be fitted: {reason}.")
    problem = LogLoss.of(rows, share)
    fit = problem.fit()
    total = float(fit.slopes.sum())
    shares = fit.slopes / total if total > 0 else np.full(len(fit.slopes), 1 / len(fit.slopes))
    absent = [bool(np.isnan(column).all()) for column in problem.table.new_features.T]
    of_photo = zip(NEW_FEATURES[scorer], fit.new_weights.tolist(), absent, strict=True)
    mixture = Mixture(
        {name: _rounded(value) for name, value in zip(FEATURES[scorer], shares.tolist(), strict=True)},
        {name: _rounded(value) for name, value, is_absent in of_photo if not is_absent},
    )
    scored = mix(rows, scorer, mixture)
    weight = 1.0 if any(mixture.new_features.values()) else None
    fitted = (_rounded(total), _rounded(fit.other), _rounded(fit.new), weight)
    return mixture, _decision(LogLoss.of(scored, share), scored, fitted)


def _rounded(value: float) -> float:
    """Keep six digits: more would depend on the order of the machine's sums."""
    return float(f"{value:.6g}")


def fit_scorer(rows: pd.DataFrame, scorer: str, share: float) -> tuple[Mixture | None, Decision]:
    """Fit a scorer's decision, and its mixture if it has features."""
    if scorer in FEATURES:
        return fit_mixture(rows, scorer, share)
    return None, fit_decision(rows, share)


def fit_decisions(rows: pd.DataFrame, share: float, scorers: list[str]) -> dict[str, Any]:
    """Return what models/decision.json says of scorers: share, decisions, mixtures, and why others have none.

    Args:
        rows: the calibration rows of query.parquet, of all scorers.
        share: declared share of new whales.
        scorers: names, in any order.

    """
    fitted: dict[str, Any] = {}
    mixtures: dict[str, Any] = {}
    without: dict[str, str] = {}
    for scorer in scorers:
        own = rows[rows["scorer"] == scorer]
        if reason := nothing_to_fit(own):
            without[scorer] = reason
            continue
        mixture, decision = fit_scorer(own, scorer, share)
        fitted[scorer] = asdict(decision)
        if mixture:
            mixtures[scorer] = asdict(mixture)
    return {"share": share, "scorers": fitted, "mixtures": mixtures, "without": without}


def read_decisions(path: Path | str) -> dict[str, Decision]:
    """Return {scorer: its decision} of models/decision.json, without the scorers that have none."""
    return {scorer: Decision(**fields) for scorer, fields in read_json(path)["scorers"].items()}


def decision_of(scorer: str, path: Path | str) -> Decision:
    """Return one scorer's decision.

    Raises:
        FlukeprintError: it has none; the message says why.

    """
    decisions = read_decisions(path)
    if scorer not in decisions:
        without: Mapping[str, str] = read_json(path)["without"]
        reason = without.get(scorer, f"only {', '.join(decisions) or 'no scorer'} was calibrated")
        raise FlukeprintError(
            f"{path} has no decision for {scorer}: {reason}. Set submit.decision to class in params.yaml, "
            "or set calibration queries aside (select.holdout)."
        )
    return decisions[scorer]
