"""An answer to a question of a season: encounters that probably show one whale, and whom it may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flukeprint.catalogue.evidence import Answer
from flukeprint.catalogue.keypoint_matches import KeypointMatch
from flukeprint.catalogue.sightings import Encounter, Sighting

_KEPT = 20  # candidates that are kept of an answer


@dataclass(frozen=True)
class Asked:
    """Encounters that probably show one whale (often a single one), and whom it may be."""

    encounters: list[Encounter]
    photos: list[int]
    answer: Answer
    one_whale: float | None  # probability that they show one; None for a single encounter
    copies: list[tuple[int, Sighting]]  # photos, and known ones that are nearly the same picture
    keypoints: list[KeypointMatch] = field(default_factory=list)  # where candidates were re-ranked by them

    @property
    def subjects(self) -> list[str]:
        """What is to be decided about: the encounters, of one that was decided the photos in question alone."""
        open_ = {one.id for one in self.encounters if one.status != "confirmed"}
        single = {photo for one in self.encounters if one.id not in open_ for photo in one.photos}
        return [f"e{number}" for number in sorted(open_)] + [f"p{photo}" for photo in self.photos if photo in single]


def described(asked: Asked) -> dict[str, Any]:
    """Return an answer as JSON has it, numbers rounded."""
    return {
        "encounters": [one.id for one in asked.encounters],
        "one_whale": _rounded(asked.one_whale),
        "new_probability": _rounded(asked.answer.new_probability),
        "beyond_calibration": asked.answer.beyond,
        "near_duplicates": [{"photo": n, "of": copy.photo, "id": copy.individual} for n, copy in asked.copies],
        "candidates": [
            {
                "id": one.id,
                "probability": _rounded(one.probability),
                "beyond_calibration": one.beyond,
                "similarity": _rounded(one.similarity),
            }
            for one in asked.answer.candidates[:_KEPT]
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
