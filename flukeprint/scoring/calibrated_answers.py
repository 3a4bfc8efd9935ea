"""Answers among candidates and new_whale: new_whale as an ordinary class, or by calibrated probability.

The calibrated model is that of conditional_logit.py. new_whale is one more candidate, not a reject: MAP@5 is highest if
labels stand in order of their probabilities, because the reward 1, 1/2, ..., 1/5 falls (rearrangement inequality).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibration import OpenSetCalibration
from flukeprint.scoring.candidates import Scored

Floats = NDArray[np.float64]

# Cosines beyond it count as it: z grows without end, and a copy is not more than sure.
_LARGEST_COSINE = 0.99


@dataclass(frozen=True)
class Answers:
    """For each photo up to `top` labels, best first, with their probabilities, and the probability of a new whale."""

    labels: list[list[str]]
    probabilities: list[list[float]]
    new_probability: Floats


def as_ordinary_class(scored: Scored, top: int) -> Answers:
    """Rank new_whale by its score among the candidates' scores, as the reference procedure does.

    Probabilities are the softmax over what is there (the kept candidates and new_whale); without a score new_whale is
    never answered and has probability 0. At most `top` labels are answered.
    """
    new = np.where(np.isnan(scored.new_score), -np.inf, scored.new_score)
    keys = np.column_stack([np.where(scored.filled, scored.scores, -np.inf), new])
    return _ranked(scored, keys, _softmax(keys), top)


def calibrated(scored: Scored, fitted: OpenSetCalibration, top: int, individuals: int | None = None) -> Answers:
    """Rank new_whale by its calibrated probability among the candidates'; answer at most `top` labels.

    Probabilities need not sum to 1 over the labels: the rest is that of another known individual. `individuals`: how
    many the searched gallery has; None: it is the one that was calibrated with.

    Raises:
        FlukeprintError: the calibration weighs new_whale's score, but there is none.
    """
    keys = _calibrated_logits(scored, fitted, individuals)
    # Another known individual has its share of the probability, but no label to answer with.
    return _ranked(scored, np.delete(keys, -2, axis=1), np.delete(_softmax(keys), -2, axis=1), top)


def _calibrated_logits(scored: Scored, fitted: OpenSetCalibration, individuals: int | None) -> Floats:
    """Return n x (m + 2): candidates (-inf where there is none), another known individual, new whale."""
    if individuals is None and fitted.sizes:
        individuals = fitted.sizes.individuals
    a, b, c = fitted.logits(individuals or 0)
    weight = fitted.new_score_weight
    if weight is not None and np.isnan(scored.new_score).any():
        raise FlukeprintError(
            "the calibration was fitted with a score for new_whale, but these candidates have none. "
            "Run `dvc repro calibrate` to fit it to them."
        )
    new = c + (0.0 if weight is None else weight * scored.new_score)
    scores = fisher_z(scored.scores) if fitted.sizes else scored.scores
    own = np.where(scored.filled, a * scores, -np.inf)
    unlisted = np.zeros(len(scored)) if individuals is None else scored.log_unlisted(individuals)
    other = b + (unlisted if fitted.sizes else np.minimum(unlisted, 0.0))
    return np.column_stack([own, other, np.broadcast_to(new, len(scored))])


def fisher_z(cosines: NDArray[np.floating]) -> Floats:
    """Return Fisher's z, artanh(r): the scale on which a correlation's spread is the same everywhere (Fisher 1921)."""
    return np.asarray(np.arctanh(np.clip(cosines.astype(np.float64), -_LARGEST_COSINE, _LARGEST_COSINE)))


def _softmax(keys: Floats) -> Floats:
    """Return the softmax of each row; zeros for a row of -inf only."""
    possible = keys > -np.inf
    return np.where(possible, softmax(np.where(possible.any(axis=1, keepdims=True), keys, 0.0), axis=1), 0.0)


def _ranked(scored: Scored, keys: Floats, chances: Floats, top: int) -> Answers:
    """Put new_whale where its key belongs: candidates keep their order, equal ones go by label.

    Keys and chances (probabilities) are n x (m + 1), new_whale's last. Probabilities may underflow to equal zeros,
    their logarithms, the keys, do not.
    """
    own, new = keys[:, :-1], keys[:, -1:]
    # A label stands before new_whale in the alphabet if its place is smaller than new_whale's would be.
    is_before = (own > new) | ((own == new) & (scored.label < np.searchsorted(scored.names, NEW_WHALE)))
    before = (is_before & scored.filled).sum(axis=1, keepdims=True)
    columns = np.arange(own.shape[1])
    names = np.append(scored.names, NEW_WHALE)
    order = np.argsort(np.column_stack([columns + (columns >= before), before]), axis=1)[:, :top]
    code = np.column_stack([scored.label, np.where(new > -np.inf, len(scored.names), -1)])
    answers = Answers([], [], chances[:, -1])
    for row, values in zip(np.take_along_axis(code, order, 1), np.take_along_axis(chances, order, 1), strict=True):
        answers.labels.append(names[row[row >= 0]].tolist())
        answers.probabilities.append(values[row >= 0].tolist())
    return answers
