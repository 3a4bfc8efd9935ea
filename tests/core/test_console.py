"""How programs end: by signals, on consoles of other encodings, with an output that cannot be printed."""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from imports import ROOT

from flukeprint.cli.main import main
from flukeprint.core import console
from flukeprint.core.dvc_lock import check_lock
from flukeprint.core.errors import FlukeprintError


def run(code: str, folder: Path, **more: object) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("environment", {})}
    script = folder / "program.py"
    script.write_text(code, encoding="utf-8")
    command = [sys.executable, str(script)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, **more)


# --- signals ---

INTERRUPTED = """
import os, signal, time
from flukeprint.core.console import exit_cleanly
from flukeprint.core.replacement import replacing_folder

def work():
    with replacing_folder("out") as temporary:
        (temporary / "half").write_text("")
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)

exit_cleanly(work)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_without_a_word_and_nothing_half_written_stays(tmp_path, name, code):
    done = run(INTERRUPTED.format(name=name), tmp_path, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["program.py"]


def test_an_ignored_interrupt_stays_ignored_and_handlers_are_put_back(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        console.exit_cleanly(lambda: os.kill(os.getpid(), signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    console.exit_cleanly(lambda: None)
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("module", "slow"), [("stages.train", "torch"), ("stages.select", "pandas"), ("flukeprint.cli", "typer")]
)
def test_an_interrupt_while_modules_are_imported(tmp_path, module, slow):
    (tmp_path / f"{slow}.py").write_text("import os, time; os.kill(os.getpid(), 2); time.sleep(60)")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


SPREAD = """
import os, signal, sys, time
from flukeprint.core.console import exit_cleanly
from flukeprint.core.worker_processes import spread_map

def wait(number):
    print(os.getpid(), flush=True)
    time.sleep(0.2)

def work():
    with spread_map(2) as spread:
        for _ in spread(wait, range(500), 100):
            pass

if __name__ == "__main__":
    exit_cleanly(work)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_worker_processes_end_with_the_program_and_leave_interrupts_to_it(tmp_path, name):
    (tmp_path / "program.py").write_text(SPREAD)
    number = getattr(signal, name)
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as program:  # fmt: skip
        worker = int(program.stdout.readline())
        if number == signal.SIGINT:
            os.killpg(program.pid, number)  # as a terminal does
        else:
            program.send_signal(number)
        assert program.wait(30) == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}[name]
        deadline = time.monotonic() + 20
        while running(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not running(worker)
        if number != signal.SIGKILL:  # the system's resource tracker warns of what a killed program left
            assert program.stderr.read() == b""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- encodings ---


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["cp1252", "ascii", "C"],
)
def test_what_a_console_lacks_is_escaped(tmp_path, environment):
    code = "from flukeprint.core.console import exit_cleanly\n"
    code += "from flukeprint.core.errors import FlukeprintError\n"
    code += "def work():\n    print('鯨 \\udce9')\n    raise FlukeprintError('鯨')\n"
    done = run(code + "exit_cleanly(work)", tmp_path, environment=environment)
    assert (done.returncode, done.stdout) == (1, b"\\u9be8 \\udce9\n")
    assert done.stderr == b"error: \\u9be8\n"


def test_no_file_is_read_or_written_in_the_consoles_encoding():
    found = []
    for folder in ("flukeprint", "stages", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and opens_text(node):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def opens_text(call: ast.Call) -> bool:
    """Tell whether a call may open a text file without saying which encoding it has."""
    method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if method else getattr(call.func, "id", "")
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    of_bytes = re.search(r"'[rwax+]*b[+]*'", ast.unparse(call))
    if method and name in ("read_text", "write_text"):
        return True
    elsewhere = ast.unparse(call.func) in ("Image.open", "os.open")
    return name in ("open", "fdopen") and not of_bytes and not elsewhere


# --- an output that cannot be printed ---


@pytest.mark.parametrize("redirected", [">/dev/full", ">&-"])
@pytest.mark.parametrize("done", [True, False], ids=["done", "only printed"])
def test_what_cannot_be_printed(tmp_path, redirected, done):
    code = "import sys\nfrom flukeprint.core.console import exit_cleanly, say_done\n"
    code += "def work():\n    with open('file', 'w') as stream:\n        stream.write('whole')\n"
    code += f"    {'say_done' if done else 'print'}('text')\nexit_cleanly(work)"
    (tmp_path / "program.py").write_text(code)
    command = f"{shlex.quote(sys.executable)} program.py {redirected}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == (0 if done else 1)
    assert "could not be printed" in ended.stderr
    assert ended.stderr.startswith("It is done" if done else "error: ")
    assert ended.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "whole"


def test_with_both_outputs_closed_it_is_done_all_the_same(tmp_path):
    code = "from flukeprint.core.console import exit_cleanly, say_done\nexit_cleanly(lambda: say_done('text'))"
    (tmp_path / "program.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for redirected in (">&- 2>&-", ">&- 2>/dev/full", "<&- >/dev/full 2>/dev/full"):
        command = f"{shlex.quote(sys.executable)} program.py {redirected}"
        assert subprocess.run(command, shell=True, cwd=tmp_path, env=environment, check=False).returncode == 0


# --- dvc.lock ---


@pytest.mark.parametrize("content", ["", "\n", "schema: '2.0'\n", "schema: '2.0'\nstages:\n  a:\n    cmd: [", "\x00"])
def test_a_broken_dvc_lock_is_noticed(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    check_lock()  # there is none yet
    Path("dvc.lock").write_text(content)
    with pytest.raises(FlukeprintError, match="git checkout dvc.lock"):
        check_lock()
    Path("dvc.lock").write_text("schema: '2.0'\nstages:\n  a:\n    cmd: echo\n")
    check_lock()


def run_recipe() -> list[str]:
    return (ROOT / "Makefile").read_text().split("\nrun: ")[1].split("\n\n")[0].splitlines()[1:]


def test_make_run_looks_at_dvc_lock_first():
    assert run_recipe()[0] == "\t@python -m flukeprint.core.dvc_lock"


def test_the_command_that_make_run_prints_is_one(tmp_path, monkeypatch):
    [printed] = [line.split("/flukeprint ")[1].rstrip('"').split() for line in run_recipe() if "/flukeprint " in line]
    monkeypatch.chdir(tmp_path)
    Path("FOLDER/w_1").mkdir(parents=True)
    Path("FOLDER/w_1/1.jpg").touch()
    with pytest.raises(SystemExit, match="no bundle in models/bundle"):
        main(printed)
