"""A season's answers for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flukeprint.catalogue.asked import Asked, described
from flukeprint.catalogue.catalogues import command
from flukeprint.catalogue.decision_queue import queue
from flukeprint.catalogue.decision_words import WORTH_TITLES
from flukeprint.catalogue.entities import WORTHS
from flukeprint.catalogue.season import Season
from flukeprint.core.safe_text import printable
from flukeprint.core.wording import counted
from flukeprint.identify.formats import BEYOND, PEOPLE_DECIDE, percent

_BY_SIMILARITY = "By similarity, the most similar first: how probable any of it is, nobody measured"


def season_text(season: Season, top: int, place: str) -> str:
    """Return a block for each kind of decision, the most probable first; `place` is the catalogue's, for commands."""
    queued = queue(season.asked)
    blocks = ["\n".join(_notes(season, place))]
    for name in WORTHS:
        if queued[name]:
            lines = [line for asked in queued[name] for line in _lines(asked, top, place)]
            title = _BY_SIMILARITY if season.uncalibrated else WORTH_TITLES[name]
            blocks.append("\n".join([f"{title} ({len(queued[name])})", *lines]))
    if season.asked:
        blocks.append(PEOPLE_DECIDE)
    return "\n\n".join(blocks)


def _notes(season: Season, place: str) -> Iterator[str]:
    encounters = sum(len(asked.encounters) for asked in season.asked)
    yield (
        f"{counted(encounters, 'encounter')} of nobody known, compared with {counted(season.photos, 'photo')} of "
        f"{counted(season.individuals, 'individual')}{'' if season.ungrouped else ' and among themselves'}"
    )
    if season.collapsed:
        yield f"Nobody is named, because with this model {printable(season.collapsed)}."
    if season.uncalibrated:
        yield f"No probabilities: {printable(season.uncalibrated)}."
    if season.note:
        yield f"Probabilities are {season.note}."
    if season.local and not season.collapsed:
        yield season.local.says
    if season.ungrouped:
        yield f"Not compared among themselves: {printable(season.ungrouped)}."
    for reason in {asked.answer.beyond for asked in season.asked} - {None}:
        yield f"{BEYOND} {reason}"
    for photo in season.without:
        yield f"! photo p{photo.photo} {printable(photo.name)} has no vector (`{command(place, 'embed')}`)"


def _lines(asked: Asked, top: int, place: str) -> Iterator[str]:
    for one in asked.encounters:
        seen = " ".join(filter(None, [one.date, one.place]))
        unsure = ", somebody was unsure" if one.status == "unsure" else ""
        photos = counted(len(one.photos), "photo")
        yield printable(f"  e{one.id} {one.name}{': ' if seen else ''}{seen}, {photos}{unsure}")
    for photo, copy in asked.copies:
        yield printable(f"     ! p{photo} is nearly the same picture as p{copy.photo} of {copy.individual}")
    if asked.one_whale is not None:
        yield f"     one whale: {percent(asked.one_whale)}"
    for candidate in asked.answer.candidates[:top]:
        chance = _chance(candidate.probability, candidate.beyond)
        yield f"     {printable(candidate.id):20} {chance} similarity {candidate.similarity:.3f}"
    if asked.answer.new_probability is not None:
        chance = _chance(asked.answer.new_probability, asked.answer.beyond)
        yield f"     {'none of these':20} {chance}".rstrip()
    for reason in dict.fromkeys(one.beyond for one in asked.answer.candidates[:top]):
        if reason and reason != asked.answer.beyond:
            yield f"     {BEYOND} {reason}"
    for proposed in _proposed(asked):
        yield f"     {command(place, 'decide', *proposed)}"


def _chance(probability: float | None, beyond: str | None) -> str:
    return f"{percent(probability):>8}{BEYOND if beyond else ' '}"


def _proposed(asked: Asked) -> Iterator[list[str]]:
    """Yield the words of the most probable decision; where there are no probabilities, for either."""
    seen = max(one.version for one in asked.encounters)
    new, best = asked.answer.new_probability, asked.answer.candidates[0] if asked.answer.candidates else None
    decisions = []
    if best is not None and (new is None or (best.probability or 0) >= new):
        decisions.append(["confirm", *asked.subjects, best.id])
    if not decisions or new is None:
        decisions.append(["new", *asked.subjects, "NEW_ID"])
    for decision in decisions:
        yield [*decision, *(["--seen", str(seen)] if seen else [])]


def season_json(season: Season) -> str:
    """Return one JSON object; its keys are those of docs/season.md."""
    queued = queue(season.asked)
    content = {
        "note": PEOPLE_DECIDE,
        "gallery": {"photos": season.photos, "individuals": season.individuals},
        "uncalibrated": season.uncalibrated,
        "calibration_note": season.note,
        "local_matching": season.local and season.local.described(),
        "ungrouped": season.ungrouped,
        "collapsed": season.collapsed,
        "queue": [
            {"worth": name, "names": [one.name for one in asked.encounters], **described(asked)}
            for name in WORTHS
            for asked in queued[name]
        ],
        "without": [photo.photo for photo in season.without],
    }
    return json.dumps(content, indent=2, allow_nan=False)
