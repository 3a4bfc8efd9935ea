"""What all commands have in common: help, usage errors, exit codes, and that asking for help is quick."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from flukeprint.cli.main import app, main
from flukeprint.core.errors import FlukeprintError

OF_CATALOGUE = ("create", "import", "identify", "audit", "show", "log", "embed", "check", "snapshot")
DECISIONS = ("confirm", "new", "reject", "split", "unsure", "merge", "rename", "undo")
WHAT_IS_EXPORTED = ("sightings", "individuals", "decisions", "darwin-core", "histories", "wildbook", "photos")
HEAVY = ("numpy", "pandas", "rich", "sklearn", "torch", "yaml")


def walk(command, path=()):
    """Yield every command with the words that call it."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
LEAVES = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]


def test_the_commands():
    assert {" ".join(path) for path in LEAVES} == {
        "identify", "verify", "export", "fit-local", "results", "compare", "score", "quality", "review", "members",
        "gallery info", "reviewers add", "reviewers end", "reviewers list",
        *(f"catalogue {what}" for what in OF_CATALOGUE),
        *(f"catalogue decide {what}" for what in DECISIONS),
        *(f"catalogue export {what}" for what in WHAT_IS_EXPORTED),
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_explains_itself_and_its_options(path, option):
    shown = CliRunner().invoke(app, [*path, option])
    assert shown.exit_code == 0
    text = "".join(shown.output.split())
    for parameter in COMMANDS[path].params:
        assert parameter.help, parameter.name
        assert "".join(parameter.help.split()) in text
        assert all(name in shown.output for name in parameter.opts if name.startswith("-"))


@pytest.mark.parametrize("path", [(), ("gallery",), ("catalogue", "export")], ids=" ".join)
def test_the_overview_cuts_no_sentence(path):
    lines = CliRunner().invoke(app, [*path, "--help"], terminal_width=80).output.split("Commands:\n")[1].splitlines()
    assert len(lines) == len(COMMANDS[path].commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_an_unknown_option_ends_with_code_2(path, capsys):
    with pytest.raises(SystemExit) as end:
        main([*path, "--unknown"])
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "No such option: --unknown" in printed.err


@pytest.mark.parametrize("arguments", [["nonsense"], ["gallery", "nonsense"], ["score"], ["score", "a", "b", "c"]])
def test_arguments_that_do_not_fit_end_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "Usage: flukeprint" in capsys.readouterr().err


@pytest.mark.parametrize("path", [(), ("gallery",)], ids=["flukeprint", "gallery"])
def test_without_a_command_there_is_the_help(path, capsys):
    with pytest.raises(SystemExit) as end:
        main(path)
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert all(f"\n  {name}" in shown for name in COMMANDS[path].commands)


@pytest.mark.parametrize(
    ("raised", "code"),
    [(FlukeprintError("train.lr is 'abc'"), "error: train.lr is 'abc'"), (KeyboardInterrupt(), 130)],
)
def test_what_ends_a_command_sets_the_exit_code(raised, code, monkeypatch, capsys):
    def fail(**_: bool):
        raise raised

    monkeypatch.setattr("flukeprint.evaluation.results.results_text", fail)
    with pytest.raises(SystemExit) as end:
        main(["results"])
    assert end.value.code == code  # Python prints a text to stderr and exits with 1
    assert capsys.readouterr().out == ""


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("flukeprint.evaluation.results.results_text", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["results"])


def test_the_module_runs_and_a_closed_pipe_ends_it_quietly():
    command = [sys.executable, "-m", "flukeprint.cli", "--help"]
    assert "Usage: flukeprint" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_help_needs_no_heavy_imports():
    code = "import sys; from flukeprint.cli.main import main\n"
    code += f"for path in {list(COMMANDS)}: main([*path, '--help'])\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: flukeprint") == len(COMMANDS)
    assert done.stdout.splitlines()[-1] == "[]"
