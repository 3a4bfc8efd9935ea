"""What the last run reached, as text: `flukeprint results`."""

from typing import Any

from flukeprint.core.files import read_json
from flukeprint.core.paths import METRICS, PREDICTIONS, SUBMISSION
from flukeprint.scoring.registry import in_order

_TITLES = {
    "map5": "MAP@5",
    "interval": "95 % interval",
    "top1": "top-1",
    "known_top1": "known top-1",
    "known_top5": "known top-5",
    "new_top1": "new top-1",
}


def results_text() -> str:
    """Describe the last run: the leaderboard on the queries, and the files that it left."""
    evaluation = read_json(METRICS / "evaluation.json")
    together = read_json(METRICS / "members.json") | evaluation
    leaderboard = {name: row for name, row in together.items() if isinstance(row, dict)}
    lines = [f"{evaluation['queries']} queries, {evaluation['new_queries']} of them new whales"]
    if leaderboard:
        lines += ["", *_table(leaderboard)]
    lines += [
        "",
        f"submission   {SUBMISSION}",
        f"answers      {PREDICTIONS}/query.parquet, {PREDICTIONS}/test.parquet",
        "report       reports/evaluation/index.html, reports/evaluation/queries.csv",
        f"metrics      {METRICS}/*.json (dvc metrics show, dvc metrics diff)",
        "curves       dvc plots show",
    ]
    return "\n".join(lines)


def _table(leaderboard: dict[str, dict[str, float]]) -> list[str]:
    width = max(map(len, leaderboard)) + 1
    rows = [" " * width + "".join(f"{title:>15}" for title in _TITLES.values())]
    for name in in_order(leaderboard):  # JSON keeps no order
        rows.append(f"{name:{width}}" + "".join(f"{_cell(leaderboard[name], key):>15}" for key in _TITLES))
    return rows


def _cell(row: dict[str, Any], key: str) -> str:
    if key == "interval":
        return f"{row['map5_low']:.3f} - {row['map5_high']:.3f}" if "map5_low" in row else "-"
    return f"{row[key]:.3f}" if key in row else "-"
