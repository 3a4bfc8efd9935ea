"""Pairs of photos for verification ("do these two show the same whale?"), and the calibration of their similarity.

Protocol: every query of a known individual, with every photo of an individual in the gallery. A pair is of the same
individual if both labels are, else of different ones. Photos of new_whale make no pairs: nobody knows whom they show.
Where near-duplicates stay together (select.protocol: grouped) a query has none in the gallery, so no pair is nearly the
same picture twice. MLE-bench's split does not see to that.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import is_trained
from flukeprint.metrics.detection import roc_curve_of_few, threshold_at_eer, threshold_at_far
from flukeprint.scoring.calibration import NoVerification, Verification

# Pairs of different whales that the calibration looks at: more change nothing but time and memory.
_MOST = 1 << 20
# Weight of half the squared slope (of standardised similarities) beside the mean log-loss: it only keeps it finite.
_RIDGE = 1e-6


@dataclass(frozen=True)
class QueryPairs:
    """The pairs of Q queries with G photos of the gallery."""

    similarity: NDArray[np.float32]  # Q x G
    same: NDArray[np.bool_]  # Q x G
    individuals: NDArray[np.str_]  # Q: whom each query shows

    @property
    def both_kinds(self) -> bool:
        """Whether there are pairs of the same and of different individuals."""
        return bool(self.same.any() and not self.same.all())

    def counts(self) -> dict[str, int]:
        """Return how many queries, individuals among them, and pairs of either kind there are."""
        same = int(self.same.sum())
        return {
            "queries": len(self.same),
            "individuals": len(np.unique(self.individuals)),
            "same_pairs": same,
            "different_pairs": self.same.size - same,
        }


def pairs_of(similarity: NDArray[np.float32], table: pd.DataFrame, split: str) -> QueryPairs:
    """Return the pairs of one split's queries.

    The similarity is of the photos of data/selected/full.parquet that were set aside to all photos there.
    """
    in_gallery = is_trained(table) & (table["Id"] != NEW_WHALE).to_numpy(dtype=bool)
    queries = table[~is_trained(table)]
    known = set(table.loc[in_gallery, "Id"])
    rows = ((queries["split"] == split) & queries["Id"].isin(known)).to_numpy(dtype=bool)
    individuals = queries["Id"].to_numpy(dtype=str)[rows]
    labels, codes = np.unique(table["Id"].to_numpy(dtype=str)[in_gallery], return_inverse=True)
    same = np.searchsorted(labels, individuals)[:, None] == codes
    return QueryPairs(np.asarray(similarity)[np.ix_(rows, in_gallery)], same, individuals)


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
    return Verification(
        **pairs.counts(),
        thresholds={name: round(value, 6) for name, value in found.items() if np.isfinite(value)},
        slope=float(f"{slope:.6g}"),
        intercept=float(f"{intercept:.6g}"),
    )


def logistic(
    values: NDArray[np.floating], is_positive: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Fit P(positive) = 1 / (1 + exp(-(slope x value + intercept))) by maximum likelihood.

    Without `weights` both kinds weigh alike in total (even odds).
    """
    from sklearn.linear_model import LogisticRegression

    x = values.astype(np.float64)
    mean, deviation = x.mean(), x.std() or 1.0
    if weights is None:
        positives = int(is_positive.sum())
        weights = np.where(is_positive, 0.5 / positives, 0.5 / (len(x) - positives))
    else:
        weights = weights / weights.sum()
    model = LogisticRegression(C=1 / _RIDGE, solver="newton-cholesky", tol=1e-10)
    model.fit(((x - mean) / deviation)[:, None], is_positive, sample_weight=weights)
    slope = float(model.coef_[0, 0] / deviation)
    return slope, float(model.intercept_[0] - slope * mean)
