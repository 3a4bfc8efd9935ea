"""Two runs on the same queries: whether one is better, and by more than chance."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE, individuals_of
from flukeprint.evaluation.query_table import read_query_table
from flukeprint.metrics.arrays import weighted_mean
from flukeprint.metrics.intervals import Comparison, Resampling


@dataclass(frozen=True)
class RunComparison:
    """Run B against run A, on the same queries."""

    first: Path
    second: Path
    scorer: str
    queries: int
    new_queries: int
    map5_a: float
    map5_b: float
    difference: Comparison  # B - A
    better: int  # queries that B answers better
    worse: int
    same: int


def compare_files(first: Path, second: Path, scorer: str, resamples: int = 2000) -> RunComparison:
    """Compare one scorer's answers in two runs' queries.csv: the same queries, right answers and declared share."""
    a, b = (_read(path, scorer) for path in (first, second))
    _require_same_queries(a, b, first, second)
    b = b.loc[a.index]
    for column in ("truth", "Id"):
        _require_same(column, a, b, first, second)
    weights, points_a, points_b = (table.to_numpy() for table in (a["weight"], a["points"], b["points"]))
    if not np.allclose(weights, b["weight"].to_numpy(), rtol=1e-6):
        raise FlukeprintError(
            f"{first} and {second} weigh their queries differently: their runs declare other shares of new whales. "
            "Set evaluate.new_share to the same value in both and run `dvc repro evaluate`."
        )
    is_new = (a["truth"] == NEW_WHALE).to_numpy(dtype=bool)
    draws = Resampling(individuals_of(a["Id"], a.index), weights, is_new, resamples)
    return RunComparison(
        first=first,
        second=second,
        scorer=scorer,
        queries=len(a),
        new_queries=int(is_new.sum()),
        map5_a=weighted_mean(points_a, weights),
        map5_b=weighted_mean(points_b, weights),
        difference=draws.compare(points_b, points_a),
        better=int((points_b > points_a).sum()),
        worse=int((points_b < points_a).sum()),
        same=int((points_b == points_a).sum()),
    )


def as_json(found: RunComparison) -> str:
    """Return the comparison as JSON."""
    fields = asdict(found) | {"first": str(found.first), "second": str(found.second)}
    return json.dumps(fields, indent=2)


def as_text(found: RunComparison) -> str:
    """Return the comparison in words."""
    gain = found.difference
    between = f"{gain.low:+.4f} to {gain.high:+.4f}"
    verdict = {
        1: "B is better, by more than chance.",
        -1: "B is worse, by more than chance.",
        0: "The difference may be chance: the interval includes 0, or p is above 0.05.",
    }
    return "\n".join(
        [
            f"{found.scorer} on {found.queries} queries, {found.new_queries} of them new whales",
            "",
            f"A      MAP@5 {found.map5_a:.4f}   {found.first}",
            f"B      MAP@5 {found.map5_b:.4f}   {found.second}",
            f"B - A  {gain.difference:+.4f}   95 % interval {between}, p = {gain.p_value:.4f}",
            "",
            f"{found.better} queries got better, {found.worse} worse, {found.same} scored the same.",
            verdict[gain.verdict],
        ]
    )


def _read(path: Path, scorer: str) -> pd.DataFrame:
    """Return Id, truth, points and weight of a scorer's queries, by Image."""
    table = read_query_table(path)
    names = list(dict.fromkeys(table["scorer"].dropna()))
    if scorer not in names:
        raise FlukeprintError(
            f"{path} has no scorer {scorer!r}, only {', '.join(names) or 'no rows at all'}. Choose with --scorer."
        )
    rows = table[(table["scorer"] == scorer).fillna(False).astype(bool)].astype(object)
    for column in ("Image", "Id", "truth"):
        for row in rows.loc[rows[column].isna(), "csv_line"].head(1):
            raise FlukeprintError(f"{path} row {row}: the cell {column} is empty. Run `dvc repro evaluate` again.")
    for column in ("points", "weight"):
        values = pd.to_numeric(rows[column], errors="coerce").astype(float)
        for row, cell in rows.loc[~(np.isfinite(values) & (values >= 0)), ["csv_line", column]].head(1).to_numpy():
            raise FlukeprintError(
                f"{path} row {row}: {column} is {cell!r}, expected a number >= 0. Run `dvc repro evaluate` "
                "to write the file again."
            )
        rows[column] = values
    for image in rows.loc[rows["Image"].duplicated(), "Image"].head(1):
        raise FlukeprintError(f"{path} names the query {image} twice for {scorer}. Run `dvc repro evaluate` again.")
    return rows.set_index("Image")


def _require_same_queries(a: pd.DataFrame, b: pd.DataFrame, first: Path, second: Path) -> None:
    for here, there, file, other in ((a, b, first, second), (b, a, second, first)):
        extra = here.index.difference(there.index, sort=True)
        if len(extra):
            names = ", ".join(extra[:3]) + (", ..." if len(extra) > 3 else "")
            raise FlukeprintError(
                f"{file} has {len(extra)} of its {len(here)} queries that {other} lacks: {names}. Only the same "
                "queries can be compared: run both with the same seed, profile and `select` in params.yaml."
            )


def _require_same(column: str, a: pd.DataFrame, b: pd.DataFrame, first: Path, second: Path) -> None:
    differs = a.index[(a[column] != b[column]).to_numpy(dtype=bool)]
    for image in differs[:1]:
        raise FlukeprintError(
            f"{column} of {image} is {a[column][image]} in {first} and {b[column][image]} in {second}; "
            f"{len(differs)} queries differ so. Compare runs on the same data with the same `select` in params.yaml."
        )
