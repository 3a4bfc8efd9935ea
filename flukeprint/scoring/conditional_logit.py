"""The conditional (multinomial) logit of open-set calibration: all candidates share its parameters (McFadden 1974).

For a photo whose candidate i has the features x_i1, ..., x_iK, and that has itself the features z_1, ..., z_L:

    logit(candidate i) = a_1 x_i1 + ... + a_K x_iK        every a >= 0
    logit(another known individual) = b
    logit(new whale) = c + d_1 z_1 + ... + d_L z_L        d is 0 where the scorer has no such feature

and the probabilities are the softmax of these. A scorer with one score per candidate has K = 1 (its scores) and L = 1
(new_whale's score); with one candidate that is Platt scaling. The negative log-likelihood is convex in (a, b, c, d),
because every logit is linear in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.metrics.arrays import new_share_weights
from flukeprint.scoring.candidates import Scored

Floats = NDArray[np.float64]

# Weight of half the squared length of the (standardised) parameters beside the mean log-loss. It only keeps them finite
# where the calibration queries can be told apart without error.
_RIDGE = 1e-6
# The largest gradient that still counts as the minimum, in nats per standardised parameter.
_TOLERANCE = 1e-6


class Fit(NamedTuple):
    """The parameters of the logit: K slopes, b, c and L weights."""

    slopes: Floats
    other: float
    new: float
    new_weights: Floats


@dataclass(frozen=True)
class LogLoss:
    """The weighted log-loss over the parameters (a, b, c, d), and its gradient."""

    features: Floats  # n x m x K, 0 where there is no candidate
    filled: NDArray[np.bool_]  # n x m
    new_features: Floats  # n x L, 0 where there is none
    outcome: NDArray[np.int64]  # column of the right outcome: a candidate's, m (another), m + 1 (new)
    weights: Floats  # they sum to 1

    @classmethod
    def of(cls, scored: Scored, truth: Sequence[str], share: float) -> LogLoss:
        """Take queries and their right answers, weighted so that new whales are `share` of them.

        Raises:
            FlukeprintError: only some queries have a score (or a feature) for new_whale.
        """
        for absent in np.isnan(scored.new_features).T:
            if absent.any() and not absent.all():
                raise FlukeprintError(f"{absent.sum()} of {len(scored)} rows have no new_score, expected all or none.")
        is_new = np.array([label == NEW_WHALE for label in truth], bool)
        m = scored.label.shape[1]
        right = scored.label == scored.places_of(truth)[:, None]
        outcome = np.where(is_new, m + 1, np.where(right.any(axis=1), right.argmax(axis=1), m))
        weights = new_share_weights(is_new, share)
        features, new_features = scored.features.astype(float), np.nan_to_num(scored.new_features.astype(float))
        return cls(features, scored.filled, new_features, outcome, weights / weights.sum())

    @property
    def number(self) -> int:
        """How many slopes there are: K."""
        return int(self.features.shape[2])

    def _parted(self, vector: Floats) -> Fit:
        k = self.number
        return Fit(vector[:k], float(vector[k]), float(vector[k + 1]), vector[k + 2 :])

    def fit(self) -> Fit:
        """Return the parameters of least log-loss; a weight is 0 where new_whale has no such feature."""
        from scipy.optimize import minimize

        scaled, transform = self._standardised()
        free = transform.shape[0] - self.number
        result = minimize(
            scaled.objective,
            np.array([1.0] * self.number + [0.0] * free),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * self.number + [(None, None)] * free,
            options={"maxiter": 10_000, "ftol": 0.0, "gtol": _TOLERANCE / 100},
        )
        gradient = scaled.objective(result.x)[1]
        # At its bound a slope may only want to go on down.
        at_bound = np.append(result.x[: self.number] == 0, np.zeros(free, bool))
        gradient[at_bound] = np.minimum(gradient[at_bound], 0.0)
        if np.abs(gradient).max() > _TOLERANCE:
            raise FlukeprintError(f"the calibration did not converge ({result.message}; gradient {gradient}).")
        return self._parted(transform @ result.x)

    def _standardised(self) -> tuple[LogLoss, Floats]:
        """Return the problem with features of mean 0 and deviation 1, and what takes its parameters back."""
        mean, deviation = _moments(self.features[self.filled])
        new_mean, new_deviation = _moments(self.new_features)
        features = np.where(self.filled[:, :, None], (self.features - mean) / deviation, 0.0)
        new_features = (self.new_features - new_mean) / new_deviation
        transform = np.diag(np.concatenate([1 / deviation, [1.0, 1.0], 1 / new_deviation]))
        # Shifting all candidates' logits by -a mean / deviation is shifting the other two by the opposite.
        transform[self.number : self.number + 2, : self.number] = mean / deviation
        transform[self.number + 1, self.number + 2 :] = -new_mean / new_deviation
        return replace(self, features=features, new_features=new_features), transform

    def log_loss(self, parameters: Floats) -> float:
        """Return the weighted mean of -log P(right outcome) in nats."""
        return self._loss_and_probabilities(parameters)[0]

    def _loss_and_probabilities(self, parameters: Floats) -> tuple[float, Floats]:
        fit = self._parted(parameters)
        own = np.where(self.filled, self.features @ fit.slopes, -np.inf)
        new = fit.new + self.new_features @ fit.new_weights
        logits = np.column_stack([own, np.full(len(new), fit.other), new])
        log_total = logsumexp(logits, axis=1)
        right = logits[np.arange(len(logits)), self.outcome]
        return float(self.weights @ (log_total - right)), np.exp(logits - log_total[:, None])

    def objective(self, parameters: Floats) -> tuple[float, Floats]:
        """Return the log-loss with its ridge, and the gradient."""
        loss, expected = self._loss_and_probabilities(parameters)
        expected[np.arange(len(expected)), self.outcome] -= 1
        excess = self.weights[:, None] * expected
        slopes = np.tensordot(excess[:, :-2], self.features, axes=2)
        of_new = excess[:, -1]
        gradient = np.concatenate([slopes, [excess[:, -2].sum(), of_new.sum()], of_new @ self.new_features])
        return loss + _RIDGE / 2 * float(parameters @ parameters), gradient + _RIDGE * parameters


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each column; deviation 1 of constant ones."""
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    # float32 scores that differ at all differ by more than this; float64 sums of equal ones by less.
    varies = deviation > 1e-9 * np.abs(values).max(axis=0)
    return mean, np.where(varies, deviation, 1.0)
