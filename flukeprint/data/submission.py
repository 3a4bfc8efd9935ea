"""A submission: its file (columns Image,Id; up to five labels per photo, best first) and its score.

Everything that Kaggle would score in silence although it cannot be meant is refused here by row: a double
blank, say, makes an empty label that takes a rank. What is poor but legal is scored: fewer than five labels,
or a repeated one, which uses up a rank.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.replacement import replacing
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.tables import require_table

COLUMNS = ("Image", "Id")
MAX_LABELS = 5


def read_submission(path: Path | str) -> pd.DataFrame:
    """Read a submission and check its form; which photos it is about is checked by `check_submission`.

    Returns columns `file` (for messages), `csv_line` (the header is line 1), `Image`, `Id` (the labels). No such file,
    an empty one, other columns, a malformed row or a photo twice is a FlukeprintError.
    """
    repair = f"Write one to {MAX_LABELS} labels with one single blank between two of them"
    return _read(path, _fault_of_labels, repair)


def read_truth(path: Path | str) -> pd.DataFrame:
    """Read the right answers, one label per photo; as `read_submission` otherwise."""

    def fault_of(text: str) -> str | None:
        return None if text.split() == [text] else f"{text!r}, expected one label without white space"

    return _read(path, fault_of, "Write the photo's one right label")


def _read(path: Path | str, fault_of: Callable[[str], str | None], repair: str) -> pd.DataFrame:
    path = Path(path)
    frame = require_table(path, COLUMNS)
    if frame.empty:
        raise FlukeprintError(f"{path} has no rows below its header. Expected a row per photo; write it again.")
    frame = frame.assign(file=str(path))
    _refuse_empty_and_repeated_photos(frame)
    faults = [(index, fault) for index, text in enumerate(frame["Id"].fillna("")) if (fault := fault_of(text))]
    if faults:
        index, fault = faults[0]
        image = frame["Image"].iloc[index]
        raise FlukeprintError(f"{_place(frame, index)}: the Id of {image} is {fault}. {repair}{_more(faults)}.")
    return frame


def _refuse_empty_and_repeated_photos(frame: pd.DataFrame) -> None:
    images = frame["Image"]
    for index in np.flatnonzero(images.isna())[:1]:
        raise FlukeprintError(f"{_place(frame, index)}: the cell Image is empty, expected a photo's name. Write it.")
    repeated = np.flatnonzero(images.duplicated())
    for index in repeated[:1]:
        first = frame["csv_line"].iloc[int(images.eq(images[index]).to_numpy().argmax())]
        raise FlukeprintError(
            f"{_place(frame, index)}: {images[index]} stands in row {first} already, "
            f"expected one row per photo. Remove one of the two{_more(repeated)}."
        )


def _fault_of_labels(text: str) -> str | None:
    """Say what is wrong with the labels of one photo, as the end of a sentence, or return None."""
    labels = text.split(" ")
    shown = repr(text if len(text) <= 200 else text[:200] + "...")
    if not text.strip():
        return f"{shown}, which holds no label"
    if "" in labels:
        where = "a blank at an end" if text != text.strip(" ") else "two blanks in a row"
        return f"{shown}: {where} makes an empty label, which takes a rank"
    if len(labels) > MAX_LABELS:
        return f"{shown}: {len(labels)} labels, of which only {MAX_LABELS} are scored"
    if any(label.split() != [label] for label in labels):
        return f"{shown}: white space other than a blank, which does not separate labels"
    return None


def _place(frame: pd.DataFrame, index: int) -> str:
    """Name a row for a message: by file and line, where the table was read from a file."""
    if "file" not in frame or "csv_line" not in frame:
        return f"the table's row {index}"
    return f"{frame['file'].iloc[index]} row {frame['csv_line'].iloc[index]}"


def _file(frame: pd.DataFrame, otherwise: str) -> str:
    return str(frame["file"].iloc[0]) if "file" in frame and len(frame) else otherwise


def _more(faults: Sequence[Any] | np.ndarray) -> str:
    return f" ({len(faults)} such rows in the file)" if len(faults) > 1 else ""


def check_submission(
    submission: pd.DataFrame, images: Iterable[str], expected_by: str = "the sample submission"
) -> None:
    """Require that a submission (of `read_submission`) is about exactly these photos, in any order.

    `expected_by` is what tells these photos, for messages. Missing photos, or others, are a FlukeprintError.
    """
    expected, given = list(dict.fromkeys(images)), submission["Image"]
    file = _file(submission, "the submission")
    known = set(expected)
    extra = np.flatnonzero([image not in known for image in given])
    if extra.size:
        index = int(extra[0])
        raise FlukeprintError(
            f"{_place(submission, index)}: {given.iloc[index]} is not a photo of {expected_by}, which has "
            f"{len(expected)}. Remove the row{_more(extra)}, or use the table that belongs to it."
        )
    named = set(given)
    missing = [image for image in expected if image not in named]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise FlukeprintError(
            f"{file} has no row for {len(missing)} of the {len(expected)} photos of {expected_by}: {names}. "
            f"Add a row for each, with {NEW_WHALE} if nothing better is known."
        )


def write_submission(path: Path | str, images: Sequence[str], ranked: Sequence[Sequence[str]] | np.ndarray) -> None:
    """Write a submission, a row per photo in the order given (the sample submission's); complete or not at all.

    `ranked` are five distinct labels for each of N distinct photos, best first (lists or an array N x 5); a
    FlukeprintError if they are not that.
    """
    if len(images) != len(ranked):
        raise FlukeprintError(f"{path}: {len(images)} photos but {len(ranked)} lists of labels, expected one for each.")
    if len(set(images)) != len(images):
        raise FlukeprintError(f"{path}: a photo is named twice. Repair the sample submission: one row per photo.")
    rows = [(image, _joined(path, image, labels)) for image, labels in zip(images, ranked, strict=True)]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def _joined(path: Path | str, image: str, labels: Sequence[str] | np.ndarray) -> str:
    """Return five labels as one cell."""
    names = [str(label) for label in labels]
    if len(names) != MAX_LABELS or len(set(names)) != MAX_LABELS or any(name.split() != [name] for name in names):
        raise FlukeprintError(
            f"{path}: the labels of {image} are {names}, expected {MAX_LABELS} distinct ones without white space. "
            "There must be at least so many labels to choose from: set more individuals to train on."
        )
    return " ".join(names)


def score_submission(submission: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Score every photo of a submission as Kaggle does; the mean of `score` is MAP@5.

    Both tables (columns Image, Id) are about the same photos, else a FlukeprintError; their order may differ. Returned,
    in the order of `truth`: Image, truth, rank (1..5, empty if the label is not among the five), score.
    """
    from flukeprint.metrics.rankings import first_ranks, reciprocal_ranks

    check_submission(submission, truth["Image"], expected_by=_file(truth, "the truth"))
    given = dict(zip(submission["Image"], submission["Id"], strict=True))
    labels = [str(label) for label in truth["Id"]]
    ranked = [str(given[image]).split(" ")[:MAX_LABELS] for image in truth["Image"]]
    ranks = pd.Series(first_ranks(labels, ranked), dtype="Int64")
    scores = reciprocal_ranks(labels, ranked, MAX_LABELS)
    images = [str(image) for image in truth["Image"]]
    return pd.DataFrame({"Image": images, "truth": labels, "rank": ranks.mask(ranks == 0), "score": scores})


def summarise(per_photo: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return {all, known, new (truth: new_whale): {photos, map5, top1, top5}} of a scored submission; no empty kind."""
    from flukeprint.metrics.arrays import weighted_mean
    from flukeprint.metrics.rankings import top_k_accuracy

    new = per_photo["truth"] == NEW_WHALE
    parts = {"all": per_photo, "known": per_photo[~new], "new": per_photo[new]}
    ranks = {name: part["rank"].fillna(0).to_numpy(dtype="int64") for name, part in parts.items() if len(part)}
    return {
        name: {
            "photos": len(found),
            "map5": weighted_mean(parts[name]["score"].to_numpy()),
            "top1": top_k_accuracy(found, 1),
            "top5": top_k_accuracy(found, MAX_LABELS),
        }
        for name, found in ranks.items()
    }


def as_text(summary: dict[str, dict[str, float]]) -> str:
    """Return a summary as a table for people."""
    lines = [f"{'':8}{'photos':>8}{'MAP@5':>10}{'top-1':>10}{'top-5':>10}"]
    for name, row in summary.items():
        figures = "".join(f"{row[key]:10.5f}" for key in ("map5", "top1", "top5"))
        lines.append(f"{name:8}{row['photos']:8,.0f}{figures}")
    return "\n".join(lines)
