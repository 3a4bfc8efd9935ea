"""The conditional (multinomial) logit of open-set calibration: all candidates share its parameters (McFadden 1974).

For a photo whose candidate i has the features x_i1, ..., x_iK, and that has itself the features z_1, ..., z_L:

    logit(candidate i) = a_1 x_i1 + ... + a_K x_iK        every a >= 0
    logit(another known individual) = b + e_1 y_1 + ... + e_J y_J + offset
    logit(new whale) = c + d_1 z_1 + ... + d_L z_L        d is 0 where the scorer has no such feature

and the probabilities are the softmax of these. (J is 0 and the offset 0 but for galleries of several sizes,
calibration_fitting.py.) A scorer with one score per candidate has K = 1 (its scores) and L = 1
(new_whale's score); with one candidate that is Platt scaling. The negative log-likelihood is convex in (a, b, c, d, e),
because every logit is linear in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
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
    """The parameters of the logit: K slopes, b, c, L weights of the photo's features and J of another's."""

    slopes: Floats
    other: float
    new: float
    new_weights: Floats
    other_weights: Floats

    @property
    def vector(self) -> Floats:
        """All of them one after the other."""
        return np.concatenate([self.slopes, [self.other, self.new], self.new_weights, self.other_weights])


@dataclass(frozen=True)
class LogLoss:
    """The weighted log-loss over the parameters (a, b, c, d, e), and its gradient."""

    features: Floats  # n x m x K, 0 where there is no candidate
    filled: NDArray[np.bool_]  # n x m
    new_features: Floats  # n x L, 0 where there is none
    outcome: NDArray[np.int64]  # column of the right outcome: a candidate's, m (another), m + 1 (new)
    weights: Floats  # they sum to 1
    other_features: Floats  # n x J
    offset: Floats  # n, of another's logit; -inf where there is no other individual

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
        nothing = np.zeros((len(scored), 0))
        return cls(
            features, scored.filled, new_features, outcome, weights / weights.sum(), nothing, np.zeros(len(scored))
        )

    @classmethod
    def joined(cls, parts: Sequence[LogLoss], weights: Sequence[float]) -> LogLoss:
        """Put problems with equally many candidates together, each with its share of the weight."""
        scaled = [replace(part, weights=part.weights * own) for part, own in zip(parts, weights, strict=True)]
        return cls(*(np.concatenate([getattr(part, field.name) for part in scaled]) for field in fields(cls)))

    @property
    def number(self) -> int:
        """How many slopes there are: K."""
        return int(self.features.shape[2])

    def _parted(self, vector: Floats) -> Fit:
        ends = np.cumsum([self.number, 2, self.new_features.shape[1]])
        slopes, (other, new), new_weights, other_weights = np.split(vector, ends)
        return Fit(slopes, float(other), float(new), new_weights, other_weights)

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
        unscaled = np.ones(self.other_features.shape[1])
        transform = np.diag(np.concatenate([1 / deviation, [1.0, 1.0], 1 / new_deviation, unscaled]))
        # Shifting all candidates' logits by -a mean / deviation is shifting the other two by the opposite.
        transform[self.number : self.number + 2, : self.number] = mean / deviation
        end = len(transform) - len(unscaled)
        transform[self.number + 1, self.number + 2 : end] = -new_mean / new_deviation
        return replace(self, features=features, new_features=new_features), transform

    def log_loss(self, parameters: Floats) -> float:
        """Return the weighted mean of -log P(right outcome) in nats."""
        return self._loss_and_probabilities(parameters)[0]

    def _loss_and_probabilities(self, parameters: Floats) -> tuple[float, Floats]:
        fit = self._parted(parameters)
        own = np.where(self.filled, self.features @ fit.slopes, -np.inf)
        new = fit.new + self.new_features @ fit.new_weights
        other = fit.other + self.other_features @ fit.other_weights + self.offset
        logits = np.column_stack([own, other, new])
        log_total = logsumexp(logits, axis=1)
        right = logits[np.arange(len(logits)), self.outcome]
        return float(self.weights @ (log_total - right)), np.exp(logits - log_total[:, None])

    def objective(self, parameters: Floats) -> tuple[float, Floats]:
        """Return the log-loss with its ridge, and the gradient."""
        loss, expected = self._loss_and_probabilities(parameters)
        expected[np.arange(len(expected)), self.outcome] -= 1
        excess = self.weights[:, None] * expected
        slopes = np.tensordot(excess[:, :-2], self.features, axes=2)
        of_other, of_new = excess[:, -2], excess[:, -1]
        weights = of_new @ self.new_features, of_other @ self.other_features
        gradient = np.concatenate([slopes, [of_other.sum(), of_new.sum()], *weights])
        return loss + _RIDGE / 2 * float(parameters @ parameters), gradient + _RIDGE * parameters


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each column; deviation 1 of constant ones."""
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    # float32 scores that differ at all differ by more than this; float64 sums of equal ones by less.
    varies = deviation > 1e-9 * np.abs(values).max(axis=0)
    return mean, np.where(varies, deviation, 1.0)
