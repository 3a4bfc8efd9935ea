"""Verification on the queries: how well one similarity tells pairs of the same whale from pairs of different ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flukeprint.evaluation.curves import Points
from flukeprint.evaluation.figures import rounded
from flukeprint.metrics.detection import Curve, auroc, equal_error_rate, tar_at_far, threshold_at_far
from flukeprint.metrics.intervals import Resampling
from flukeprint.scoring.pairs import STEPS, QueryPairs

# False accept rates that are reported, by their names.
RATES = {"1e-2": 1e-2, "1e-3": 1e-3}
# Where the curve is drawn: 20 points per power of ten.
_DRAWN = np.round(np.logspace(-4, 0, 81), 9)


def verify(
    pairs: Mapping[str, QueryPairs], thresholds: Mapping[str, float], resamples: int
) -> tuple[dict[str, Any], dict[str, Points]]:
    """Return metrics/verification.json and the curves, by the name of the similarity.

    The protocol of the pairs: flukeprint/scoring/pairs.py. Figures: `eer`, `auroc`, `tar_at_1e-2_far` and
    `tar_at_1e-3_far` (the share of the same whale's pairs that are accepted where at most that share of the others is)
    with the 95 % bootstrap interval over individuals, the threshold held; `different_cosine`, the mean similarity of
    pairs of different individuals. `at_thresholds`: the rates on the first similarity's pairs of the thresholds that
    were chosen on the calibration queries, by operating point.
    """
    first = next(iter(pairs.values()))
    found: dict[str, Any] = dict(first.counts())
    curves: dict[str, Points] = {}
    if not first.both_kinds:
        return found, curves
    for name, own in pairs.items():
        curve = own.curve()
        found[name] = _figures(own, curve, resamples)
        curves[name] = _drawn(curve)
    found["at_thresholds"] = {name: _rates(first, value) for name, value in thresholds.items()}
    return found, curves


def _figures(pairs: QueryPairs, curve: Curve, resamples: int) -> dict[str, float]:
    # Near 1 the embedding has collapsed: flukeprint/metrics/spread.py.
    different = float(np.average(pairs.different / STEPS, weights=pairs.numbers))
    found = {"auroc": auroc(curve), "eer": equal_error_rate(curve), "different_cosine": different}
    draws = Resampling(pairs.individuals, resamples=resamples)
    for name, rate in RATES.items():
        accepted = (pairs.same >= threshold_at_far(curve, rate)).astype(float)
        found |= draws.interval(accepted).figures(f"tar_at_{name}_far")
    return rounded(found)


def _drawn(curve: Curve) -> Points:
    """Return the curve at rates that look even on a logarithmic axis."""
    return [{"far": far} | rounded({"tar": tar_at_far(curve, far)}) for far in _DRAWN.tolist()]


def _rates(pairs: QueryPairs, threshold: float) -> dict[str, float]:
    least = round(threshold * STEPS)
    far = float(np.average(pairs.different >= least, weights=pairs.numbers))
    rates = {"far": far, "tar": float((pairs.same >= least).mean())}
    return {"threshold": threshold} | rounded(rates)
