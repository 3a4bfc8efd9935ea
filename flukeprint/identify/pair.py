"""Verification: whether two photos show the same whale."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flukeprint.bundle.model import Model
from flukeprint.core.safe_text import printable
from flukeprint.identify.formats import percent
from flukeprint.identify.gallery_duplicates import same_pictures
from flukeprint.identify.matching import OTHER_WEIGHTS, UNCALIBRATED
from flukeprint.retrieval.provenance import Provenance
from flukeprint.retrieval.vectors import cosines
from flukeprint.scoring.calibration import Calibration, Verification

# Operating points of models/decision.json in words, the most careful first.
_POINTS = {
    "far_1e-3": "where 1 in 1,000 pairs of different whales is accepted",
    "far_1e-2": "where 1 in 100 pairs of different whales is accepted",
    "eer": "where as many are accepted wrongly as rejected wrongly (equal error rate)",
}


@dataclass(frozen=True)
class PairComparison:
    """Two photos compared."""

    photos: tuple[Path, Path]
    similarity: float  # cosine, -1 to 1
    same_picture: bool  # near-duplicates
    verification: Verification | None
    without: str | None  # why there are no thresholds
    note: str | None = None  # what is to be said of the calibration

    @property
    def probability(self) -> float | None:
        """That both show one whale, if that was as likely as not before looking."""
        return None if self.verification is None else self.verification.probability(self.similarity)

    @property
    def accepted(self) -> dict[str, bool]:
        """Whether the pair is accepted, by operating point."""
        thresholds = {} if self.verification is None else self.verification.thresholds
        return {name: self.similarity >= thresholds[name] for name in _POINTS if name in thresholds}


def compare(model: Model, first: Path, second: Path) -> PairComparison:
    """Compare two photos.

    Raises:
        FlukeprintError: one of them cannot be read.
    """
    encoded = model.encode([first, second])
    encoded.refuse_failed("nothing was compared")
    [similarity] = cosines(encoded.vectors, np.array([0]), encoded.vectors, np.array([1])).tolist()
    verification, without = thresholds_of(model.calibration, model.provenance)
    return PairComparison(
        (first, second),
        similarity,
        len(same_pictures([photo.record for photo in encoded.photos], model.limits).i) > 0,
        verification,
        without,
        model.calibration.note if model.calibration and verification else None,
    )


def thresholds_of(calibration: Calibration | None, provenance: Provenance) -> tuple[Verification | None, str | None]:
    """Return the thresholds and the calibration of pairs, or why there are none."""
    if calibration is None:
        return None, UNCALIBRATED
    if calibration.provenance != provenance:
        return None, OTHER_WEIGHTS
    found = calibration.verification
    if isinstance(found, Verification):
        return found, None
    return None, f"decision.json has none: {found.without}. Set some aside (select.holdout)"


def as_text(found: PairComparison) -> str:
    """Say what was found in words."""
    lines = [f"{printable(found.photos[0])}  and  {printable(found.photos[1])}"]
    if found.same_picture:
        lines.append("  ! nearly the same picture: this says nothing about two sightings")
    lines.append(f"  similarity   {found.similarity:.3f}  (cosine, -1 to 1)")
    if found.verification is None:
        lines.append(f"  no thresholds: {printable(found.without)}")
    else:
        chance = percent(found.probability)
        lines.append(f"  probability  {chance} that both show one whale, at even odds before looking")
        for name, accepted in found.accepted.items():
            verdict = "same" if accepted else "not the same"
            threshold = found.verification.thresholds[name]
            lines.append(f"  {verdict:12} {_POINTS[name]}: from {threshold:.3f} on")
    if found.note:
        lines.append(f"  probability and thresholds are {found.note}")
    lines.append(
        "People decide: a similarity is a hint, not a verdict. Compare the photos before an identity is recorded."
    )
    return "\n".join(lines)


def as_json(found: PairComparison) -> str:
    """Return the comparison as a JSON object."""
    thresholds = {} if found.verification is None else found.verification.thresholds
    probability = found.probability
    content = {
        "photos": [str(path) for path in found.photos],
        "similarity": round(found.similarity, 6),
        "probability": None if probability is None else round(probability, 6),
        "near_duplicates": found.same_picture,
        "verdicts": {
            name: {"threshold": thresholds[name], "same": accepted} for name, accepted in found.accepted.items()
        },
        "uncalibrated": found.without,
        "calibration_note": found.note,
    }
    return json.dumps(content, indent=2, allow_nan=False)
