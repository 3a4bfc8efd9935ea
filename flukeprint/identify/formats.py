"""Identification as a table for people, as JSON and as CSV for programs and spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flukeprint.core.text import printable, spreadsheet_cell

if TYPE_CHECKING:
    from flukeprint.identify.answers import Identification, PhotoAnswer
    from flukeprint.identify.matching import RankedCandidate
    from flukeprint.identify.neighbours import Duplicate

PEOPLE_DECIDE = (
    "People decide: this is a ranking to look through, not a verdict. "
    "Compare the photos before an identity is recorded."
)
COLUMNS = (
    "photo", "rank", "id", "probability", "similarity", "centre_similarity", "nearest_photo", "gallery_photos",
    "new_probability", "near_duplicates", "flags", "fault",
)  # fmt: skip
_NONE = "none of the gallery"
_DIGITS = 6


def as_table(answers: Identification) -> str:
    """Return a block of lines for each photo."""
    blocks = ["\n".join(_lines(answer)) for answer in answers.answers]
    if answers.failed:
        lines = [f"{len(answers.failed)} photo(s) could not be read:"]
        lines += [f"  {shown(photo.path)}: {printable(photo.record.fault or '')}" for photo in answers.failed]
        blocks.append("\n".join(lines))
    if answers.answers:
        without = f"No probabilities: {printable(answers.uncalibrated)}.\n" if answers.uncalibrated else ""
        blocks.append(without + PEOPLE_DECIDE)
    return "\n\n".join(blocks)


def shown(name: object) -> str:
    """Return a name in which nothing can move a terminal's cursor."""
    return printable(str(name))


def _lines(answer: PhotoAnswer) -> Iterator[str]:
    yield shown(answer.path)
    for same in answer.duplicates[:3]:
        yield f"  ! nearly the same picture as {shown(same.photo.image)} of {shown(same.photo.id)} in the gallery"
    for flag in answer.flags:
        yield f"  ! {printable(flag.says)}"
    width = max(map(len, [_NONE, *(one.id for one in answer.match.candidates)]))
    yield f"     {'id':{width}}  {'probability':>11}  {'similarity':>10}  photos  nearest photo"
    for rank, one in enumerate(answer.match.candidates, 1):
        yield (
            f"  {rank}. {shown(one.id):{width}}  {percent(one.probability):>11}  {one.similarity:10.3f}  "
            f"{one.photos:6}  {shown(one.photo)}"
        )
    if answer.match.new_probability is not None:
        yield f"     {_NONE:{width}}  {percent(answer.match.new_probability):>11}"


def percent(value: float | None) -> str:
    """Return a probability as people read it; a dash where there is none."""
    if value is None:
        return "-"
    if value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if value > 0.999 else f"{100 * value:.1f} %"


def as_json(answers: Identification) -> str:
    """Return one JSON object. Its keys are those of docs/identify.md; names are as in the file system."""
    content = {
        "note": PEOPLE_DECIDE,
        "gallery": {"photos": len(answers.gallery), "individuals": len(answers.gallery.individuals)},
        "uncalibrated": answers.uncalibrated,
        "photos": [_as_object(answer) for answer in answers.answers],
        "failed": [{"photo": str(photo.path), "fault": photo.record.fault} for photo in answers.failed],
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _as_object(answer: PhotoAnswer) -> dict[str, Any]:
    return {
        "photo": str(answer.path),
        "sha256": answer.record.sha256,
        "candidates": [
            {
                "id": one.id,
                "probability": _rounded(one.probability),
                "similarity": _rounded(one.similarity),
                "centre_similarity": _rounded(one.centre),
                "nearest_photo": one.photo,
                "gallery_photos": one.photos,
            }
            for one in answer.match.candidates
        ],
        "new_probability": _rounded(answer.match.new_probability),
        "near_duplicates": [_duplicate(same) for same in answer.duplicates],
        "flags": [flag._asdict() for flag in answer.flags],
    }


def _duplicate(same: Duplicate) -> dict[str, Any]:
    return {"photo": same.photo.image, "id": same.photo.id, "bits": same.bits, "mse": _rounded(same.mse)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def as_csv(answers: Identification) -> str:
    """Return a row for each photo and candidate, safe to open in a spreadsheet; a photo that failed has one row."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for answer in answers.answers:
        writer.writerows([_cell(cell) for cell in row] for row in _rows(answer))
    for photo in answers.failed:
        cells = [str(photo.path), *[""] * (len(COLUMNS) - 2), photo.record.fault]
        writer.writerow([_cell(cell) for cell in cells])
    return stream.getvalue()


def _rows(answer: PhotoAnswer) -> Iterator[list[Any]]:
    of_photo = [
        _rounded(answer.match.new_probability),
        "; ".join(f"{same.photo.image} ({same.photo.id})" for same in answer.duplicates),
        " ".join(flag.rule for flag in answer.flags),
        "",
    ]
    if not answer.match.candidates:
        yield [str(answer.path), *[""] * (len(COLUMNS) - 1 - len(of_photo)), *of_photo]
    for rank, one in enumerate(answer.match.candidates, 1):
        yield [str(answer.path), rank, *_of_candidate(one), *of_photo]


def _of_candidate(one: RankedCandidate) -> list[Any]:
    return [one.id, _rounded(one.probability), _rounded(one.similarity), _rounded(one.centre), one.photo, one.photos]


def _cell(value: Any) -> Any:
    """Return what to write: text that a spreadsheet would run gets an apostrophe, which it shows as nothing."""
    if not isinstance(value, str):
        return "" if value is None else value
    return spreadsheet_cell(value)
