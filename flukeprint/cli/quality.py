"""`flukeprint quality FOLDER`: check any folder in Kaggle's layout, without the pipeline."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, echo

from flukeprint.cli.arguments import check_output
from flukeprint.core.console import say_done
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import PARAMS
from flukeprint.core.wording import counted


def quality(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="In Kaggle's layout; test/ and its table may be absent.")],
    json: Annotated[Path | None, Option(metavar="OUT.json", help="Write the number of cases per rule.")] = None,
    report: Annotated[Path | None, Option(metavar="DIR", help="Write an HTML page and a CSV of all cases.")] = None,
    exclusions: Annotated[Path | None, Option(metavar="CSV", help="Photos to leave out: data/exclusions.csv.")] = None,
    params: Annotated[Path, Option(metavar="YAML", help="Has the levels and bounds.")] = PARAMS,
    workers: Annotated[int | None, Option(metavar="N", help="Processes; by default runtime.workers.")] = None,
) -> None:
    """Check a folder in Kaggle's layout: what is wrong, and where.

    The rules are in flukeprint/quality/rules.py; their levels and bounds are `validate` in params.yaml.

    Exit code 1 if a rule of level `error` fails, 0 otherwise.
    """
    from flukeprint.core.files import write_json
    from flukeprint.core.params import load_params
    from flukeprint.quality.check import check_folder, without_collection
    from flukeprint.quality.quality_report import write_report

    _check_arguments(folder, json, report, exclusions)
    with without_collection():
        values = load_params(("validate",), params)
        workers = workers or values.runtime.workers
        checked = check_folder(folder, values.validate, workers, exclusions)
        if json:
            write_json(json, checked.metrics)
        if report:
            write_report(report, checked, values.validate, workers)
        say = say_done if json or report else echo
        for line in (*checked.notes, *checked.warnings):
            say(line)
        checked.refuse_errors(report)
        say(f"{folder} passes, with {counted(checked.metrics['warnings'], 'warning')}.")


def _check_arguments(folder: Path, json: Path | None, report: Path | None, exclusions: Path | None) -> None:
    """Refuse what would fail, or overwrite what is not a report, only after minutes of work."""
    from flukeprint.quality.quality_report import refuse_other_files

    if not folder.is_dir():
        raise FlukeprintError(f"there is no folder {str(folder)!r}. Name one in Kaggle's layout.")
    if exclusions and not exclusions.is_file():
        raise FlukeprintError(f"--exclusions {exclusions} is not a file. Leave it out if there is none.")
    check_output("--json", json)
    if report:
        refuse_other_files(report)
