"""reports/evaluation/queries.csv: every result's answer to every query, a row each."""

from pathlib import Path

import pandas as pd

from flukeprint.core.replacement import replacing
from flukeprint.core.safe_text import cell_text, spreadsheet_cell
from flukeprint.data.tables import require_table
from flukeprint.evaluation.leaderboard import TOP, Leaderboard, ScorerResult

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
    labels, chances = (
        pd.DataFrame(part).reindex(columns=range(TOP)) for part in (answers.labels, answers.probabilities)
    )
    rank = pd.Series(result.ranks, dtype="Int64")
    columns = {
        "scorer": result.name,
        "Image": queries.images,
        "Id": queries.ids,
        "truth": queries.truth,
        **{f"label_{place}": labels[place - 1] for place in PLACES},
        **{f"probability_{place}": chances[place - 1] for place in PLACES},
        "rank": rank.mask(rank == 0),
        "points": result.points,
        "weight": queries.weights if queries.both_kinds else 1.0,
    }
    return pd.DataFrame(columns, columns=list(COLUMNS))


def write_query_table(path: Path, table: pd.DataFrame) -> None:
    """Write queries.csv: probabilities with 6 digits, points and weights in full; no text runs in a spreadsheet."""
    shown = table.assign(
        **{name: table[name].astype(float).round(6) for name in COLUMNS if name.startswith("probability_")},
        **{name: table[name].map(spreadsheet_cell, na_action="ignore") for name in TEXTS},
    )
    with replacing(path) as temporary:
        shown.to_csv(temporary, index=False, lineterminator="\n")


def read_query_table(path: Path) -> pd.DataFrame:
    """Read queries.csv as strings, with its texts as they were before `write_query_table`, and each row's csv_line."""
    table = require_table(path, COLUMNS)
    return table.assign(**{name: table[name].map(cell_text, na_action="ignore") for name in TEXTS})
