"""What a command has done stays done, and is no failure, where it cannot be printed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError

TABLE = pd.DataFrame({"Image": ["a"], "truth": ["w"], "rank": [1], "score": [1.0]})
CHECKED = SimpleNamespace(
    metrics={"warnings": 0}, excluded=["text"], notes=[], warnings=[], refuse_errors=lambda _: None
)
# Commands that change something, and the functions of the library that they call, with what these return.
COMMANDS = {
    "export there": {"flukeprint.bundle.export.export_bundle": 3},
    "identify a.jpg --html page.html": {
        "flukeprint.data.reading.list_photos": [],
        "flukeprint.bundle.opening.open_model": None,
        "flukeprint.identify.answers.identify": SimpleNamespace(failed=[]),
        "flukeprint.identify.identification_page.write_page": None,
        "flukeprint.identify.formats.as_table": "text",
    },
    "quality . --json out.json": {"flukeprint.quality.check.check_folder": CHECKED},
    "quality . --report report": {
        "flukeprint.quality.check.check_folder": CHECKED,
        "flukeprint.quality.quality_report.write_report": None,
    },
    "score a.csv b.csv --per-photo out.csv": {
        "flukeprint.data.submission.read_submission": None,
        "flukeprint.data.submission.read_truth": None,
        "flukeprint.data.submission.score_submission": TABLE,
    },
}


def full_device() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def closed_pipe() -> int:
    source, target = os.pipe()
    os.close(source)
    return target


@contextmanager
def unprintable(target: Callable[[], int]) -> Iterator[None]:
    stream = os.fdopen(target(), "w", encoding="utf-8")
    with redirect_stdout(stream):
        yield
    with suppress(BrokenPipeError):  # what was not printed is still to be
        stream.close()


@pytest.fixture
def params(monkeypatch, tmp_path):
    """The current folder with the committed params, which the command `quality` reads."""
    (tmp_path / "params.yaml").write_text((Path(__file__).parents[2] / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("target", [full_device, closed_pipe])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_change_that_cannot_be_printed_is_no_failure(params, stub, capsys, command, target):
    calls = [stub(name, result) for name, result in COMMANDS[command].items()]
    with unprintable(target):
        main(command.split())
    assert all(calls)
    said = capsys.readouterr().err
    assert said.startswith("It is done, but what was done could not be printed (")
    assert said.count("\n") == 1


@pytest.mark.parametrize("target", [full_device, closed_pipe])
@pytest.mark.parametrize("command", ["score a.csv b.csv", "identify a.jpg", "quality ."])
def test_without_a_change_it_is_one(params, stub, command, target):
    of_command = next(stubs for name, stubs in COMMANDS.items() if name.startswith(command))
    for name, result in of_command.items():
        stub(name, result)
    with unprintable(target), pytest.raises(SystemExit) as end:
        main(command.split())
    if target is closed_pipe:  # who closed it has read enough
        assert end.value.code == 1
    else:
        assert end.value.code.startswith("error: this could not be printed (")


def test_errors_of_the_data_still_fail_when_the_report_is_written(params, stub):
    def refuse(_: object) -> None:
        raise FlukeprintError("errors")

    stub("flukeprint.quality.check.check_folder", SimpleNamespace(**{**vars(CHECKED), "refuse_errors": refuse}))
    with unprintable(full_device), pytest.raises(SystemExit, match="error: errors"):
        main(["quality", ".", "--json", "out.json"])
