"""One whale on one occasion, as Darwin Core and Wildbook count: the photos of an encounter that show the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flukeprint.catalogue.sightings import Sighting


@dataclass(frozen=True)
class Occurrence:
    """Photos of one encounter that show the same individual, or nobody known; one at least, by their numbers."""

    sightings: tuple[Sighting, ...]

    @property
    def first(self) -> Sighting:
        """The first photo: what all photos have in common can be read of it."""
        return self.sightings[0]

    @property
    def when(self) -> str | None:
        """When it was, as exact as it is known: the time of the earliest photo, if it is on the encounter's date."""
        date = self.first.date
        taken = min((one.taken_at for one in self.sightings if one.taken_at), default=None)
        return taken if taken is not None and (date is None or taken.startswith(date)) else date

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude of the first photo that has them."""
        found = ((one.latitude, one.longitude) for one in self.sightings)
        return next(((lat, lon) for lat, lon in found if lat is not None and lon is not None), None)

    @property
    def photographers(self) -> list[str]:
        """Who took the photos, each once."""
        return list(dict.fromkeys(one.photographer for one in self.sightings if one.photographer))


def occurrences_of(sightings: Iterable[Sighting]) -> list[Occurrence]:
    """Return the occurrences, in the order of their encounters and first photos."""
    groups: dict[tuple[int, str | None], list[Sighting]] = {}
    for one in sightings:
        groups.setdefault((one.encounter, one.individual), []).append(one)
    found = [Occurrence(tuple(group)) for group in groups.values()]
    return sorted(found, key=lambda one: (one.first.encounter, one.first.photo))
