"""The command line: `flukeprint <command>`. A command is one `_add_*` function and one function that runs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.cli import export as bundle
from flukeprint.cli import gallery, identify, quality
from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError
from flukeprint.scoring.registry import ENSEMBLE

if TYPE_CHECKING:
    import pandas as pd


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name (by default those of the process)."""
    arguments = _parser().parse_args(argv)
    exit_cleanly(lambda: arguments.run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flukeprint", description="Identify individual humpback whales from photos of their flukes."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_score(commands)
    _add_results(commands)
    _add_compare(commands)
    quality.add_parser(commands)
    gallery.add_parser(commands)
    identify.add_parsers(commands)
    bundle.add_parser(commands)
    return parser


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")


# --- score ---


def _add_score(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="score a submission against the truth, as Kaggle does (MAP@5)",
        description="Score a submission against the truth, as Kaggle does: MAP@5, for all photos and for known and "
        "new whales apart. A malformed file is refused, and the fault named by row.",
    )
    parser.add_argument("submission", type=Path, metavar="SUBMISSION", help="CSV file: Image,Id; up to five labels")
    parser.add_argument("truth", type=Path, metavar="TRUTH", help="CSV file: Image,Id; one label per photo")
    parser.add_argument("--per-photo", type=Path, metavar="OUT.csv", help="write Image,truth,rank,score of every photo")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.set_defaults(run=_run_score)


def _run_score(arguments: argparse.Namespace) -> None:
    from flukeprint.data.submission import read_submission, read_truth, score_submission, summarise

    inputs = (arguments.submission, arguments.truth)
    if arguments.per_photo:
        _check_output(arguments.per_photo, inputs)
    per_photo = score_submission(read_submission(inputs[0]), read_truth(inputs[1]))
    if arguments.per_photo:
        _write_csv(arguments.per_photo, per_photo)
    _write((_score_as_json if arguments.json else _score_as_text)(summarise(per_photo)))


def _check_output(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse a name that cannot be written, or that would overwrite what is read."""
    if path.is_dir():
        raise FlukeprintError(f"--per-photo {path} is a folder, expected the name of a file to write. Add a name.")
    if any(path.resolve() == given.resolve() for given in inputs):
        raise FlukeprintError(f"--per-photo {path} is the file to be scored. Choose another name for the output.")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    from flukeprint.core.files import replacing
    from flukeprint.core.text import spreadsheet_cell

    safe = table.assign(**{name: table[name].map(spreadsheet_cell) for name in ("Image", "truth")})
    try:
        with replacing(path) as temporary:
            safe.to_csv(temporary, index=False, lineterminator="\n")
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise FlukeprintError(f"{path} cannot be written ({error.strerror}). Choose another name.") from None


def _score_as_json(summary: dict[str, dict[str, float]]) -> str:
    import json

    return json.dumps(summary, indent=2)


def _score_as_text(summary: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':8}{'photos':>8}{'MAP@5':>10}{'top-1':>10}{'top-5':>10}"]
    for name, row in summary.items():
        figures = "".join(f"{row[key]:10.5f}" for key in ("map5", "top1", "top5"))
        lines.append(f"{name:8}{row['photos']:8,.0f}{figures}")
    return "\n".join(lines)


# --- results ---


def _add_results(commands: Any) -> None:
    parser = commands.add_parser(
        "results",
        help="say what the last `dvc repro` reached, and where its files are",
        description="Print the scores of the last `dvc repro` in this project, and where its files are.",
    )
    parser.set_defaults(run=_run_results)


def _run_results(_: argparse.Namespace) -> None:
    from flukeprint.evaluation.results import results_text

    _write(results_text())


# --- compare ---


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="tell whether one run is better than another, by more than chance",
        description="Compare two runs on the same queries: the difference in MAP@5 (B - A) with its 95 % interval "
        "over individuals and the p-value of a paired permutation test, and how many queries got better or worse.",
    )
    where = "reports/evaluation/queries.csv of a run"
    parser.add_argument("first", type=Path, metavar="A.csv", help=where)
    parser.add_argument("second", type=Path, metavar="B.csv", help=where)
    parser.add_argument("--scorer", default=ENSEMBLE, help="whose answers to compare (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=_run_compare)


def _run_compare(arguments: argparse.Namespace) -> None:
    from flukeprint.evaluation.comparison import as_json, as_text, compare_files

    found = compare_files(arguments.first, arguments.second, arguments.scorer)
    _write(as_json(found) if arguments.json else as_text(found))
