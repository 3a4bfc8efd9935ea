"""From the log of decisions to the present state: what each decision means, as plain functions.

- `new`, `confirm`: the photo or encounter shows this individual (of `new` it is the first).
- `split`: it shows this individual, and not the `other` one that it was taken for.
- `unsure`: somebody looked and cannot tell.
- `reject`: it does not show this individual. If that was confirmed, it is open again.
- `merge`: the individual is the `other` one, under whose id both are known from now on.
- `rename`: the individual has another id or name.
- `undo`: a decision is taken back; an undo too can be undone. A decision holds if no undo of it holds.

The last decision counts. One about a photo goes before those about its encounter, whenever they were made: whoever
looked at a single photo knew more of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flukeprint.catalogue.entities import ABOUT_SIGHTINGS, Action, Status


class Decision(NamedTuple):
    """What the state depends on of a decision. Photos, encounters and individuals are named by their keys."""

    id: int
    action: Action
    encounter: int | None = None
    photo: int | None = None
    individual: int | None = None
    other: int | None = None
    undoes: int | None = None
    new_id: str | None = None
    new_name: str | None = None


class Standing(NamedTuple):
    """Whom a photo or an encounter shows."""

    status: Status = "open"
    individual: int | None = None  # as decided; whom it was merged into is another matter
    rejected: frozenset[int] = frozenset()


class Known(NamedTuple):
    """What an individual is called, and whom it was merged into: one that is not merged itself."""

    id: str
    name: str | None
    merged_into: int | None = None


@dataclass
class State:
    """All that follows from a log."""

    holds: dict[int, bool]  # of every decision
    encounters: dict[int, Standing] = field(default_factory=dict)
    photos: dict[int, Standing] = field(default_factory=dict)
    individuals: dict[int, Known] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)  # of encounters: the last decision that touches them


def state_of(
    log: Sequence[Decision], encounter_of: Mapping[int, int], encounters: Iterable[int], first: Mapping[int, Known]
) -> State:
    """Compute the state from the whole log, oldest decision first.

    `encounter_of` names the encounter of each photo, `first` what each individual was called at first.
    """
    state = State(holding(log))
    kept = [decision for decision in log if state.holds[decision.id] and decision.action != "undo"]
    by_encounter, by_photo = _grouped(kept, "encounter"), _grouped(kept, "photo")
    state.encounters = {encounter: standing(by_encounter.get(encounter, ())) for encounter in encounters}
    for photo, encounter in encounter_of.items():
        state.photos[photo] = standing_of_photo(by_photo.get(photo, ()), state.encounters[encounter])
    roots = merged(kept)
    called = {key: renamed(kept, key, known) for key, known in first.items()}
    state.individuals = {key: known._replace(merged_into=roots.get(key)) for key, known in called.items()}
    state.versions = {**dict.fromkeys(state.encounters, 0), **_versions(log, encounter_of)}
    return state


def holding(log: Sequence[Decision]) -> dict[int, bool]:
    """Tell of every decision whether it holds. An undo is always younger than what it undoes."""
    holds: dict[int, bool] = {}
    undone: set[int] = set()
    for decision in reversed(log):
        holds[decision.id] = decision.id not in undone
        if holds[decision.id] and decision.undoes is not None:
            undone.add(decision.undoes)
    return holds


def standing(decisions: Iterable[Decision]) -> Standing:
    """Return whom an encounter shows by the decisions about it that hold, oldest first."""
    return _folded(decisions)[1]


def standing_of_photo(decisions: Iterable[Decision], encounter: Standing) -> Standing:
    """Return whom a photo shows by the decisions about itself that hold, oldest first, and its encounter's standing."""
    told, own = _folded(decisions)
    rejected = own.rejected | encounter.rejected
    if told:
        return own._replace(rejected=rejected - {own.individual})
    if encounter.individual in own.rejected:
        return Standing("open", None, rejected)
    return encounter._replace(rejected=rejected)


def _folded(decisions: Iterable[Decision]) -> tuple[bool, Standing]:
    """Return whether the decisions say whom it shows, beyond whom it does not show, and what they say."""
    told, now = False, Standing()
    for one in decisions:
        if one.action == "reject" and one.individual is not None:
            cleared = now.individual == one.individual
            rejected = now.rejected | {one.individual}
            now = Standing("open", None, rejected) if cleared else now._replace(rejected=rejected)
        elif one.action == "unsure":
            told, now = True, Standing("unsure", None, now.rejected)
        else:
            others = now.rejected | ({one.other} if one.other is not None else set())
            told, now = True, Standing("confirmed", one.individual, others - {one.individual})
    return told, now


def merged(decisions: Iterable[Decision]) -> dict[int, int]:
    """Return whom each merged individual was merged into, in the end, by the merges that hold, oldest first."""
    root: dict[int, int] = {}
    for one in decisions:
        if one.action == "merge" and one.individual is not None and one.other is not None:
            source, target = root.get(one.individual, one.individual), root.get(one.other, one.other)
            if source != target:
                root = {key: target if into == source else into for key, into in root.items()} | {source: target}
    return root


def renamed(decisions: Iterable[Decision], key: int, first: Known) -> Known:
    """Return what an individual is called after the renames that hold, oldest first."""
    for one in decisions:
        if one.action == "rename" and one.individual == key:
            first = first._replace(id=one.new_id or first.id, name=one.new_name or first.name)
    return first


def _grouped(decisions: Iterable[Decision], subject: str) -> dict[int, list[Decision]]:
    groups: dict[int, list[Decision]] = {}
    for one in decisions:
        number = getattr(one, subject)
        if number is not None and one.action in ABOUT_SIGHTINGS:
            groups.setdefault(number, []).append(one)
    return groups


def _versions(log: Iterable[Decision], encounter_of: Mapping[int, int]) -> dict[int, int]:
    """Return the last decision that touches each encounter: about it, about one of its photos, or an undo of such."""
    touched: dict[int, int | None] = {}
    versions: dict[int, int] = {}
    for one in log:
        of_photo = None if one.photo is None else encounter_of[one.photo]
        encounter = touched[one.undoes] if one.undoes is not None else one.encounter or of_photo
        touched[one.id] = encounter
        if encounter is not None:
            versions[encounter] = one.id
    return versions
