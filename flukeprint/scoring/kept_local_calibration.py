"""A calibration of local matching kept from an earlier run, beside that run's decision (kept_decision.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import KEPT
from flukeprint.scoring.calibration import Calibration
from flukeprint.scoring.local_calibration import LocalCalibration, MatcherRecord

KEPT_LOCAL = KEPT.parent / LocalCalibration.NAME
# What somebody asks for, by the options that say it.
_OPTIONS = {"matcher": "--local-networks", "side": "--side", "first": "--first", "photos": "--photos"}


def is_kept(decision: Calibration) -> bool:
    """Return whether a run takes over a calibration of local matching: its decision is kept, and one lies beside it."""
    return decision.fitted_to is not None and KEPT_LOCAL.is_file()


def keep_local(decision: Calibration, asked: Mapping[str, Any]) -> LocalCalibration:
    """Take over the calibration in data/kept for a run that answers by a kept `decision`.

    That decision was refused unless the networks' settings are the same (kept_decision.py), so this one belongs to the
    run if it was fitted beside it: to the same weights. `asked` are the `matcher`, `side`, `first` and `photos` wished.

    Raises:
        FlukeprintError: it was fitted to the scores of other weights, or to other keypoints than those asked for; every
            difference is named by its option.
    """
    kept = LocalCalibration.read(KEPT_LOCAL.parent)
    fitted_to = kept.fitted_to or kept.provenance
    if fitted_to != decision.fitted_to:
        raise FlukeprintError(
            f"{KEPT_LOCAL} was fitted to the scores of other weights than the decision that is kept ({KEPT}). Copy "
            f"models/{LocalCalibration.NAME} of the run that the decision is of to it, or remove it."
        )
    if differences := [*_differences(kept, asked)]:
        raise FlukeprintError(
            f"{KEPT_LOCAL} was fitted in another way: {', '.join(differences)}. Ask for the same, or remove it."
        )
    return kept.model_copy(update={"provenance": decision.provenance, "fitted_to": fitted_to})


def _differences(kept: LocalCalibration, asked: Mapping[str, Any]) -> Iterator[str]:
    for name, option in _OPTIONS.items():
        there, here = getattr(kept, name), asked[name]
        if there != here:
            yield f"{option} was {_in_words(there)}, here {_in_words(here)}"


def _in_words(value: MatcherRecord | int) -> str:
    return value.in_words() if isinstance(value, MatcherRecord) else str(value)
