"""reports/evaluation/queries.csv: every result's answer to every query, a row each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from flukeprint.core.files import replacing
from flukeprint.core.text import spreadsheet_cell
from flukeprint.evaluation.leaderboard import TOP

if TYPE_CHECKING:
    from flukeprint.evaluation.leaderboard import Leaderboard, ScorerResult

PLACES = tuple(range(1, TOP + 1))
COLUMNS = (
    "scorer",
    "Image",
    "Id",  # the individual, also where it was held out; new_whale where nobody knows
    "truth",  # the right answer
    *(f"label_{place}" for place in PLACES),
    *(f"probability_{place}" for place in PLACES),
    "rank",  # of the right answer among the labels; empty if it is not there
    "points",  # 1 / rank, or 0: what the query adds to MAP@5
    "weight",  # of the query in map5; mean 1
)
# Columns of names that came with the photos.
TEXTS = ("scorer", "Image", "Id", "truth", *(f"label_{place}" for place in PLACES))


def query_table(leaderboard: Leaderboard) -> pd.DataFrame:
    """Return the rows of queries.csv, result by result."""
    parts = [_rows(result) for result in leaderboard.results.values() if len(result.queries.images)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def _rows(result: ScorerResult) -> pd.DataFrame:
    queries, answers = result.queries, result.answers
    rank = pd.Series(result.ranks, dtype="Int64")
    columns = {
        "scorer": result.name,
        "Image": queries.images,
        "Id": queries.ids,
        "truth": queries.truth,
        **{f"label_{place}": [_at(row, place) for row in answers.labels] for place in PLACES},
        **{f"probability_{place}": [_at(row, place) for row in answers.probabilities] for place in PLACES},
        "rank": rank.mask(rank == 0),
        "points": result.points,
        "weight": queries.weights if queries.both_kinds else 1.0,
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def _at(row: list[str] | list[float], place: int) -> str | float | None:
    return row[place - 1] if place <= len(row) else None


def write_query_table(path: Path, table: pd.DataFrame) -> None:
    """Write queries.csv: probabilities with 6 digits, points and weights in full; no text runs in a spreadsheet."""
    shown = table.assign(
        **{name: table[name].astype(float).round(6) for name in COLUMNS if name.startswith("probability_")},
        **{name: table[name].map(spreadsheet_cell, na_action="ignore") for name in TEXTS},
    )
    with replacing(path) as temporary:
        shown.to_csv(temporary, index=False, lineterminator="\n")
