"""local.json: how matched keypoints change the order of a photo's first candidates, and the queries it was fitted to.

After WildFusion (Cermak et al. 2024, arXiv 2408.12934): every score is first turned into the probability that a
candidate is the right one, by a calibration of its own, and these are averaged. For a candidate with the probability p
by the global scores (decision.json) and c matched keypoints

    q = 1 / (1 + exp(-(slope x ln(1 + c) + intercept)))        logistic, fitted to all candidates looked at
    f = (p + q) / 2                                            the order is that of f

What the candidates looked at have together, by the global scores, is then shared out among them anew, in proportion to
(f / (1 - f)) to the power `sharpness`, also fitted: p of another individual and of a new whale stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.manifests import Manifest, Record, Sha256
from flukeprint.core.param_types import AtLeastOne, Count, Side
from flukeprint.retrieval.provenance import Provenance
from flukeprint.scoring.calibration import EARLIER, Number, Weight
from flukeprint.scoring.pairs import fit_logistic

Floats = NDArray[np.float64]

# Averages this near to 0 and 1 count as it: their logits must be finite.
_EDGE = 1e-6
# Largest `sharpness` that is tried: where all are told apart without error it would grow without end.
_SHARPEST = 20.0


class MatcherRecord(Record):
    """What finds and pairs the keypoints."""

    name: Literal["sift", "lightglue"]
    weights: Annotated[list[Sha256], Field(max_length=2)]  # of the files that somebody gave: keypoints, pairing

    def in_words(self) -> str:
        """Return what tells it from others."""
        return " ".join([self.name, *(f"{digest[:12]}..." for digest in self.weights)])


class LocalCalibration(Manifest):
    """local.json, but for its own checksum."""

    NAME: ClassVar = "local.json"
    KIND: ClassVar = "calibration of local matching"
    VERSION: ClassVar = 1
    MISSING: ClassVar = "Run `flukeprint fit-local` in the project, and export its bundle again."
    REPAIR: ClassVar = "Run `flukeprint fit-local` to make it anew."

    matcher: MatcherRecord
    side: Side  # px; the longer one of pictures in which keypoints are looked for
    first: Annotated[int, Field(ge=2, le=40)]  # candidates that are looked at
    photos: Annotated[int, Field(ge=1, le=100)]  # of each candidate, its most similar ones
    slope: Weight
    intercept: Number
    sharpness: Weight
    provenance: Provenance  # of the global scores
    queries: Count
    right: Count  # queries whose individual is among the candidates looked at
    candidates: AtLeastOne
    log_loss: Weight  # of the answers to these queries, in nats, weighted
    log_loss_before: Weight
    fitted_to: Provenance | None = None  # where that was an earlier run: of the global scores there

    @property
    def note(self) -> str | None:
        """What is to be said wherever this calibration is used, or None."""
        return EARLIER if self.fitted_to else None

    @property
    def says(self) -> str:
        """What people are told of answers that it changed."""
        return (
            f"The first {self.first} candidates were looked at keypoint by keypoint, and what they had together was "
            f"shared out among them anew{f' ({self.note})' if self.note else ''}."
        )

    def described(self) -> dict[str, Any]:
        """Return what JSON says of answers that it changed."""
        return {"matcher": self.matcher.name, "first": self.first, "calibration_note": self.note}

    def refuse_other(self, provenance: Provenance) -> None:
        """Refuse a model of other weights than those that the global scores came from."""
        if self.provenance != provenance:
            raise FlukeprintError(
                f"{self.NAME} was fitted to the scores of other weights. "
                "Fit it anew (`flukeprint fit-local`), or remove it."
            )

    def refuse_other_matcher(self, matcher: MatcherRecord) -> None:
        """Refuse keypoints of another kind than those that were fitted to."""
        if self.matcher != matcher:
            raise FlukeprintError(
                f"{self.NAME} was fitted to keypoints by {self.matcher.in_words()}, and these are by "
                f"{matcher.in_words()}. Name the same files (--local-networks), or fit anew (`flukeprint fit-local`)."
            )


def shared_out(fitted: LocalCalibration | FusionFit, probabilities: Floats, matched: NDArray[np.integer]) -> Floats:
    """Return the probabilities of a photo's m candidates after the fusion."""
    if not len(probabilities):
        return probabilities
    average = averaged(probabilities, by_keypoints(matched, fitted.slope, fitted.intercept))
    return np.asarray(probabilities.sum() * softmax(fitted.sharpness * _logits(average)))


def averaged(probabilities: Floats, local: Floats) -> Floats:
    """Return f: the mean of candidates' probabilities by the global scores and by matched keypoints."""
    return (probabilities + local) / 2


def by_keypoints(matched: NDArray[np.integer], slope: float, intercept: float) -> Floats:
    """Return q: the probability of candidates by their matched keypoints alone."""
    return np.asarray(expit(slope * np.log1p(matched) + intercept))


def _logits(average: Floats) -> Floats:
    return np.asarray(logit(np.clip(average, _EDGE, 1 - _EDGE)))


class LookedAt(NamedTuple):
    """The m candidates of a photo that were looked at, best first by the global scores."""

    labels: list[str]
    probabilities: Floats  # m, by the global scores
    matched: NDArray[np.int64]  # m, keypoints


class FusionFit(NamedTuple):
    """What LocalCalibration holds of a fit, by its names."""

    slope: float
    intercept: float
    sharpness: float
    log_loss: float
    log_loss_before: float
    queries: int
    right: int
    candidates: int


def fit_fusion(looked_at: Sequence[LookedAt], truth: Sequence[str], weights: Floats) -> FusionFit:
    """Fit the calibration of matched keypoints, then `sharpness`, to calibration queries and their right answers.

    The log-losses are of who among the candidates looked at is the right one, over the queries that have it there.

    Raises:
        FlukeprintError: no query has its individual among its candidates, or all candidates are right.
    """
    is_right = [np.array(one.labels, dtype=str) == label for one, label in zip(looked_at, truth, strict=True)]
    every = np.concatenate([*is_right, np.zeros(0, bool)])
    if not every.any() or every.all():
        raise FlukeprintError(
            f"{int(every.sum())} of the {len(every)} candidates of {len(looked_at)} calibration queries are right, and "
            "both kinds are needed. Set more photos aside (select.holdout in params.yaml), and run `dvc repro`."
        )
    matched = np.concatenate([one.matched for one in looked_at])
    slope, intercept = fit_logistic(
        np.log1p(matched), every, np.repeat(weights, [len(one.labels) for one in looked_at])
    )
    slope = max(slope, 0.0)  # matched keypoints never count against a candidate
    those = [place for place, row in enumerate(is_right) if row.any()]
    some = [looked_at[place] for place in those]
    fused = [_logits(averaged(one.probabilities, by_keypoints(one.matched, slope, intercept))) for one in some]

    def log_loss(logits: Sequence[Floats]) -> float:
        right = [log_softmax(one)[is_right[place]][0] for place, one in zip(those, logits, strict=True)]
        return -float(np.average(right, weights=weights[those]))

    found = minimize_scalar(lambda power: log_loss([power * one for one in fused]), bounds=(0, _SHARPEST))
    before = log_loss([np.log(np.maximum(one.probabilities, _EDGE)) for one in some])
    figures = slope, intercept, float(found.x), float(found.fun), before
    one, other, power, after, first = (float(f"{value:.6g}") for value in figures)
    return FusionFit(one, other, power, after, first, len(looked_at), len(those), len(every))
