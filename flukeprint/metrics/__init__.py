"""How good is it: rankings, open-set decisions, detection curves, calibration, and how sure one can be.

Conventions of every function here:

- N queries; `truth` is one label per query; `ranked` is one list of labels per query, best first (lists of any
  length, or an array N x K); a rank is 1 for the best and 0 for "not in the list".
- `weights` are one number >= 0 per query, by default all equal; only their ratios matter.
- `is_new` is true where the individual is not in the gallery, so that the right answer is "new whale".
- All results are shares in 0..1 unless said otherwise. A single figure is never NaN: one that does not exist is an
  error.
- ValueError: the caller passed arrays that do not fit together. FlukeprintError: the data cannot give this
  figure (say, no new whales among the queries); its message says what is missing.
"""

from flukeprint.metrics.detection import (
    PrecisionRecallCurve,
    average_precision,
    average_precisions,
    box_iou,
    mean_average_precision,
    precision_and_recall,
    precision_recall_curve,
)
from flukeprint.metrics.intervals import (
    Comparison,
    Interval,
    bootstrap_interval,
    bootstrap_intervals,
    bootstrap_means,
    compare_runs,
    permutation_p_value,
)
from flukeprint.metrics.open_set import baks, baus, known_accuracy, open_set_accuracies, unknown_accuracy
from flukeprint.metrics.rankings import (
    cmc,
    first_ranks,
    map_at_k,
    map_over_share,
    reciprocal_ranks,
    score_ranks,
    top_k_accuracy,
)
from flukeprint.metrics.reliability import ReliabilityBins, expected_calibration_error, reliability_bins
from flukeprint.metrics.roc import (
    RocCurve,
    auroc,
    equal_error_rate,
    fpr_at_tpr,
    roc_curve,
    roc_curve_of_few,
    tar_at_far,
    threshold_at_eer,
    threshold_at_far,
)
from flukeprint.metrics.weights import new_share_weights, weighted_mean

__all__ = [
    "Comparison",
    "Interval",
    "PrecisionRecallCurve",
    "ReliabilityBins",
    "RocCurve",
    "auroc",
    "average_precision",
    "average_precisions",
    "baks",
    "baus",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_means",
    "box_iou",
    "cmc",
    "compare_runs",
    "equal_error_rate",
    "expected_calibration_error",
    "first_ranks",
    "fpr_at_tpr",
    "known_accuracy",
    "map_at_k",
    "map_over_share",
    "mean_average_precision",
    "new_share_weights",
    "open_set_accuracies",
    "permutation_p_value",
    "precision_and_recall",
    "precision_recall_curve",
    "reciprocal_ranks",
    "reliability_bins",
    "roc_curve",
    "roc_curve_of_few",
    "score_ranks",
    "tar_at_far",
    "threshold_at_eer",
    "threshold_at_far",
    "top_k_accuracy",
    "unknown_accuracy",
    "weighted_mean",
]
