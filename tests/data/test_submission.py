"""Submissions: every malformed file is refused by row; what is legal is scored; what is written is complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.submission import (
    check_submission,
    read_submission,
    read_truth,
    score_submission,
    summarise,
    write_submission,
)

GOOD = "Image,Id\n1.jpg,new_whale w_1 w_2 w_3 w_4\n2.jpg,w_2\n"


def _file(folder: Path, text: str | bytes, name: str = "submission.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _frame(rows: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"Image": list(rows), "Id": list(rows.values())})


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD,  # a byte order mark
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip("\n"),
        GOOD + "\n\n",
        GOOD.replace("w_2\n", '"w_2"\n'),
    ],
)
def test_a_good_file_is_read(tmp_path: Path, text: str) -> None:
    frame = read_submission(_file(tmp_path, text))
    assert frame["Image"].tolist() == ["1.jpg", "2.jpg"]
    assert frame["Id"].tolist() == ["new_whale w_1 w_2 w_3 w_4", "w_2"]
    assert frame["csv_line"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "submission.csv row 1: the file is empty, expected 'Image,Id'"),
        ("\ufeff", "submission.csv row 1: the file is empty, expected 'Image,Id'"),
        ("\n\n", "submission.csv row 1: the file is empty, expected 'Image,Id'"),
        ("Image,Id\n", "no rows below its header"),
        ("Image,Label\n1.jpg,w_1\n", "the header is 'Image,Label', expected 'Image,Id'"),
        ("Image\n1.jpg\n", "the header is 'Image', expected"),
        ("Image,Id,Score\n1.jpg,w_1,1\n", "the header is 'Image,Id,Score'"),
        ("1.jpg,w_1\n", "the header is '1.jpg,w_1'"),
        (GOOD + "3.jpg\n", "row 4: 1 cell"),
        (GOOD + "3.jpg,w_1,w_2\n", "row 4: 3 cells"),
        (GOOD + "3.jpg,w_1  w_2\n", "row 4: the Id of 3.jpg is 'w_1  w_2': two blanks in a row makes an empty label"),
        (GOOD + "3.jpg, w_1\n", "row 4: the Id of 3.jpg is ' w_1': a blank at an end"),
        (GOOD + "3.jpg,w_1 \n", "row 4: the Id of 3.jpg is 'w_1 ': a blank at an end"),
        (GOOD + "3.jpg,a b c d e f\n", "row 4: .* 6 labels, of which only 5 are scored. Write one to 5 labels"),
        (GOOD + "3.jpg,w_1\tw_2\n", r"row 4: .*'w_1\\tw_2': white space other than a blank"),
        (GOOD + "3.jpg,w_1\u00a0w_2\n", "row 4: .* white space other than a blank"),
        (GOOD + "3.jpg,\n", "row 4: the Id of 3.jpg is '', which holds no label"),
        (GOOD + "3.jpg,  \n", "row 4: the Id of 3.jpg is '  ', which holds no label"),
        (GOOD + ",w_1\n", "row 4: the cell Image is empty"),
        (GOOD + "1.jpg,w_1\n", "row 4: 1.jpg stands in row 2 already"),
        (GOOD + "1.jpg,w_1\n2.jpg,w_1\n", r"row 4: 1.jpg .* \(2 such rows in the file\)"),
        (GOOD + "3.jpg,a  b\n4.jpg,a  b\n", r"row 4: .* \(2 such rows in the file\)"),
        (GOOD.encode("utf-16"), "text in UTF-16"),
        (GOOD.encode() + b"3.jpg,\xff\n", "row 4: not UTF-8"),
    ],
)
def test_a_malformed_file_is_refused_by_row(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(FlukeprintError, match=message) as caught:
        read_submission(path)
    assert str(path) in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FlukeprintError, match=r"nothing\.csv is missing"):
        read_submission(tmp_path / "nothing.csv")
    with pytest.raises(FlukeprintError, match="not a regular file"):
        read_submission(tmp_path)


@pytest.mark.parametrize("labels", ["w_1 w_2", "", "w_1 "])
def test_a_truth_has_one_label(tmp_path: Path, labels: str) -> None:
    path = _file(tmp_path, f"Image,Id\n1.jpg,w_1\n2.jpg,{labels}\n", "truth.csv")
    with pytest.raises(FlukeprintError, match=r"truth\.csv row 3: the Id of 2\.jpg is .*expected one label"):
        read_truth(path)


def test_missing_and_extra_photos_are_named(tmp_path: Path) -> None:
    submission = read_submission(_file(tmp_path, GOOD))
    check_submission(submission, ["2.jpg", "1.jpg"])
    expected = r"submission\.csv has no row for 4 of the 6 photos of the sample submission: 3, 4, 5, \.\.\."
    with pytest.raises(FlukeprintError, match=expected):
        check_submission(submission, ["1.jpg", "2.jpg", "3", "4", "5", "6"])
    with pytest.raises(FlukeprintError, match=r"submission\.csv row 3: 2\.jpg is not a photo of the sample submission"):
        check_submission(submission, ["1.jpg"])
    with pytest.raises(FlukeprintError, match=r"the table's row 1: 2\.jpg is not a photo of the truth"):
        score_submission(_frame({"1.jpg": "a", "2.jpg": "b"}), _frame({"1.jpg": "a"}))


def test_scores_by_hand() -> None:
    truth = _frame({"1": "a", "2": "a", "3": "a", "4": "new_whale", "5": "a"})
    submission = _frame({"5": "c", "4": "b new_whale", "3": "b b a", "2": "a a a a a", "1": "b c d e a"})
    scored = score_submission(submission, truth)
    assert scored["Image"].tolist() == ["1", "2", "3", "4", "5"]
    assert scored["truth"].tolist() == ["a", "a", "a", "new_whale", "a"]
    assert scored["rank"].tolist()[:4] == [5, 1, 3, 2]
    assert scored["rank"].isna().tolist() == [False] * 4 + [True]
    assert scored["score"].tolist() == pytest.approx([1 / 5, 1, 1 / 3, 1 / 2, 0])
    summary = summarise(scored)
    assert summary["all"] == pytest.approx(
        {"photos": 5, "map5": (1 / 5 + 1 + 1 / 3 + 1 / 2) / 5, "top1": 0.2, "top5": 0.8}
    )
    assert summary["new"] == pytest.approx({"photos": 1, "map5": 0.5, "top1": 0, "top5": 1})
    assert summary["known"]["photos"] == 4
    assert set(summarise(scored[:3])) == {"all", "known"}


def test_a_sixth_label_of_an_unchecked_table_is_not_scored() -> None:
    assert score_submission(_frame({"1": "b c d e f a"}), _frame({"1": "a"}))["score"].tolist() == [0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.permutations(["a", "b", "c", "d", "new_whale", "e"]), min_size=1, max_size=8), st.data())
def test_what_is_written_is_read_and_scored(
    tmp_path_factory: pytest.TempPathFactory, orders: list[list[str]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("written") / "submission.csv"
    ranked = [order[:5] for order in orders]
    images = data.draw(st.permutations([f"{number}.jpg" for number in range(len(ranked))]))
    write_submission(path, images, ranked)
    frame = read_submission(path)
    assert frame["Image"].tolist() == images
    assert [text.split(" ") for text in frame["Id"]] == ranked
    truth = pd.DataFrame({"Image": images, "Id": [labels[2] for labels in ranked]})
    assert score_submission(frame, truth)["score"].tolist() == pytest.approx([1 / 3] * len(ranked))


def test_the_bytes_of_a_written_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "submission.csv"
    write_submission(path, ["b.jpg", "a.jpg"], np.array([list("vwxyz"), list("zyxwv")]))
    assert path.read_bytes() == b"Image,Id\nb.jpg,v w x y z\na.jpg,z y x w v\n"


@pytest.mark.parametrize(
    ("images", "ranked", "message"),
    [
        (["1"], [list("abcd")], "the labels of 1 are"),
        (["1"], [list("abcdef")], "expected 5 distinct ones"),
        (["1"], [list("abcda")], "expected 5 distinct ones"),
        (["1"], [["a", "b", "c", "d", ""]], "without white space"),
        (["1"], [["a", "b", "c", "d", "e f"]], "without white space"),
        (["1", "2"], [list("abcde")], "2 photos but 1 lists"),
        (["1", "1"], [list("abcde")] * 2, "a photo is named twice"),
    ],
)
def test_a_wrong_submission_is_not_written(
    tmp_path: Path, images: list[str], ranked: list[list[str]], message: str
) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("before")
    with pytest.raises(FlukeprintError, match=message):
        write_submission(path, images, ranked)
    assert [file.name for file in tmp_path.iterdir()] == ["submission.csv"]
    assert path.read_text() == "before"
