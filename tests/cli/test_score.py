"""`flukeprint score`: its output in three forms, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from flukeprint.cli.main import main

SUBMISSION = "Image,Id\n1.jpg,w_1 w_2\n2.jpg,w_2 new_whale\n3.jpg,w_3 w_2 w_1\n4.jpg,new_whale\n"
TRUTH = "Image,Id\n4.jpg,w_9\n3.jpg,w_1\n2.jpg,new_whale\n1.jpg,w_1\n"
MAP5 = (1 + 1 / 2 + 1 / 3 + 0) / 4


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    names = tmp_path / "submission.csv", tmp_path / "truth.csv"
    for path, text in zip(names, (SUBMISSION, TRUTH), strict=True):
        path.write_text(text)
    return str(names[0]), str(names[1])


def test_the_score_is_printed(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["score", *files])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["photos", "MAP@5", "top-1", "top-5"],
        ["all", "4", f"{MAP5:.5f}", "0.25000", "0.75000"],
        ["known", "3", f"{(1 + 1 / 3) / 3:.5f}", "0.33333", "0.66667"],
        ["new", "1", "0.50000", "0.00000", "1.00000"],
    ]
    assert len({len(line) for line in lines}) == 1  # columns are flush right


def test_the_score_as_json(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["score", *files, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["all"] == pytest.approx({"photos": 4, "map5": MAP5, "top1": 0.25, "top5": 0.75})
    assert list(found) == ["all", "known", "new"]


def test_scores_per_photo(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "photos.csv"
    main(["score", *files, "--per-photo", str(path)])
    assert path.read_text().splitlines()[:4] == [
        "Image,truth,rank,score",
        "4.jpg,w_9,,0.0",
        "3.jpg,w_1,3,0.3333333333333333",
        "2.jpg,new_whale,2,0.5",
    ]
    assert pd.read_csv(path)["score"].mean() == pytest.approx(MAP5)
    assert f"{MAP5:.5f}" in capsys.readouterr().out


def test_no_spreadsheet_runs_a_cell_of_the_scores_per_photo(tmp_path: Path) -> None:
    table = tmp_path / "hostile.csv"
    table.write_text("Image,Id\n=1+1.jpg,@w\n")
    main(["score", str(table), str(table), "--per-photo", str(tmp_path / "photos.csv")])
    assert (tmp_path / "photos.csv").read_text().splitlines()[1] == "'=1+1.jpg,'@w,1,1.0"


def _error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["score", *arguments])
    assert capsys.readouterr().out == ""
    return str(caught.value.code)


def test_a_malformed_submission_ends_in_one_message(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files[0]).write_text(SUBMISSION.replace("w_1 w_2\n", "w_1  w_2\n"))
    message = _error_of([*files, "--per-photo", str(tmp_path / "photos.csv")], capsys)
    assert message.startswith(f"error: {files[0]} row 2: the Id of 1.jpg is 'w_1  w_2'")
    assert not (tmp_path / "photos.csv").exists()


def test_tables_of_other_photos_end_in_one_message(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(files[1]).write_text(TRUTH + "5.jpg,w_1\n")
    message = _error_of([*files], capsys)
    assert f"{files[0]} has no row for 1 of the 5 photos of {files[1]}: 5.jpg" in message


def test_an_output_that_cannot_be_is_refused(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is a folder" in _error_of([*files, "--per-photo", str(tmp_path)], capsys)
    assert "Choose another name" in _error_of([*files, "--per-photo", files[1]], capsys)
    assert "cannot be written" in _error_of([*files, "--per-photo", f"{files[1]}/photos.csv"], capsys)
    assert Path(files[1]).read_text() == TRUTH
