"""Verification: whether two photos show the same whale, by the cosine similarity of their vectors.

Thresholds and the calibration come from the calibration queries' pairs (flukeprint/scoring/pairs.py), and are stored in
models/decision.json under `verification`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json
from flukeprint.metrics.detection import roc_curve_of_few, threshold_at_eer, threshold_at_far

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flukeprint.scoring.pairs import QueryPairs

_DIGITS = 6
# QueryPairs of different whales that the calibration looks at: more change nothing but time and memory.
_MOST = 1 << 20
# Where the Newton steps stop, in nats per standardised parameter, and the ridge that keeps them finite.
_TOLERANCE, _RIDGE = 1e-10, 1e-6


@dataclass(frozen=True)
class Verification:
    """Thresholds on the similarity of two photos, and its calibration.

    A pair is accepted if its similarity is at least the threshold. One that no false accept was seen above is absent:
    `threshold_far_1e-3` needs a thousand pairs of different whales.
    """

    thresholds: dict[str, float]  # by operating point: far_1e-2, far_1e-3, eer
    slope: float
    intercept: float

    def probability(self, similarity: float, prior: float = 0.5) -> float:
        """Return the probability that two photos show the same whale.

        Args:
            similarity: of the two, -1..1.
            prior: the probability before looking, 0..1; one half says that both are as likely.

        """
        if not 0 < prior < 1:
            return float(prior)
        odds = self.slope * similarity + self.intercept + np.log(prior / (1 - prior))
        return float(1 / (1 + np.exp(-np.clip(odds, -700, 700))))


def fit_verification(pairs: QueryPairs) -> dict[str, Any]:
    """Return `verification` of models/decision.json: thresholds, the logistic calibration, counts of pairs.

    The calibration weighs pairs of the same and of different whales alike in total (even odds).
    """
    if not pairs.both_kinds:
        return pairs.counts() | {"without": "there are no calibration pairs of the same and of different whales"}
    genuine, impostors = pairs.similarity[pairs.same], np.sort(pairs.similarity[~pairs.same])
    curve = roc_curve_of_few(genuine, impostors)
    found = {"far_1e-2": threshold_at_far(curve, 1e-2), "far_1e-3": threshold_at_far(curve, 1e-3)}
    found["eer"] = threshold_at_eer(curve)
    # Evenly through their order, so that many stand for all.
    some = impostors[:: -(-len(impostors) // _MOST)]
    is_same = np.append(np.ones(len(genuine), bool), np.zeros(len(some), bool))
    slope, intercept = logistic(np.append(genuine, some), is_same)
    thresholds = {name: round(value, _DIGITS) for name, value in found.items() if np.isfinite(value)}
    fitted = Verification(thresholds, float(f"{slope:.6g}"), float(f"{intercept:.6g}"))
    return pairs.counts() | asdict(fitted)


def logistic(values: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit P(positive) = 1 / (1 + exp(-(slope x value + intercept))) by maximum likelihood, both kinds weighing alike.

    Newton's method on the convex negative log-likelihood, on standardised values.
    """
    x = values.astype(np.float64)
    mean, deviation = x.mean(), x.std() or 1.0
    x = (x - mean) / deviation
    positives = int(is_positive.sum())
    weights = np.where(is_positive, 0.5 / positives, 0.5 / (len(x) - positives))
    target = is_positive.astype(np.float64)
    parameters = np.zeros(2)
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(parameters[0] * x + parameters[1], -50, 50)))
        residual = weights * (chance - target)
        gradient = np.array([residual @ x, residual.sum()]) + _RIDGE * parameters
        if np.abs(gradient).max() < _TOLERANCE:
            break
        curvature = weights * chance * (1 - chance)
        across = curvature @ x
        hessian = np.array([[curvature @ (x * x), across], [across, curvature.sum()]]) + _RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        # A full step may overshoot where the kinds are far apart.
        parameters = parameters - step * min(1.0, 5.0 / np.abs(step).max())
    slope = float(parameters[0] / deviation)
    return slope, float(parameters[1] - slope * mean)


def read_verification(path: Path | str) -> Verification:
    """Return the thresholds and the calibration of models/decision.json.

    Raises:
        FlukeprintError: there were no pairs to calibrate with.

    """
    content = read_json(path)["verification"]
    if reason := content.get("without"):
        raise FlukeprintError(f"{path} has no thresholds for verification: {reason}. Set some aside (select.holdout).")
    return Verification(content["thresholds"], content["slope"], content["intercept"])
