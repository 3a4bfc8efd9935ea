"""A photo as the pages show it, with all that is to be said about it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from flukeprint.catalogue.positions import KM_PER_DEGREE
from flukeprint.catalogue.sightings import Sighting
from flukeprint.core.safe_text import printable

# What a reviewer should know of a photo, by the rules of quality/rules.py that it breaks.
FLAG_WORDS = {
    "photo_size": "very small: the trailing edge can hardly be seen",
    "photo_mode": "converted: colours may differ from what was meant",
    "photo_grey": "grey",
    "photo_orientation": "turned as its EXIF asks: is it upright?",
    "photo_profile": "without its colour profile: colours may differ",
    "photo_frames": "the file holds several pictures, this is the first",
    "photo_contrast": "almost constant: shows hardly anything",
}


@dataclass(frozen=True)
class ShownPhoto:
    """A photo to be looked at."""

    number: int
    sha256: str
    caption: str
    warnings: tuple[str, ...]
    individual: str | None
    status: str

    @property
    def name(self) -> str:
        """Return what the photo is called in decisions."""
        return f"p{self.number}"


def shown_photo(sighting: Sighting, similarity: float | None = None) -> ShownPhoto:
    """Return a photo with its caption; `similarity` is that to the most similar photo in question."""
    facts = [
        f"p{sighting.photo} {sighting.name}",
        (sighting.taken_at or sighting.date or "").replace("T", " "),
        sighting.place,
        sighting.photographer and f"by {sighting.photographer}",
        sighting.viewpoint,
        sighting.quality and f"quality {sighting.quality}",
        None if similarity is None else f"similarity {similarity:.3f}",
    ]
    warnings = tuple(FLAG_WORDS.get(flag, flag) for flag in sighting.flags)
    caption = " · ".join(printable(fact) for fact in facts if fact)
    return ShownPhoto(
        sighting.photo, sighting.sha256, caption, warnings, sighting.individual, sighting.status
    )  # fmt: skip


def kilometres(one: Iterable[Sighting], other: Iterable[Sighting]) -> float | None:
    """Return the distance of the two nearest positions, on a sphere; None where there are none."""
    there = [(two.latitude, two.longitude) for two in other if two.latitude is not None and two.longitude is not None]
    here = [(two.latitude, two.longitude) for two in one if two.latitude is not None and two.longitude is not None]
    return min((_kilometres(*a, *b) for a in here for b in there), default=None)


def _kilometres(latitude: float, longitude: float, latitude2: float, longitude2: float) -> float:
    """Use the haversine formula."""
    a, b = math.radians(latitude), math.radians(latitude2)
    turn = math.sin((b - a) / 2) ** 2
    turn += math.cos(a) * math.cos(b) * math.sin(math.radians(longitude2 - longitude) / 2) ** 2
    return 2 * math.degrees(math.asin(min(math.sqrt(turn), 1.0))) * KM_PER_DEGREE
