"""Verification: whether two photos show the same whale, by the cosine similarity of their vectors.

Thresholds and the calibration come from the calibration queries' pairs (flukeprint/scoring/pairs.py), and are stored in
models/decision.json under `verification`.
"""

import numpy as np
from numpy.typing import NDArray

from flukeprint.metrics.detection import roc_curve_of_few, threshold_at_eer, threshold_at_far
from flukeprint.scoring.calibration import NoVerification, Verification
from flukeprint.scoring.pairs import QueryPairs

_DIGITS = 6
# Pairs of different whales that the calibration looks at: more change nothing but time and memory.
_MOST = 1 << 20
# Weight of half the squared slope (of standardised similarities) beside the mean log-loss: it only keeps it finite.
_RIDGE = 1e-6


def fit_verification(pairs: QueryPairs) -> Verification | NoVerification:
    """Return `verification` of models/decision.json: thresholds, the logistic calibration, counts of pairs.

    The calibration weighs pairs of the same and of different whales alike in total (even odds).
    """
    if not pairs.both_kinds:
        reason = "there are no calibration pairs of the same and of different whales"
        return NoVerification(**pairs.counts(), without=reason)
    genuine, impostors = pairs.similarity[pairs.same], np.sort(pairs.similarity[~pairs.same])
    curve = roc_curve_of_few(genuine, impostors)
    found = {"far_1e-2": threshold_at_far(curve, 1e-2), "far_1e-3": threshold_at_far(curve, 1e-3)}
    found["eer"] = threshold_at_eer(curve)
    # Evenly through their order, so that many stand for all.
    some = impostors[:: -(-len(impostors) // _MOST)]
    is_same = np.append(np.ones(len(genuine), bool), np.zeros(len(some), bool))
    slope, intercept = logistic(np.append(genuine, some), is_same)
    return Verification.model_validate(
        pairs.counts()
        | {
            "thresholds": {name: round(value, _DIGITS) for name, value in found.items() if np.isfinite(value)},
            "slope": float(f"{slope:.6g}"),
            "intercept": float(f"{intercept:.6g}"),
        }
    )


def logistic(values: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit P(positive) = 1 / (1 + exp(-(slope x value + intercept))) by maximum likelihood; both kinds weigh alike."""
    from sklearn.linear_model import LogisticRegression

    x = values.astype(np.float64)
    mean, deviation = x.mean(), x.std() or 1.0
    positives = int(is_positive.sum())
    weights = np.where(is_positive, 0.5 / positives, 0.5 / (len(x) - positives))
    model = LogisticRegression(C=1 / _RIDGE, solver="newton-cholesky", tol=1e-10)
    model.fit(((x - mean) / deviation)[:, None], is_positive, sample_weight=weights)
    slope = float(model.coef_[0, 0] / deviation)
    return slope, float(model.intercept_[0] - slope * mean)
