"""The report: one page that loads nothing, on screen and on paper, and queries.csv beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.core.files import replacing_folder
from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation import drawings, words
from flukeprint.evaluation.breakdowns import Breakdown, figures_of, has_twin, shown_results
from flukeprint.evaluation.examples import ExampleList, choose_examples
from flukeprint.evaluation.figures import REFERENCE, counts
from flukeprint.evaluation.pictures import Pictures
from flukeprint.evaluation.query_table import query_table, write_query_table
from flukeprint.pages.templates import template

if TYPE_CHECKING:
    import pandas as pd

    from flukeprint.evaluation.curves import Points
    from flukeprint.evaluation.drawings import Histories
    from flukeprint.evaluation.leaderboard import Leaderboard, ScorerResult

# Shares of fewer queries than that are printed pale.
FEW = 10


@dataclass(frozen=True)
class Findings:
    """What was found about all results."""

    leaderboard: Leaderboard
    figures: dict[str, dict[str, float]]
    curves: dict[str, dict[str, Points]]
    breakdowns: list[Breakdown]
    verification: dict[str, Any]  # metrics/verification.json
    enrolment: dict[str, Any]  # metrics/enrolment.json


@dataclass(frozen=True)
class Sources:
    """What the report shows beside the findings."""

    folder: Path  # of the labelled photos
    photos: pd.DataFrame  # data/validated/train.parquet
    gallery: pd.DataFrame  # Image, Id of the photos that are trained on and searched in
    histories: Histories  # training curves


def write_report(folder: Path, findings: Findings, sources: Sources, examples: int, workers: int = 1) -> None:
    """Write `folder`/index.html, which can be handed on alone, and `folder`/queries.csv.

    Args:
        folder: replaced as a whole.
        findings: figures of all results.
        sources: photos and training curves.
        examples: most queries in each list of examples.
        workers: processes that decode photos.

    """
    page = render(findings, sources, examples, workers)
    with replacing_folder(folder) as temporary:
        (temporary / "index.html").write_text(page, encoding="utf-8")
        write_query_table(temporary / "queries.csv", query_table(findings.leaderboard))


def render(findings: Findings, sources: Sources, examples: int, workers: int = 1) -> str:
    """Return the page."""
    queries = findings.leaderboard.queries
    context = {
        "counts": counts(queries),
        "new_share": queries.new_share,
        "words": words,
        "few": FEW,
        "new_whale": NEW_WHALE,
        **(_shown(findings, sources, examples, workers) if queries.images else {}),
    }
    return template(__file__, "evaluation_report.html.j2").render(context)


def _shown(findings: Findings, sources: Sources, examples: int, workers: int) -> dict[str, Any]:
    """Return what the template needs where there are queries."""
    leaderboard = findings.leaderboard
    lists = choose_examples(leaderboard.top, examples)
    firsts = sources.gallery.drop_duplicates("Id")
    first_photo: dict[str, str] = dict(zip(firsts["Id"], firsts["Image"], strict=True))
    names = _photos_of(leaderboard.top, lists, first_photo)
    return {
        "leaderboard": leaderboard,
        "figures": findings.figures,
        "reference": REFERENCE,
        "headline": words.headline(leaderboard, findings.figures),
        "whiskers": drawings.whiskers(findings.figures, leaderboard.queries.new_share),
        "verification": findings.verification,
        "enrolment": findings.enrolment,
        "charts": drawings.curve_charts(findings.curves, leaderboard.queries.new_share),
        "training": drawings.training_charts(sources.histories),
        "twins": int(has_twin(leaderboard.queries, sources.photos, sources.gallery).sum()),
        "breakdowns": [_table(leaderboard, breakdown) for breakdown in findings.breakdowns],
        "examples": [
            (chosen, [_example(leaderboard.top, row, first_photo) for row in chosen.rows]) for chosen in lists
        ],
        "pictures": Pictures.of(sources.folder, sources.photos, names, workers),
    }


# --- breakdowns -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BreakdownRow:
    """A group of queries in a table."""

    name: str
    queries: int
    new_queries: int
    cells: list[dict[str, float]]  # by result


@dataclass(frozen=True)
class BreakdownTable:
    """A breakdown as a table: for each result the same columns."""

    title: str
    results: list[str]
    columns: list[tuple[str, str]]  # (key of the figure, title)
    rows: list[BreakdownRow]


def _table(leaderboard: Leaderboard, breakdown: Breakdown) -> BreakdownTable:
    results = shown_results(leaderboard)
    is_new = leaderboard.queries.is_new
    rows = [
        BreakdownRow(
            group.name,
            int(group.rows.sum()),
            int(is_new[group.rows].sum()),
            [figures_of(result, group) for result in results],
        )
        for group in breakdown.groups
    ]
    present = {key for row in rows for cell in row.cells for key in cell}
    titles = (("map5", "MAP@5"), ("known_top1", "first"), ("known_top5", "five"), ("new_top1", "new"))
    columns = [(key, title) for key, title in titles if key in present]
    return BreakdownTable(breakdown.title, [result.name for result in results], columns, rows)


# --- examples ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShownAnswer:
    """One of the labels of an answer."""

    label: str
    probability: float
    right: bool
    photo: str | None  # a training photo of the individual


@dataclass(frozen=True)
class Example:
    """A query with its answers."""

    image: str
    identity: str  # the individual, new_whale where nobody knows
    truth: str
    answers: list[ShownAnswer]
    missed: str | None  # a training photo of the right individual, where the answers lack it
    place: int  # of the right individual among the candidates, 0 if it is not there


def _example(result: ScorerResult, row: int, first_photo: dict[str, str]) -> Example:
    queries, truth = result.queries, result.queries.truth[row]
    pairs = zip(result.answers.labels[row], result.answers.probabilities[row], strict=True)
    answers = [ShownAnswer(label, value, label == truth, _photo(label, first_photo)) for label, value in pairs]
    missed = None if any(answer.right for answer in answers) else _photo(truth, first_photo)
    return Example(queries.images[row], queries.ids[row], truth, answers, missed, int(result.candidate_ranks[row]))


def _photo(label: str, first_photo: dict[str, str]) -> str | None:
    """Return a photo of an individual; new_whale is none, even if photos with that label are trained on."""
    return None if label == NEW_WHALE else first_photo.get(label)


def _photos_of(result: ScorerResult, lists: Sequence[ExampleList], first_photo: dict[str, str]) -> list[str]:
    """Return the names of all photos that the examples show."""
    examples = [_example(result, row, first_photo) for chosen in lists for row in chosen.rows]
    names = [name for shown in examples for name in (shown.image, shown.missed, *(a.photo for a in shown.answers))]
    return [name for name in names if name is not None]
