"""Identification as a table for people, as JSON and as CSV for programs and spreadsheets."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flukeprint.core.safe_text import printable, spreadsheet_cell
from flukeprint.identify.answers import Identification, PhotoAnswer
from flukeprint.identify.matching import RankedCandidate

PEOPLE_DECIDE = (
    "People decide: this is a ranking to look through, not a verdict. "
    "Compare the photos before an identity is recorded."
)
_NONE = "none of the gallery"
BEYOND = "*"  # beside a probability that is beyond what was calibrated
_DIGITS = 6


def percent(value: float | None) -> str:
    """Return a probability as people read it; a dash where there is none."""
    if value is None:
        return "-"
    if value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if value > 0.999 else f"{100 * value:.1f} %"


class _Column(NamedTuple):
    """Something about a candidate, in every format."""

    name: str  # in JSON and CSV
    field: str  # of RankedCandidate
    heading: str = ""  # in the table; without one it is left out there
    show: Callable[[Any], str] = printable  # in the table
    align: str = "<"


_CANDIDATE = (
    _Column("id", "id", "id"),
    _Column("probability", "probability", "probability", percent, ">"),
    _Column("beyond_calibration", "beyond", " ", lambda reason: BEYOND if reason else ""),
    _Column("similarity", "similarity", "similarity", "{:.3f}".format, ">"),
    _Column("centre_similarity", "centre"),
    _Column("nearest_photo", "photo", "nearest photo"),
    _Column("gallery_photos", "photos", "photos", align=">"),
    _Column("near_duplicate", "copy"),
    _Column("matched_keypoints", "keypoints", "keypoints", lambda number: "-" if number is None else str(number), ">"),
)
_TABLE = [column for column in _CANDIDATE if column.heading]
COLUMNS = (
    "photo", "rank", *(column.name for column in _CANDIDATE), "new_probability", "near_duplicates", "flags", "fault",
    "calibration_note",
)  # fmt: skip


def _described(candidate: RankedCandidate) -> dict[str, Any]:
    """Return a candidate's columns, numbers rounded, as JSON and CSV have them."""
    return {column.name: _rounded(getattr(candidate, column.field)) for column in _CANDIDATE}


def _rounded(value: Any) -> Any:
    return round(value, _DIGITS) if isinstance(value, float) else value


def as_table(answers: Identification) -> str:
    """Return a block of lines for each photo."""
    blocks = ["\n".join(_lines(answer)) for answer in answers.answers]
    if answers.failed:
        lines = [f"{len(answers.failed)} photo(s) could not be read:"]
        lines += [f"  {printable(photo.path)}: {printable(photo.record.fault)}" for photo in answers.failed]
        blocks.append("\n".join(lines))
    if answers.collapsed:
        blocks.append(f"Nobody is named, because with this model {printable(answers.collapsed)}.")
    elif answers.answers:
        blocks.append(f"{about_probabilities(answers)}\n{PEOPLE_DECIDE}")
    return "\n\n".join(blocks)


def about_probabilities(answers: Identification) -> str:
    """Say why there are no probabilities, or what they assume."""
    if answers.new_share is None:
        order = "candidates stand in order of similarity, individuals with nearly the same picture first"
        return f"No probabilities ({printable(answers.uncalibrated)}): {order}."
    earlier = f" They are {answers.note}." if answers.note else ""
    if answers.local:
        earlier += f" {answers.local.says}"
    return (
        f"Probabilities assume that {100 * answers.new_share:g} % of photos show individuals that the gallery does not "
        f"have, whatever its size.{earlier}"
    )


def _lines(answer: PhotoAnswer) -> Iterator[str]:
    yield printable(answer.path)
    for same in answer.duplicates[:3]:
        yield f"  ! nearly the same picture as {same} in the gallery"
    for flag in answer.flags:
        yield f"  ! {printable(flag.says)}"
    if not answer.match.candidates and answer.match.new_probability is None:
        return
    reasons = beyond_calibration(answer)
    looked_at = any(one.local for one in answer.match.candidates)
    left_out = {"beyond": not reasons, "keypoints": not looked_at}
    columns = [column for column in _TABLE if not left_out.get(column.field)]
    rows = [["", *(column.heading for column in columns)]]
    for rank, one in enumerate(answer.match.candidates, 1):
        rows.append([f"{rank}.", *(column.show(getattr(one, column.field)) for column in columns)])
    if answer.match.new_probability is not None:
        none = {"id": _NONE, "probability": answer.match.new_probability, "beyond": answer.match.beyond}
        rows.append(["", *(column.show(none[column.field]) if column.field in none else "" for column in columns)])
    yield from _aligned(rows, [">", *(column.align for column in columns)])
    yield from (f"  {BEYOND} {reason}" for reason in reasons)


def beyond_calibration(answer: PhotoAnswer) -> list[str]:
    """Return why some of a photo's probabilities are beyond what was calibrated, each reason once."""
    reasons = [answer.match.beyond, *(one.beyond for one in answer.match.candidates)]
    return list(dict.fromkeys(reason for reason in reasons if reason))


def _aligned(rows: list[list[str]], aligns: list[str]) -> Iterator[str]:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{align}{width}}" for cell, align, width in zip(row, aligns, widths, strict=True)]
        yield f"  {cells[0]} {'  '.join(cells[1:])}".rstrip()


def as_json(answers: Identification) -> str:
    """Return one JSON object. Its keys are those of docs/identify.md; names are as in the file system."""
    content = {
        "note": PEOPLE_DECIDE,
        "gallery": {"photos": len(answers.gallery), "individuals": len(answers.gallery.individuals)},
        "uncalibrated": answers.uncalibrated,
        "new_share": answers.new_share,
        "calibration_note": answers.note,
        "local_matching": answers.local and answers.local.described(),
        "collapsed": answers.collapsed,
        "photos": [_as_object(answer) for answer in answers.answers],
        "failed": [{"photo": str(photo.path), "fault": photo.record.fault} for photo in answers.failed],
    }
    return json.dumps(content, indent=2, allow_nan=False)


def _as_object(answer: PhotoAnswer) -> dict[str, Any]:
    return {
        "photo": str(answer.path),
        "sha256": answer.record.sha256,
        "candidates": [_described(one) for one in answer.match.candidates],
        "new_probability": _rounded(answer.match.new_probability),
        "beyond_calibration": answer.match.beyond,
        "near_duplicates": [
            {"photo": same.photo.image, "id": same.photo.id, "bits": same.bits, "mse": _rounded(same.mse)}
            for same in answer.duplicates
        ],
        "flags": [flag._asdict() for flag in answer.flags],
    }


def as_csv(answers: Identification) -> str:
    """Return a row for each photo and candidate, safe to open in a spreadsheet; a photo that failed has one row."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    rows = [row | {"calibration_note": answers.note} for answer in answers.answers for row in _rows(answer)]
    rows += [{"photo": str(photo.path), "fault": photo.record.fault} for photo in answers.failed]
    for row in rows:
        writer.writerow({name: spreadsheet_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()})
    return stream.getvalue()


def _rows(answer: PhotoAnswer) -> list[dict[str, Any]]:
    """Return a row for each candidate, or one row where there is none."""
    of_photo = {
        "photo": str(answer.path),
        "new_probability": _rounded(answer.match.new_probability),
        "beyond_calibration": answer.match.beyond,
        "near_duplicates": "; ".join(f"{same.photo.image} ({same.photo.id})" for same in answer.duplicates),
        "flags": " ".join(flag.rule for flag in answer.flags),
    }
    ranked = [{"rank": rank} | _described(one) for rank, one in enumerate(answer.match.candidates, 1)]
    return [of_photo | candidate for candidate in ranked or [{}]]
