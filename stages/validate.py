"""validate: check tables and photos against the rules; only what passes becomes typed tables."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import MissingFileError
from flukeprint.core.files import REPAIR, write_figures, write_parquet
from flukeprint.core.params import load_params
from flukeprint.core.paths import BOXES, METRICS, RAW, VALIDATED

if TYPE_CHECKING:
    from flukeprint.quality.frames import Flukes

KEYS = ("validate", "localize.confidence")
# Photos that people chose to leave out, with a reason; in git.
EXCLUSIONS = Path("data/exclusions.csv")
REPORT = Path("reports/data_quality")


def main() -> None:
    """Run the stage."""
    # Processes that decode photos import this module anew, and need none of this.
    from flukeprint.quality.check import without_collection

    with without_collection():
        _check_and_write()


def _check_and_write() -> None:
    from flukeprint.quality.check import check_folder
    from flukeprint.quality.quality_report import write_report
    from flukeprint.quality.schema import arrow_table

    params = load_params(KEYS)
    if not RAW.exists():
        raise MissingFileError(f"{RAW} is missing. {REPAIR}")
    outputs = {part: VALIDATED / f"{part}.parquet" for part in ("train", "test")}
    # Whatever ends this run early, no tables of older data stay behind.
    for path in outputs.values():
        path.unlink(missing_ok=True)
    flukes = remarks_on_flukes(params.localize.confidence)
    checked = check_folder(RAW, params.validate, params.runtime.photo_workers, EXCLUSIONS, flukes)
    write_figures(METRICS / "data_quality.json", checked.metrics)
    write_report(REPORT, checked, params.validate, params.runtime.workers)
    for text in (*checked.notes, *checked.warnings):
        logging.getLogger(__name__).warning(text)
    checked.refuse_errors(REPORT)
    for part, path in outputs.items():
        write_parquet(path, arrow_table(checked.frames[part], labelled=part == "train"))


def remarks_on_flukes(confidence: float) -> Flukes | None:
    """Return what the localiser says of photos; None where no photo was looked at."""
    from flukeprint.data.cropping import remarks
    from flukeprint.data.fluke_boxes import read_found

    found = {part: read_found(BOXES / f"{part}.parquet") for part in ("train", "test")}
    if not any(found.values()):
        return None
    return {part: {name: remarks(one, confidence) for name, one in own.items()} for part, own in found.items()}


if __name__ == "__main__":
    exit_cleanly(main)
