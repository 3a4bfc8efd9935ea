"""models/decision.json: what was fitted to calibration queries, read and written here and nowhere else."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field, JsonValue, model_validator

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import REPAIR, read_json, write_json
from flukeprint.core.manifests import Record, Sha256, validated
from flukeprint.core.param_types import OpenShare
from flukeprint.retrieval.provenance import Provenance

_LARGEST = 10**12  # beyond it, scores would no longer be told apart from infinity, nor counts by a float
# An answer is within what was calibrated up to so many times the individuals, or the photos of one: a fit to half of
# the individuals was as true in all of them, within 0.006 of ECE (docs/evaluation.md).
REACH = 2

Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class Logits(NamedTuple):
    """What turns scores into logits: `inverse_temperature` x score, those of another individual and of a new whale."""

    inverse_temperature: float
    other: float
    new: float


class GallerySizes(Record):
    """How a, b and c change with the gallery: on lines over the logarithm of the number of individuals.

    Here they begin, at a gallery of one individual; they end at the gallery that was calibrated with. `other` is there
    for each individual that is not among the candidates, and a is of Fisher's z of the score, which is a cosine.
    """

    individuals: Annotated[int, Field(ge=2, le=_LARGEST)]  # of the gallery that was calibrated with
    photos: Annotated[int, Field(ge=1, le=_LARGEST)]  # most of one individual there
    inverse_temperature: Weight
    other: Number
    new: Number

    def beyond(self, individuals: int) -> str | None:
        """Say that a gallery of so many individuals is larger than what was calibrated, or return None."""
        return _beyond(f"a gallery of {individuals:,} individuals", individuals, self.individuals)

    def beyond_photos(self, photos: int) -> str | None:
        """Say that an individual has more photos than those that were calibrated with, or return None."""
        return _beyond(f"an individual with {photos:,} photos", photos, self.photos)


def _beyond(what: str, number: int, calibrated: int) -> str | None:
    return None if number <= REACH * calibrated else f"{what} is beyond the {calibrated:,} that were calibrated with"


class OpenSetCalibration(Record):
    """The a, b, c, d of one scorer (conditional_logit.py), and the queries that they were fitted to."""

    inverse_temperature: Weight
    other: Number
    new: Number
    new_score_weight: Number | None
    known_queries: Count
    new_queries: Count
    log_loss: Weight  # nats, weighted
    sizes: GallerySizes | None = None  # without, probabilities are those of one gallery
    individuals: Count | None = None  # of that gallery; None: candidates are classes, or it was not recorded

    def beyond(self, individuals: int) -> str | None:
        """Say why probabilities in a gallery of so many individuals are beyond what was calibrated, or return None."""
        if self.sizes is None:
            return "probabilities were calibrated with one gallery, not with several sizes"
        return self.sizes.beyond(individuals)

    def beyond_photos(self, photos: int) -> str | None:
        """Say why the probability of an individual with so many photos is beyond that, or return None."""
        return None if self.sizes is None else self.sizes.beyond_photos(photos)

    def logits(self, individuals: int) -> Logits:
        """Return a, b and c for a gallery of so many individuals.

        Beyond the gallery that was calibrated with a and b stay, and c rises by the logarithm of how many times as many
        individuals there are: as many more could be mistaken for a new whale's, whose declared share is the same. For
        the same reason b rises where it is of all individuals that are no candidates, together (without sizes).
        """
        end = Logits(self.inverse_temperature, self.other, self.new)
        if self.sizes is None:
            more = max(log(max(individuals, 1) / self.individuals), 0.0) if self.individuals else 0.0
            return Logits(end.inverse_temperature, end.other + more, end.new + more)
        start = Logits(self.sizes.inverse_temperature, self.sizes.other, self.sizes.new)
        whole, own = log(self.sizes.individuals), log(max(individuals, 1))
        part = min(own / whole, 1.0)
        a, b, c = ((1 - part) * one + part * two for one, two in zip(start, end, strict=True))
        return Logits(a, b, c + max(own - whole, 0.0))


class ScoreFusion(Record):
    """Weights by the names of features: those of a candidate sum to 1; those of the photo add up to new_whale's score.

    A feature of the photo that does not exist, such as the head's new_whale where that is no class, has no weight.
    """

    features: dict[str, Weight]
    new_features: dict[str, Number]

    @model_validator(mode="after")
    def _sums_to_one(self) -> ScoreFusion:
        total = sum(self.features.values())
        if abs(total - 1) > 1e-4:
            message = f"the weights of features sum to {total:g}, expected 1"
            raise ValueError(message)
        return self


class BestScorer(Record):
    """The scorer with the highest cross-validated MAP@5; None where too few queries tell."""

    scorer: str | None
    map5: dict[str, Probability]
    folds: Count


class CopyAgreement(Record):
    """How often near-duplicates have the same label, flukeprint/scoring/copies.py."""

    photos: Count
    agreeing: Count
    probability: Probability


class PairCounts(Record):
    """The pairs of calibration queries and photos of the gallery."""

    queries: Count
    individuals: Count
    same_pairs: Count
    different_pairs: Count


class Verification(PairCounts):
    """Thresholds on the similarity of two photos, and its calibration.

    A pair is accepted if its similarity is at least the threshold. One that no false accept was seen above is absent:
    `far_1e-3` needs a thousand pairs of different whales.
    """

    thresholds: dict[str, Cosine]  # by operating point: far_1e-2, far_1e-3, eer
    slope: Number
    intercept: Number

    def probability(self, similarity: float) -> float:
        """Return the probability that two photos show the same whale, if that was as likely as not before looking."""
        return float(1 / (1 + np.exp(-np.clip(self.slope * similarity + self.intercept, -700, 700))))


class NoVerification(PairCounts):
    """`verification` where there were no pairs to calibrate with."""

    without: str


# What everybody is told who sees such a probability.
EARLIER = "calibrated on an earlier run, whose networks had the same settings and other weights"


class Calibration(Record):
    """The content of models/decision.json."""

    share: OpenShare  # declared, of new whales
    scorers: dict[str, OpenSetCalibration]
    fusions: dict[str, ScoreFusion]  # of the scorers that have features
    without: dict[str, str]  # why other scorers have no calibration
    provenance: Provenance  # of the vectors: scores of others would mean something else
    best: BestScorer
    duplicates: CopyAgreement  # of all labelled photos, new_whale among the labels: of a submission
    named_duplicates: CopyAgreement  # of the photos of individuals: of a gallery, which has no others
    verification: Verification | NoVerification
    settings: dict[str, JsonValue] = Field(default_factory=dict)  # of the networks: scoring/kept_decision.py
    queries: Sha256 | None = None  # of the names of the queries that were set aside beside the calibration queries
    fitted_to: Provenance | None = None  # where that was an earlier run: of its vectors

    @property
    def note(self) -> str | None:
        """What is to be said wherever this decision is used, or None."""
        return EARLIER if self.fitted_to else None

    def of(self, scorer: str) -> OpenSetCalibration:
        """Return one scorer's calibration, or refuse and say why there is none."""
        if scorer not in self.scorers:
            reason = self.without.get(scorer, f"only {', '.join(self.scorers) or 'no scorer'} was calibrated")
            raise FlukeprintError(
                f"decision.json has no calibration of {scorer}: {reason}. Set submit.decision to class in params.yaml, "
                "or set calibration queries aside (select.holdout)."
            )
        return self.scorers[scorer]


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write models/decision.json."""
    write_json(path, calibration.model_dump())


def read_calibration(path: Path, repair: str = REPAIR) -> Calibration:
    """Read and check models/decision.json, or a bundle's."""
    return validated(path, Calibration, read_json(path, repair), repair)
