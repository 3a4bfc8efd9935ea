"""The report: one page that loads nothing, on screen and on paper, and queries.csv beside it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from flukeprint.core.replacement import replacing_folder
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.photos import MAX_PIXELS, plain_file_name
from flukeprint.evaluation import drawings
from flukeprint.evaluation import report_words as words
from flukeprint.evaluation.breakdowns import Breakdown, as_metrics, near_duplicate_trained, shown_results
from flukeprint.evaluation.curves import Points
from flukeprint.evaluation.drawings import Histories
from flukeprint.evaluation.examples import choose_examples
from flukeprint.evaluation.figures import REFERENCE, counts
from flukeprint.evaluation.leaderboard import Leaderboard, ScorerResult
from flukeprint.evaluation.query_table import query_table, write_query_table
from flukeprint.metrics.spread import COLLAPSED, Spread
from flukeprint.pages.templates import template
from flukeprint.pages.thumbnails import PhotoToDraw, Sheets, draw_sheets, upright

# Shares of fewer queries than that are printed pale.
FEW = 10
_CELL = (240, 120)  # px; a fluke is about twice as wide as high. Twice what is seen on paper, for sharpness


@dataclass(frozen=True)
class Findings:
    """What was found about all results."""

    leaderboard: Leaderboard
    figures: dict[str, dict[str, float]]
    curves: dict[str, dict[str, Points]]
    breakdowns: list[Breakdown]
    verification: dict[str, Any]  # metrics/verification.json
    enrolment: dict[str, Any]  # metrics/enrolment.json
    sizes: dict[str, dict[str, float]]  # metrics/gallery_sizes.json
    size_curves: dict[str, Points]  # reliability by size of the gallery
    note: str | None = None  # what is to be said of the calibration


@dataclass(frozen=True)
class Sources:
    """What the report shows beside the findings."""

    folder: Path  # of the labelled photos
    photos: pd.DataFrame  # data/validated/train.parquet
    gallery: pd.DataFrame  # Image, Id of the photos that are trained on and searched in
    histories: Histories  # training curves
    spreads: Mapping[str, Spread]  # of the members' embeddings, where they were measured


def write_report(folder: Path, findings: Findings, sources: Sources, examples: int, workers: int = 1) -> None:
    """Write `folder`/index.html, which can be handed on alone, and `folder`/queries.csv; the folder is replaced.

    There are at most `examples` queries in each list of examples; `workers` threads decode photos.
    """
    page = render(findings, sources, examples, workers)
    with replacing_folder(folder) as temporary:
        (temporary / "index.html").write_text(page, encoding="utf-8")
        write_query_table(temporary / "queries.csv", query_table(findings.leaderboard))


def render(findings: Findings, sources: Sources, examples: int, workers: int = 1) -> str:
    """Return the page."""
    queries = findings.leaderboard.queries
    context = {"counts": counts(queries), "new_share": queries.new_share, "new_whale": NEW_WHALE}
    context["note"] = findings.note
    if queries.images:
        context |= _shown(findings, sources) | _examples(findings.leaderboard.top, sources, examples, workers)
    return template(__file__, "evaluation_report.html.j2").render(context)


def _shown(findings: Findings, sources: Sources) -> dict[str, Any]:
    """Return what the template needs of the findings, where there are queries."""
    leaderboard = findings.leaderboard
    together = {result.name: findings.figures[result.name] for result in leaderboard.main}
    return {
        "words": words,
        "few": FEW,
        "leaderboard": leaderboard,
        "figures": findings.figures,
        "main": list(together),
        "single": sorted(leaderboard.members),
        "kinds": list(leaderboard.queries.new_kinds) if leaderboard.queries.both_kinds else [],
        "reference": REFERENCE,
        "headline": words.headline(leaderboard, findings.figures),
        "verification": findings.verification,
        "enrolment": findings.enrolment,
        "sizes": findings.sizes,
        "size_chart": drawings.size_chart(findings.size_curves),
        "map5": drawings.map5_chart(together, leaderboard.queries.new_share),
        "charts": drawings.curve_charts(findings.curves, leaderboard.queries.new_share),
        "spreads": sources.spreads,
        "collapsed": {name: COLLAPSED.format(one) for name, one in sources.spreads.items() if one.collapsed},
        "training": drawings.training_charts(sources.histories),
        "near_duplicates": int(near_duplicate_trained(leaderboard.queries, sources.photos, sources.gallery).sum()),
        "results": [result.name for result in shown_results(leaderboard)],
        "breakdowns": list(_tables(leaderboard, findings.breakdowns)),
    }


def _tables(
    leaderboard: Leaderboard, breakdowns: list[Breakdown]
) -> Iterable[tuple[str, list[tuple[str, str]], Mapping[str, Any]]]:
    """Yield of each breakdown its title, (key, title) of the columns of each result, and its groups by name."""
    titles = {"map5": "MAP@5", "known_top1": "first", "known_top5": "five", "new_top1": "new"}
    names = [result.name for result in shown_results(leaderboard)]
    found = as_metrics(leaderboard, breakdowns)
    for breakdown in breakdowns:
        groups = found[breakdown.key]
        present = {key for row in groups.values() for name in names for key in row[name]}
        yield breakdown.title, [(key, title) for key, title in titles.items() if key in present], groups


def _examples(result: ScorerResult, sources: Sources, most: int, workers: int) -> dict[str, Any]:
    """Return what the template needs of the examples: lists of them, a photo of each individual, and their pictures."""
    firsts = sources.gallery.drop_duplicates("Id")
    # new_whale is no individual, even if photos with that label are trained on.
    photo_of = {label: name for label, name in zip(firsts["Id"], firsts["Image"], strict=True) if label != NEW_WHALE}
    lists = choose_examples(result, most)
    names: list[str] = []
    for row in (row for chosen in lists for row in chosen.rows):
        labels = [result.queries.truth[row], *result.answers.labels[row]]
        names += [result.queries.images[row], *(photo_of[label] for label in labels if label in photo_of)]
    pictures = thumbnails(sources.folder, sources.photos, names, workers)
    return {"examples": lists, "photo_of": photo_of, "pictures": pictures}


def thumbnails(folder: Path, photos: pd.DataFrame, names: Iterable[str], workers: int) -> Sheets:
    """Draw the named photos of a folder, each once. A name that is not a plain file name is not opened."""
    wanted = photos.set_index("Image").loc[[name for name in dict.fromkeys(names) if plain_file_name(name)]]
    sizes = map(upright, *(wanted[column].tolist() for column in ("width", "height", "orientation")))
    drawn = [PhotoToDraw(name, size) for name, size in zip(wanted.index, sizes, strict=True)]
    return draw_sheets("p", folder, drawn, _CELL, workers, MAX_PIXELS)
