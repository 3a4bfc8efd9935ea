"""Scorers that combine several features of a candidate: `gallery` the two similarities, `blend` also the head's score.

The weights are the slopes of the conditional logit (conditional_logit.py) fitted to calibration queries: the
convex log-loss of the calibrated answers has one minimum, and no weight is below 0. Divided by their sum they are the
fusion; the sum is the inverse temperature of the fused score, so that what follows sees a scorer like any other.

The labels of near-duplicates are no feature: no calibration query has one in the gallery, by construction, so a slope
of theirs cannot be learned. They have a rule of their own, flukeprint/scoring/copies.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.scoring.calibration import Calibration, ScoreFusion
from flukeprint.scoring.candidates import Scored, ranked, scored_of
from flukeprint.scoring.registry import scorer_of

if TYPE_CHECKING:
    import pandas as pd


def fuse(scored: Scored, scorer: str, fusion: ScoreFusion) -> Scored:
    """Turn one scorer's features into scores: best first, equal ones by label.

    new_whale's score is NaN where no feature of the photo has a weight, or one with a weight is missing.

    Raises:
        FlukeprintError: the fusion is of other features than the scorer has.
    """
    names, of_photo = scorer_of(scorer).features, scorer_of(scorer).photo_features
    if (set(fusion.features) ^ set(names)) | (set(fusion.new_features) - set(of_photo)):
        raise FlukeprintError(
            f"the weights of {scorer} are for other features than {', '.join(names)}. "
            "Run `dvc repro calibrate` to fit them to these candidates."
        )
    # Sums over so few features do not depend on how many photos there are; a matrix product's last bits do.
    scores = (scored.features * np.array([fusion.features[name] for name in names])).sum(axis=2)
    weights = np.array([fusion.new_features.get(name, 0.0) for name in of_photo])
    new = (scored.new_features[:, weights != 0] * weights[weights != 0]).sum(axis=1)
    return ranked(scored.names, scored.label, scores, new if weights.any() else new + np.nan, scores.shape[1])


def fused_of(rows: pd.DataFrame, scorer: str, calibration: Calibration) -> Scored | None:
    """Read one scorer's rows of query.parquet or test.parquet, with one score per candidate; None without a fusion."""
    scored = scored_of(rows, scorer)
    if not scorer_of(scorer).features:
        return scored
    fusion = calibration.fusions.get(scorer)
    return fuse(scored, scorer, fusion) if fusion else None
