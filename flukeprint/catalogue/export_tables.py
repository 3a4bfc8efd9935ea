"""What is exported as tables: sightings, individuals, and the whole log of decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from flukeprint.catalogue.positions import Precision
from flukeprint.catalogue.sightings import Holdings, LoggedDecision, Sighting

SIGHTING_COLUMNS = (
    "photo", "name", "sha256", "encounter", "encounter_name", "date", "taken_at", "place", "latitude", "longitude",
    "position_precision", "photographer", "viewpoint", "quality", "flags", "status", "individual", "individual_name",
    "notes",
)  # fmt: skip
INDIVIDUAL_COLUMNS = (
    "id", "name", "also_known_as", "photos", "encounters", "first_seen", "last_seen", "notes",
)  # fmt: skip
# A decision as the log has it, and by which photo and encounter it can be found outside the catalogue.
DECISION_COLUMNS = (
    *(spec.name for spec in fields(LoggedDecision)), "encounter_name", "photo_name", "photo_sha256",
)  # fmt: skip


def sighting_rows(sightings: Iterable[Sighting], precision: Precision | None) -> Iterator[dict[str, Any]]:
    """Yield a row per photo. `precision` says how exact the positions of these sightings are."""
    for one in sightings:
        row = {name: getattr(one, name, None) for name in SIGHTING_COLUMNS}
        yield row | {
            "photo": f"p{one.photo}",
            "encounter": f"e{one.encounter}",
            "flags": " ".join(one.flags),
            "position_precision": precision.said if precision and one.latitude is not None else None,
        }


def individual_rows(holdings: Holdings) -> Iterator[dict[str, Any]]:
    """Yield a row per individual, also of one that no photo shows."""
    dates: dict[str | None, list[str]] = {}
    for sighting in holdings.sightings:
        if sighting.date is not None:
            dates.setdefault(sighting.individual, []).append(sighting.date)
    for one in holdings.individuals:
        row = {name: getattr(one, name, None) for name in INDIVIDUAL_COLUMNS}
        seen = sorted(dates.get(one.id, ()))
        first, last = (seen[0], seen[-1]) if seen else (None, None)
        yield row | {"also_known_as": " ".join(one.merged), "first_seen": first, "last_seen": last}


def decision_rows(holdings: Holdings, log: Iterable[LoggedDecision]) -> Iterator[dict[str, Any]]:
    """Yield a row per decision, oldest first, those that were undone too (`holds`)."""
    photos = {one.photo: (one.name, one.sha256) for one in holdings.sightings}
    names = {one.id: one.name for one in holdings.encounters}
    for one in log:
        name, sha256 = photos.get(one.photo or 0, (None, None))
        row = {spec.name: getattr(one, spec.name) for spec in fields(LoggedDecision)}
        yield row | {"encounter_name": names.get(one.encounter or 0), "photo_name": name, "photo_sha256": sha256}
