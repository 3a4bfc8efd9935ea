"""What is in a catalogue, in words: a summary, single things, the log."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from flukeprint.catalogue.sightings import Encounter, Holdings, Individual, LoggedDecision, Sighting
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable
from flukeprint.core.wording import counted


def summary(holdings: Holdings) -> str:
    """Say how much there is."""
    statuses = Counter(one.status for one in holdings.encounters)
    seen = [one for one in holdings.individuals if one.photos]
    dates = sorted(one.date for one in holdings.sightings if one.date)
    photos, encounters = counted(len(holdings.sightings), "photo"), counted(len(holdings.encounters), "encounter")
    lines = [
        f"{photos} in {encounters} of {counted(len(seen), 'individual')}",
        f"encounters: {statuses['confirmed']} decided, {statuses['open']} open, {statuses['unsure']} unsure",
    ]
    return "\n".join([*lines, *([f"from {dates[0]} to {dates[-1]}"] if dates else [])])


def described_thing(holdings: Holdings, log: list[LoggedDecision], name: str) -> str:
    """Say what there is to say of an encounter (e12), a photo (p7) or an individual (its id)."""
    found = re.fullmatch(r"([ep])(\d+)", name)
    number = int(found[2]) if found else 0
    for one in holdings.individuals:
        if name == one.id or name in one.merged:
            return "\n".join(_individual(holdings, one))
    for encounter in holdings.encounters:
        if found and found[1] == "e" and encounter.id == number:
            return "\n".join(_encounter(holdings, log, encounter))
    for sighting in holdings.sightings:
        if found and found[1] == "p" and sighting.photo == number:
            return "\n".join(_photo(log, sighting))
    expected = "an encounter (e12), a photo (p7) or an id"
    raise FlukeprintError(f"there is nothing called {printable(name)}, expected {expected}.")


def _individual(holdings: Holdings, one: Individual) -> Iterator[str]:
    name = f" ({one.name})" if one.name else ""
    yield printable(f"{one.id}{name}: {counted(one.photos, 'photo')} in {counted(one.encounters, 'encounter')}")
    if one.merged:
        yield printable(f"also known as {', '.join(one.merged)} (merged)")
    for sighting in holdings.sightings:
        if sighting.individual == one.id:
            yield f"  {_line(sighting)}"


def _line(sighting: Sighting) -> str:
    facts = [f"p{sighting.photo}", sighting.name, f"e{sighting.encounter}", sighting.date, sighting.place]
    return printable("  ".join(fact for fact in [*facts, *sighting.flags] if fact))


def _encounter(holdings: Holdings, log: list[LoggedDecision], one: Encounter) -> Iterator[str]:
    facts = ", ".join(fact for fact in (one.individual or one.status, one.date, one.place) if fact)
    yield printable(f"e{one.id} {one.name}: {facts}")
    if one.rejected:
        yield printable(f"not {', '.join(sorted(one.rejected))}")
    for sighting in holdings.sightings:
        if sighting.encounter == one.id:
            yield f"  {_line(sighting)}: {printable(sighting.individual or sighting.status)}"
    about = [decision for decision in log if decision.encounter == one.id or decision.photo in one.photos]
    numbers = {decision.id for decision in about}
    yield from log_lines([decision for decision in log if decision.id in numbers or decision.undoes in numbers])


def _photo(log: list[LoggedDecision], one: Sighting) -> Iterator[str]:
    yield f"{_line(one)}: {printable(one.individual or one.status)}"
    position = None if one.latitude is None else f"{one.latitude:.5f}, {one.longitude:.5f}"
    for what, value in (
        ("taken at", one.taken_at), ("position", position), ("photographer", one.photographer),
        ("viewpoint", one.viewpoint), ("quality", one.quality), ("file", one.file), ("sha256", one.sha256),
    ):  # fmt: skip
        if value is not None:
            yield f"  {what}: {printable(value)}"
    yield from log_lines([decision for decision in log if decision.photo == one.photo])


def log_lines(log: list[LoggedDecision]) -> Iterator[str]:
    """Yield a line for each decision; what was undone is marked."""
    for one in log:
        subject = f" e{one.encounter}" if one.encounter else f" p{one.photo}" if one.photo else ""
        arrow = "from" if one.action == "split" else "->"
        to = one.other or " ".join(filter(None, [one.new_id, one.new_name]))
        whom = f" {one.individual}" if one.individual else ""
        what = f"undo {one.undoes}" if one.undoes else f"{one.action}{subject}{whom}{f' {arrow} {to}' if to else ''}"
        note = f" ({one.note})" if one.note else ""
        yield printable(f"{one.id}  {one.at}  {one.who}  {what}{note}{'' if one.holds else '  [undone]'}")
