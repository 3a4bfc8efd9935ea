"""`flukeprint quality FOLDER`: check any folder in Kaggle's layout, without the pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to an argparse parser's subparsers."""
    parser = commands.add_parser(
        "quality",
        help="check a folder in Kaggle's layout against the data quality rules",
        description="Check train.csv, sample_submission.csv, train/ and test/ in a folder against the rules of "
        "flukeprint/quality/rules.py, with the levels and bounds of `validate` in params.yaml. Exit code 1 if a rule "
        "of level `error` fails, 0 otherwise.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the two tables and the two folders")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write counts per rule")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write an HTML page and a CSV of all cases")
    parser.add_argument("--exclusions", type=Path, metavar="CSV", help="Image,reason of training photos to leave out")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="default: params.yaml, here")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: runtime.workers)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from flukeprint.quality.check import without_collection

    _check_arguments(arguments)
    with without_collection():
        _check_and_report(arguments)


def _check_and_report(arguments: argparse.Namespace) -> None:
    from flukeprint.core.files import write_json
    from flukeprint.core.params import load_params
    from flukeprint.quality.check import check_folder
    from flukeprint.quality.quality_report import write_report

    params = load_params(("validate",), arguments.params)
    workers = arguments.workers or params.runtime.workers
    checked = check_folder(arguments.folder, params.validate, workers, arguments.exclusions)
    if arguments.json:
        write_json(arguments.json, checked.metrics)
    if arguments.report:
        write_report(arguments.report, checked, params.validate, workers)
    sys.stdout.write("".join(f"{line}\n" for line in (*checked.excluded, *checked.warnings)))
    checked.refuse_errors(arguments.report)
    sys.stdout.write(f"{arguments.folder} passes, with {checked.metrics['warnings']} warning(s).\n")


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Refuse what would fail, or overwrite what is not a report, only after minutes of work."""
    from flukeprint.core.errors import FlukeprintError

    if not arguments.folder.is_dir():
        raise FlukeprintError(f"there is no folder {str(arguments.folder)!r}. Name one in Kaggle's layout.")
    if arguments.exclusions and not arguments.exclusions.is_file():
        raise FlukeprintError(f"--exclusions {arguments.exclusions} is not a file. Leave it out if there is none.")
    if arguments.json and arguments.json.is_dir():
        raise FlukeprintError(f"--json {arguments.json} is a folder, expected the name of a file to write.")
    report = arguments.report
    if report and report.exists() and not _replaceable(report):
        raise FlukeprintError(
            f"--report {report} holds other files than a report, and would be replaced. Name a new or an empty folder."
        )


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {"index.html", "findings.csv"}
