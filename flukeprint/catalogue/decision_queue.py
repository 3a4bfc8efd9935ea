"""The order in which people decide: first what is quickly confirmed, then likely new whales, then what is doubtful."""

from __future__ import annotations

from collections.abc import Iterable

from flukeprint.catalogue.asked import Asked
from flukeprint.catalogue.entities import WORTHS, Worth

# From which probability on: one of ten of these, or every other, may still be wrong, so people look at all of them.
_SURE, _NEW = 0.9, 0.5


def worth(asked: Asked) -> Worth:
    """Say what kind of decision is to be expected. What somebody was unsure about is doubtful."""
    answer = asked.answer
    if any(one.status == "unsure" for one in asked.encounters) or answer.new_probability is None:
        return "doubtful"
    if answer.candidates and (answer.candidates[0].probability or 0) >= _SURE:
        return "sure"
    return "new" if answer.new_probability >= _NEW else "doubtful"


def queue(season: Iterable[Asked]) -> dict[Worth, list[Asked]]:
    """Return what was asked by its worth, the most probable first; equal ones in order of their encounters."""
    found: dict[Worth, list[Asked]] = {name: [] for name in WORTHS}
    for asked in season:
        found[worth(asked)].append(asked)
    for kind in found.values():
        kind.sort(key=lambda asked: (-certainty(asked), asked.encounters[0].id))
    return found


def certainty(asked: Asked) -> float:
    """Return what encounters of one worth are sorted by: how probable it is that the expected decision is right."""
    if worth(asked) == "new":
        return asked.answer.new_probability or 0.0
    if not asked.answer.candidates:
        return -1.0
    best = asked.answer.candidates[0]
    return best.similarity if best.probability is None else best.probability
