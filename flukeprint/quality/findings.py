"""What the rules found, in the words, numbers and tables that people and programs read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from flukeprint.core.params import ValidateParams
from flukeprint.core.safe_text import printable, spreadsheet_cell
from flukeprint.data.labels import NEW_WHALE
from flukeprint.quality.frames import Inputs
from flukeprint.quality.suite import Outcome

# Rows that are named on the terminal and in the JSON file; the report and its CSV have all.
FIRST = 10
# Characters of a finding: names and labels of strangers can be long.
_LONGEST = 400


@dataclass(frozen=True)
class Case:
    """One offending row."""

    where: str  # "train.csv row 7", or "test/" where no table names it
    says: str
    images: tuple[str, ...]  # paths of the photos concerned, relative to the folder


@dataclass(frozen=True)
class Finding:
    """A rule and what came of it."""

    rule: str
    level: str  # error, warning, off
    status: str  # passed, failed, not checked
    expects: str
    reason: str
    repair: str
    cases: tuple[Case, ...]

    @property
    def failed(self) -> bool:
        """Whether the rule does not hold."""
        return self.status == "failed"


def finding_of(outcome: Outcome, frames: Mapping[str, pd.DataFrame], params: ValidateParams) -> Finding:
    """Put the outcome of a rule into words."""
    rule = outcome.rule
    cases = [
        Case(rule.check.on[0].split(".")[0] + ".csv", rule.says.format(observed=value), ())
        for value in outcome.observed
    ]
    for name, rows in outcome.rows.items():
        cases += [_case(rule.says, row) for row in frames[name].loc[rows].to_dict("records")]
    status = "failed" if outcome.failed else "passed" if outcome.checked else "not checked"
    return Finding(
        rule.name, outcome.level, status, rule.expects.format(p=params), rule.reason, rule.repair, tuple(cases)
    )


def _case(says: str, row: Mapping[Any, Any]) -> Case:
    where = row["file"] if row.get("csv_line") is None else f"{row['file']} row {int(row['csv_line'])}"
    names = row.get("images", [])  # of a cluster
    if isinstance(row.get("same_in_train"), str):
        names = [row["same_in_train"]]
    images = [*([row["path"]] if "path" in row else []), *(f"train/{name}" for name in names)]
    text = printable(says.format(**row))
    return Case(printable(where), text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...", tuple(images))


# --- on the terminal --------------------------------------------------------------------------------------


def summary(finding: Finding) -> str:
    """Return the lines about one failed rule: how many rows, the first of them, and what to do."""
    number = len(finding.cases)
    lines = [
        f"{finding.level} {finding.rule}: {number} {'case' if number == 1 else 'cases'}. Expected: {finding.expects}."
    ]
    lines += [f"    {case.where}: {case.says}" for case in finding.cases[:FIRST]]
    if number > FIRST:
        lines.append(f"    ... and {number - FIRST} more")
    return "\n".join([*lines, f"    What to do: {finding.repair}"])


def summaries(found: Iterable[Finding], level: str) -> list[str]:
    """Return the summaries of the failed rules of one level."""
    failed = [finding for finding in found if finding.failed and finding.level == level]
    return [summary(finding) for finding in sorted(failed, key=lambda finding: len(finding.cases))]


# --- numbers ----------------------------------------------------------------------------------------------


def metrics(found: Sequence[Finding], frames: Mapping[str, pd.DataFrame], inputs: Inputs) -> dict[str, Any]:
    """Return metrics/data_quality.json: numbers only, so that `dvc metrics diff` shows what changed."""
    failed = [finding for finding in found if finding.failed]
    numbers: dict[str, Any] = {
        "errors": sum(finding.level == "error" for finding in failed),
        "warnings": sum(finding.level == "warning" for finding in failed),
        "excluded_entries": len(inputs.excluded),
        "excluded_rows": sum(rows for _, _, rows in inputs.excluded),
        "other_files": sum(len(content.others) for content in inputs.listing.values() if content),
        "rules": {finding.rule: len(finding.cases) for finding in found if finding.status != "not checked"},
    }
    return numbers | (_sizes(frames["train"], frames["test"], frames["clusters"]) if "train" in frames else {})


def _sizes(train: pd.DataFrame, test: pd.DataFrame, clusters: pd.DataFrame) -> dict[str, int]:
    sizes = {
        "train_rows": len(train),
        "test_photos": len(test),
        "labels": train["Id"].nunique(),
        "new_whale_rows": train["Id"].eq(NEW_WHALE).sum(),
        "read_as_new_whale": train["read_as_new"].sum(),
        "train_clusters": train["cluster"].nunique(),
        "duplicate_clusters": len(clusters),
        "conflicting_clusters": clusters["labels"].gt(1).sum(),
        "test_photos_in_train": test["same_in_train"].notna().sum(),
        "grey_train_photos": train["mode"].eq("L").sum(),
    }
    return {name: int(value) for name, value in sizes.items()}


# --- a table ----------------------------------------------------------------------------------------------


def as_csv(found: Iterable[Finding]) -> str:
    """Return every offending row as CSV that is safe to open in a spreadsheet."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["rule", "level", "where", "photos", "finding"])
    for finding in found:
        for case in finding.cases:
            cells = (finding.rule, finding.level, case.where, " ".join(map(printable, case.images)), case.says)
            writer.writerow(map(spreadsheet_cell, cells))
    return stream.getvalue()
