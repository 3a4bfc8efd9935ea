import gc
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quality_folder import Folder, texture

from flukeprint.cli.main import main
from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import write_parquet
from flukeprint.core.paths import BOXES
from flukeprint.data.fluke_boxes import found_table
from stages import validate

ROOT = Path(__file__).parents[2]
MEASURED = ["width", "height", "mode", "bytes", "sha256", "phash", "cluster"]
TABLES = [Path("data/validated/train.parquet"), Path("data/validated/test.parquet")]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose data/raw is the tiny folder."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        write_parquet(BOXES / f"{part}.parquet", found_table([], np.zeros((0, 6))))
    return Folder.make(tmp_path / "data" / "raw")


@pytest.fixture(autouse=True)
def frozen(monkeypatch):
    """What a run leaves to the end of its process; this process goes on, so nothing is frozen."""
    calls = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(gc.isenabled()))
    return calls


def files():
    inputs = (Path("data/raw"), BOXES)
    paths = (path for path in Path().rglob("*") if path.is_file() and not any(map(path.is_relative_to, inputs)))
    return sorted(map(str, paths))


def test_what_passes_becomes_tables_a_report_and_counts(project, caplog):
    project.save("train/copy.jpg", texture(0), quality=60)
    project.add_row("copy.jpg,w_b")
    Path("data/exclusions.csv").write_text("Image,reason\nt11.jpg,a ship\n")
    validate.main()
    first = [path.read_bytes() for path in TABLES]
    train, test = (pd.read_parquet(path) for path in TABLES)
    assert list(train.columns[:9]) == ["Image", "Id", *MEASURED]
    assert list(test.columns) == [name for name in train.columns if name != "Id"]
    assert train["Image"].tolist() == [*(f"t{number:02}.jpg" for number in range(11)), "copy.jpg"]
    assert train["cluster"].tolist() == [*range(11), 0]
    assert train["phash"].dtype == "uint64"
    metrics = json.loads(Path("metrics/data_quality.json").read_text())
    assert metrics["rules"]["conflicting_labels"] == metrics["conflicting_clusters"] == 1
    assert metrics["excluded_rows"] == 1
    assert "excluded t11.jpg (1 row(s)): a ship" in caplog.text
    assert "t00.jpg (row 2, w_a), copy.jpg (row 14, w_b)" in caplog.text
    assert "reports/data_quality/index.html" in files()
    validate.main()
    assert [path.read_bytes() for path in TABLES] == first


def test_a_photo_without_a_fluke_is_a_warning_and_stays(project, caplog):
    found = np.array([[0, 0, 1, 1, 0.49, 0.1], [0, 0, 1, 1, 0.99, 0.99]])
    write_parquet(BOXES / "train.parquet", found_table(["t01.jpg", "t02.jpg"], found))
    validate.main()
    assert "no fluke was found in train/t01.jpg: confidence 0.49, expected 0.5" in caplog.text
    assert "the fluke of train/t02.jpg seems to stand upside down" in caplog.text
    assert len(pd.read_parquet(TABLES[0])) == 12
    rules = json.loads(Path("metrics/data_quality.json").read_text())["rules"]
    assert (rules["photo_fluke"], rules["photo_upside_down"]) == (1, 1)


def test_an_error_stops_with_code_1_and_leaves_a_report_but_no_tables(project, capsys):
    validate.main()
    (project.path / "train/t03.jpg").write_bytes(b"not a photo")
    with pytest.raises(SystemExit) as ended:
        exit_cleanly(validate.main)
    assert str(ended.value.code).startswith("error: data/raw does not pass 1 rule(s)")
    assert "train.csv row 5: train/t03.jpg: not an image" in str(ended.value.code)
    assert files() == [
        "metrics/data_quality.json",
        "params.yaml",
        "reports/data_quality/findings.csv",
        "reports/data_quality/index.html",
    ]


def run(*arguments):
    main(["quality", *map(str, arguments)])


def test_the_command_checks_a_folder_alone(project, capsys, tmp_path):
    project.save("train/more.jpg", texture(50))
    run(project.path, "--json", "out.json", "--report", "page", "--workers", 1)
    printed = capsys.readouterr().out
    assert "warning photo_unlisted: 1 case." in printed
    assert "passes, with 1 warning." in printed
    assert json.loads(Path("out.json").read_text())["warnings"] == 1
    assert (tmp_path / "page" / "index.html").is_file()
    assert not Path("data/validated").exists()


def test_garbage_collection_is_off_while_a_process_checks_and_on_again_after_errors(project, frozen):
    (project.path / "train/t03.jpg").unlink()
    with pytest.raises(SystemExit):
        run(project.path)
    assert frozen == [False]
    assert gc.isenabled()


def test_the_command_ends_with_code_1_on_errors(project):
    (project.path / "train/t03.jpg").unlink()
    with pytest.raises(SystemExit, match=r"t03\.jpg is missing"):
        run(project.path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder 'nowhere'"),
        (["data/raw", "--exclusions", "none.csv"], "is not a file"),
        (["data/raw", "--json", "data"], "is a folder"),
        (["data/raw", "--report", "data"], "holds other files than a report"),
    ],
)
def test_the_command_refuses_before_any_work(project, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(*arguments)
