"""What the last run reached, as text: `flukeprint results`."""

from collections.abc import Mapping
from typing import Any

from flukeprint.core.files import read_json
from flukeprint.core.paths import DECISION, METRICS, PREDICTIONS, SUBMISSION
from flukeprint.evaluation.report_words import named, natural
from flukeprint.scoring.calibration import read_calibration
from flukeprint.scoring.registry import BEST, ENSEMBLE, in_order

# By the figure their titles, and the count of photos that a share is of.
_SHARES = {
    "known_top1": ("known: first", "known_queries"),
    "known_top5": ("in five", "known_queries"),
    "new_top1_held_out": ("held out: new", "held_out_queries"),
    "new_top1_new_whale": ("unnamed: new", "new_whale_queries"),
}


_KINDS = {"auroc_held_out": "individuals held out", "auroc_new_whale": "photos labelled new_whale"}
_PLAIN = {"map5_plain": "with labels of near-duplicates", "map5_plain_without_copies": "without them"}


def results_text(*, members: bool = False) -> str:
    """Describe the last run: the leaderboard on the queries, with or without single members, and the files it left."""
    evaluation = read_json(METRICS / "evaluation.json")
    rows = {name: row for name, row in evaluation.items() if isinstance(row, dict)}
    lines = [f"{evaluation['queries']} queries, {evaluation['new_queries']} of them new whales"]
    if rows:
        top = next(name for name in (BEST, ENSEMBLE, *reversed(rows)) if name in rows)
        lines += natural(top, evaluation, rows[top])
        of_members = read_json(METRICS / "members.json") if members else {}
        lines += ["", *_table(of_members | rows, evaluation), "" if members else "(single networks: --all)"]
        lines += _of_kinds(rows[top])
    calibration = read_calibration(DECISION) if DECISION.is_file() else None
    if calibration and calibration.note:
        lines += ["", f"Answers to new photos are {calibration.note}."]
    lines += [
        "",
        f"submission   {SUBMISSION}{_rows_of_submission()}",
        f"answers      {PREDICTIONS}/query.parquet, {PREDICTIONS}/test.parquet",
        "report       reports/evaluation/index.html, reports/evaluation/queries.csv",
        f"metrics      {METRICS}/*.json (dvc metrics show, dvc metrics diff)",
        "curves       dvc plots show",
    ]
    return "\n".join(lines)


def _of_kinds(row: Mapping[str, float]) -> list[str]:
    """Say how well each kind of new whale is told from known ones, and the score as MLE-bench counts it."""
    apart = [f"{words} {row[key]:.3f}" for key, words in _KINDS.items() if key in row]
    lines = [f"AUROC of known whales against {', '.join(apart)}"] if apart else []
    if "map5_plain_without_copies" not in row:
        return lines
    plain = ", ".join(f"{row[key]:.3f} {words}" for key, words in _PLAIN.items())
    return [*lines, f"MAP@5 of the queries as they are, unweighted: {plain}"]


def _rows_of_submission() -> str:
    """Say where a submission has no rows; it may not be here, in a clone."""
    if not SUBMISSION.is_file():
        return " (not here)"
    with SUBMISSION.open("rb") as stream:
        return "" if len(stream.read(4096).splitlines()) > 1 else " (empty: there is no photo to label)"


def _table(leaderboard: Mapping[str, dict[str, float]], counts: Mapping[str, int]) -> list[str]:
    names = {name: named(name) for name in in_order(leaderboard)}  # JSON keeps no order
    width = max(map(len, names.values())) + 2
    titles = ("MAP@5", "95 % interval", *(title for title, _ in _SHARES.values()))
    rows = [("", titles), *((words, _cells(leaderboard[name], counts)) for name, words in names.items())]
    return [f"{words:{width}}" + "".join(f"{cell:>14}" for cell in row) for words, row in rows]


def _cells(row: Mapping[str, float], counts: Mapping[str, int]) -> tuple[str, ...]:
    interval = f"{row['map5_low']:.3f}-{row['map5_high']:.3f}" if "map5_low" in row else "-"
    shares = (_of(row, key, counts.get(count, 0)) for key, (_, count) in _SHARES.items())
    return (f"{row['map5']:.3f}" if "map5" in row else "-", interval, *shares)


def _of(row: Mapping[str, Any], key: str, number: int) -> str:
    return f"{round(number * row[key])} of {number}" if key in row else "-"
