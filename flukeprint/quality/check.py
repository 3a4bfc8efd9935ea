"""Checking a folder in Kaggle's layout: read, decode, run the rules, word what they found."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import ValidateParams
from flukeprint.core.safe_text import printable
from flukeprint.core.worker_processes import Workers
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.photo_folders import said_of_others
from flukeprint.quality.findings import Finding, finding_of, metrics, summaries
from flukeprint.quality.frames import Flukes, Frames, Inputs, photo_frames, read_inputs, table_frames
from flukeprint.quality.rules import levels
from flukeprint.quality.suite import load_great_expectations, run_rules


@dataclass(frozen=True)
class Checked:
    """The result: what was read, and what each rule found."""

    inputs: Inputs
    frames: Frames
    findings: tuple[Finding, ...]
    metrics: Mapping[str, Any]

    @property
    def errors(self) -> list[str]:
        """Summaries of the rules that failed as errors."""
        return summaries(self.findings, "error")

    @property
    def warnings(self) -> list[str]:
        """Summaries of the rules that failed as warnings."""
        return summaries(self.findings, "warning")

    @property
    def excluded(self) -> list[str]:
        """One line per entry of the exclusions file that left out rows."""
        return [printable(f"excluded {name} ({rows} row(s)): {why}") for name, why, rows in self.inputs.excluded]

    @property
    def others(self) -> list[str]:
        """One line per folder that holds other files than photos, which were left alone."""
        said = (said_of_others(f"{part}/", content) for part, content in self.inputs.listing.items() if content)
        return [line for line in said if line]

    @property
    def notes(self) -> list[str]:
        """What was done to the data or left out, a line each; no rule fails for it."""
        read_as_new = self.metrics.get("read_as_new_whale", 0)
        read = f"{read_as_new} row(s) of train.csv read as {NEW_WHALE} (validate.unknown.as_new_whale)"
        return [*self.excluded, *([read] if read_as_new else []), *self.others]

    def refuse_errors(self, report: Path | None = None) -> None:
        """Raise the errors, if there are any, as one FlukeprintError."""
        if not self.errors:
            return
        page = f" All rows, with thumbnails: {report / 'index.html'}." if report else ""
        unchecked = sum(finding.status == "not checked" and finding.level != "off" for finding in self.findings)
        later = f" {unchecked} rules could not be checked before that is repaired." if not self.inputs.readable else ""
        raise FlukeprintError(
            f"{self.inputs.folder} does not pass {len(self.errors)} rule(s); nothing was written from it.\n"
            + "\n".join(self.errors)
            + f"\nRepair the data, or change a rule's level or bounds under `validate` in params.yaml.{later}{page}"
        )


def check_folder(
    folder: Path,
    params: ValidateParams,
    workers: Workers = 1,
    exclusions: Path | None = None,
    flukes: Flukes | None = None,
) -> Checked:
    """Check all rules on a folder. Nothing is raised for what is wrong with it, but for what is wrong with the levels.

    Photos are looked at, by `workers` processes, only where all tables and folders could be read. `exclusions` is a CSV
    (Image, reason) of training photos to leave out; it may be absent. `flukes` is what a localiser says of the photos.
    """
    levels(params.rules)  # refuses what cannot be before photos are read
    inputs = read_inputs(folder, params.rows[1], exclusions)
    frames = table_frames(inputs, params)
    if inputs.readable:
        frames |= photo_frames(inputs, params, workers, load_great_expectations, flukes)
    outcomes = (one for one in run_rules(frames, params) if flukes is not None or not one.rule.of_flukes)
    found = tuple(finding_of(outcome, frames, params) for outcome in outcomes)
    return Checked(inputs, frames, found, metrics(found, frames, inputs))


@contextmanager
def without_collection() -> Iterator[None]:
    """Switch off cyclic garbage collection, over a second of twelve, in a process that checks one folder and ends."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
