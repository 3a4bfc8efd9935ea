"""`flukeprint quality`: its outputs and refusals; tests/quality tests the rules."""

import gc
import json
import subprocess
from pathlib import Path

import pytest
from quality_folder import Folder

from flukeprint.cli.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # this process goes on
    params = (ROOT / "params.yaml").read_text()
    Path("rules.yaml").write_text(params.replace("threshold: 15", "threshold: 3"))
    return Folder.make(tmp_path / "photos")


def test_counts_and_a_page_are_written_where_they_are_asked_for(folder, capsys):
    options = ["--params", "rules.yaml", "--workers", "1", "--json", "out/counts.json", "--report", "page"]
    main(["quality", "photos", *options])
    assert capsys.readouterr().out.splitlines()[-1] == "photos passes, with 0 warnings."
    assert json.loads(Path("out/counts.json").read_text())["warnings"] == 0
    assert sorted(path.name for path in Path("page").iterdir()) == ["findings.csv", "index.html"]
    main(["quality", "photos", *options])  # a report replaces a report


def test_a_rule_that_fails_ends_with_code_1_and_the_page_all_the_same(folder):
    (folder.path / "train/t03.jpg").unlink()
    with pytest.raises(
        SystemExit, match=r"error: photos does not pass(.|\n)*t03\.jpg is missing(.|\n)*page/index\.html"
    ):
        main(["quality", "photos", "--params", "rules.yaml", "--report", "page"])
    assert Path("page/index.html").is_file()


def test_what_would_be_lost_or_cannot_be_is_refused_before_any_work(folder, stub):
    calls = stub("flukeprint.quality.check.check_folder", None)
    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    for arguments, message in (
        (["nowhere"], "there is no folder 'nowhere'"),
        (["photos", "--exclusions", "none.csv"], "is not a file"),
        (["photos", "--json", "mine"], "--json mine is a folder"),
        (["photos", "--report", "mine"], "mine holds other files than a report"),
        (["photos", "--report", "rules.yaml"], "rules.yaml holds other files than a report"),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            main(["quality", *arguments])
    assert calls == []


@pytest.mark.parametrize("name", ["a b", "it's", 'a "b"', "data/raw"])
def test_make_hands_on_a_folder_of_any_name(tmp_path, name):
    (tmp_path / ".ready").touch()  # an environment, whose python prints what it is given
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    command = ["make", "--silent", "quality", f"FOLDER={name}", f"VENV={tmp_path}", f"BIN={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["-m", "flukeprint.cli", "quality", name]
