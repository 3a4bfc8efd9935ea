"""Known and new whales by the first label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.metrics.arrays import Floats, bools, require_length


def known_accuracy(identities: ArrayLike, predicted: ArrayLike, is_new: ArrayLike, new_label: str) -> float:
    """Return the share of known queries whose first label is right.

    Args:
        identities: N true individuals; those of new queries are not looked at.
        predicted: N first labels.
        is_new: N booleans.
        new_label: the label that says "new".

    Raises:
        FlukeprintError: no query is known.

    """
    return float(_correct_of(identities, predicted, is_new, new_label, new=False)[1].mean())


def unknown_accuracy(identities: ArrayLike, predicted: ArrayLike, is_new: ArrayLike, new_label: str) -> float:
    """Return the share of new queries whose first label is `new_label`. Arguments as for `known_accuracy`."""
    return float(_correct_of(identities, predicted, is_new, new_label, new=True)[1].mean())


def baks(identities: ArrayLike, predicted: ArrayLike, is_new: ArrayLike, new_label: str) -> float:
    """Return the balanced accuracy on known samples: the mean over known individuals of their accuracy.

    Source: `BAKS` of wildlife-datasets (`metrics/metrics.py`). Arguments as for `known_accuracy`.
    """
    return _balanced(*_correct_of(identities, predicted, is_new, new_label, new=False))


def baus(identities: ArrayLike, predicted: ArrayLike, is_new: ArrayLike, new_label: str) -> float:
    """Return the balanced accuracy on unknown samples: the mean over new individuals of the share called new.

    Source: `BAUS` of wildlife-datasets. Photos that share an identity are one individual, so give photos
    that carry that label and show different individuals, identities of their own.
    """
    return _balanced(*_correct_of(identities, predicted, is_new, new_label, new=True))


def open_set_accuracies(
    identities: ArrayLike, predicted: ArrayLike, is_new: ArrayLike, new_label: str
) -> dict[str, float]:
    """Return known_accuracy, unknown_accuracy, baks, baus and their geometric mean sqrt(BAKS x BAUS)."""
    balanced = baks(identities, predicted, is_new, new_label), baus(identities, predicted, is_new, new_label)
    return {
        "known_accuracy": known_accuracy(identities, predicted, is_new, new_label),
        "unknown_accuracy": unknown_accuracy(identities, predicted, is_new, new_label),
        "baks": balanced[0],
        "baus": balanced[1],
        "geometric_mean": float(np.sqrt(balanced[0] * balanced[1])),
    }


def _correct_of(
    identities: ArrayLike, predicted: ArrayLike, is_new: ArrayLike, new_label: str, *, new: bool
) -> tuple[NDArray[Any], Floats]:
    """Return (identities, 1.0 where the first label is right) of the new or of the known queries."""
    names, guesses, kind = np.asarray(identities, dtype=str), np.asarray(predicted, dtype=str), bools(is_new)
    require_length(len(kind), identities=names, predicted=guesses)
    rows = kind if new else ~kind
    if not rows.any():
        raise FlukeprintError(
            f"none of the {len(kind)} queries shows a {'new' if new else 'known'} whale, so there is no accuracy "
            "on them. Set more photos aside (select.holdout in params.yaml)."
        )
    return names[rows], np.asarray(guesses[rows] == (new_label if new else names[rows]), dtype=np.float64)


def _balanced(identities: NDArray[Any], correct: Floats) -> float:
    _, place, counts = np.unique(identities, return_inverse=True, return_counts=True)
    return float((np.bincount(place, weights=correct) / counts).mean())
