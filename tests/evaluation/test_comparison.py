"""`flukeprint compare`: two runs' queries.csv."""

import json

import numpy as np
import pandas as pd
import pytest
from calibrations import calibration_of

from flukeprint.cli.main import main
from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation.leaderboard import build_leaderboard
from flukeprint.evaluation.query_table import COLUMNS, query_table, read_query_table, write_query_table
from flukeprint.metrics.arrays import weighted_mean
from flukeprint.metrics.intervals import Resampling

NUMBER = 60


@pytest.fixture
def leaderboard():
    """Return the ensemble's answers to 40 known queries of 20 individuals and 20 new ones, right two times of three."""
    rows = []
    for index in range(NUMBER):
        known = index < 40
        label = f"w_{index // 2}" if known else NEW_WHALE
        right = [label, "other"] if known else ["x", "y"]
        scores = [3.0, 1.0] if index % 3 else [1.0, 3.0]
        candidates = right if index % 3 else right[::-1]
        new_score = -1.0 if known else 4.0 * (index % 3)
        rows.append((f"{index}.jpg", label, label, "ensemble", candidates, np.sort(scores)[::-1], new_score))
    columns = ["Image", "Id", "truth", "scorer", "candidates", "scores", "new_score"]
    return build_leaderboard(pd.DataFrame(rows, columns=columns), calibration_of(), 0.325, [])


@pytest.fixture
def table(leaderboard):
    return query_table(leaderboard)


@pytest.fixture
def files(table, tmp_path):
    """Return (A, B): in B, three wrong answers to known queries are right, and one right one is wrong."""
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    write_query_table(a, table)
    changed = table.copy()
    own = changed["scorer"] == "ensemble"
    known = changed.index[own & (changed["truth"] != NEW_WHALE)]
    wrong, right = (known[changed.loc[known, "points"] < 1], known[changed.loc[known, "points"] == 1])
    changed.loc[wrong[:3], "points"] = 1.0
    changed.loc[right[0], "points"] = 0.0
    write_query_table(b, changed.iloc[::-1])  # the order of rows is of no matter
    return a, b


def compare(capsys, *arguments):
    main(["compare", *map(str, arguments)])
    return capsys.readouterr().out


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, arguments)])
    assert capsys.readouterr().out == ""
    assert str(caught.value.code).startswith("error: ")
    return str(caught.value.code)


def test_the_table_holds_every_answer(leaderboard, tmp_path):
    write_query_table(tmp_path / "queries.csv", query_table(leaderboard))
    table = pd.read_csv(tmp_path / "queries.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["scorer"].tolist() == ["all_new"] * NUMBER + ["ensemble"] * NUMBER
    own = table[table["scorer"] == "ensemble"]
    assert own["Image"].tolist() == leaderboard.queries.images
    result = leaderboard.results["ensemble"]
    for place in (1, 2, 3):
        assert own[f"label_{place}"].tolist() == [labels[place - 1] for labels in result.answers.labels]
    assert own["label_4"].isna().all()
    assert own["probability_1"].to_numpy() == pytest.approx(result.confidence, abs=1e-6)
    assert own["points"].to_numpy() == pytest.approx(np.where(result.ranks > 0, 1 / np.maximum(result.ranks, 1), 0))
    assert own["rank"].fillna(0).tolist() == result.ranks.tolist()
    assert weighted_mean(own["points"], own["weight"]) == pytest.approx(
        0.675 * own["points"][:40].mean() + 0.325 * own["points"][40:].mean()
    )


def test_two_runs_are_compared_as_the_metrics_module_does(files, table, capsys):
    found = json.loads(compare(capsys, *files, "--json"))
    order = [f"{n}.jpg" for n in range(NUMBER)]
    a, b = (pd.read_csv(file).query("scorer == 'ensemble'").set_index("Image").loc[order] for file in files)
    groups = [label if label != NEW_WHALE else image for image, label in a["Id"].items()]
    expected = Resampling(groups, a["weight"], a["truth"] == NEW_WHALE).compare(b["points"], a["points"])
    assert found["difference"]["difference"] == pytest.approx(expected.difference)
    assert found["difference"]["low"] <= expected.difference <= found["difference"]["high"]
    assert found["difference"]["p_value"] == pytest.approx(expected.p_value, abs=0.05)
    assert found["map5_b"] - found["map5_a"] == pytest.approx(expected.difference)
    assert (found["better"], found["worse"], found["same"]) == (3, 1, NUMBER - 4)
    assert (found["queries"], found["new_queries"], found["scorer"]) == (NUMBER, 20, "ensemble")


def test_names_like_formulas_and_escaped_ones_are_compared_as_they_are(table, tmp_path, capsys):
    """`=1` and `'=1` are two photos: neither is taken for the other, and messages name them as they are called."""
    names = {"0.jpg": "=1", "1.jpg": "'=1", "2.jpg": "''=1", "3.jpg": "'tis.jpg"}
    write_query_table(tmp_path / "queries.csv", table.replace(names))
    read = read_query_table(tmp_path / "queries.csv")
    assert read["Image"].tolist() == table["Image"].replace(names).tolist()
    found = json.loads(compare(capsys, tmp_path / "queries.csv", tmp_path / "queries.csv", "--json"))
    assert found["same"] == NUMBER
    write_query_table(tmp_path / "other.csv", table)
    assert "lacks: '" in error_of(capsys, tmp_path / "queries.csv", tmp_path / "other.csv")


def test_no_cell_of_the_table_runs_in_a_spreadsheet(table, tmp_path):
    hostile = '=HYPERLINK("//a")'
    write_query_table(tmp_path / "queries.csv", table.replace({"0.jpg": hostile, "w_0": "@w"}))
    cells = pd.read_csv(tmp_path / "queries.csv")
    assert "'" + hostile in cells["Image"].tolist()
    assert "'@w" in cells["truth"].tolist()
    assert not any(str(cell).startswith(("=", "+", "-", "@")) for cell in cells.astype(str).to_numpy().ravel())


def test_the_comparison_is_said_in_words(files, capsys):
    lines = compare(capsys, *files).splitlines()
    assert lines[0] == "ensemble on 60 queries, 20 of them new whales"
    assert "3 queries got better, 1 worse, 56 scored the same." in lines
    assert lines[-1] == "The difference may be chance: the interval includes 0, or p is above 0.05."
    assert compare(capsys, files[0], files[0], "--scorer", "all_new").count("0.3250") == 2


def test_a_clear_difference_is_called_one(table, files, tmp_path, capsys):
    better = tmp_path / "better.csv"
    write_query_table(better, table.assign(points=1.0))
    assert compare(capsys, files[0], better).splitlines()[-1] == "B is better, by more than chance."
    assert compare(capsys, better, files[0]).splitlines()[-1] == "B is worse, by more than chance."


def test_few_individuals_are_not_taken_for_proof(table, files, tmp_path, capsys):
    """Four gains are an interval above 0, but chance would do the same one time in eight."""
    few, more = tmp_path / "few.csv", tmp_path / "more.csv"
    rows = table[(table["scorer"] == "ensemble") & table["Image"].isin([f"{2 * n}.jpg" for n in (0, 1, 2, 3, 4, 25)])]
    write_query_table(few, rows.assign(points=0.5))
    gained = rows["Image"].isin([f"{2 * n}.jpg" for n in (0, 1, 2, 3)])
    write_query_table(more, rows.assign(points=0.5 + 0.5 * gained))
    found = json.loads(compare(capsys, few, more, "--json"))["difference"]
    assert found["low"] > 0
    assert found["p_value"] == pytest.approx(2 / 2**4, abs=0.02)
    assert "may be chance" in compare(capsys, few, more).splitlines()[-1]


def test_a_scorer_that_is_not_there_is_named(files, capsys):
    message = error_of(capsys, *files, "--scorer", "m7")
    assert f"{files[0]} has no scorer 'm7', only all_new, ensemble" in message


def test_other_queries_are_refused(table, files, tmp_path, capsys):
    fewer, other = tmp_path / "fewer.csv", tmp_path / "other.csv"
    write_query_table(fewer, table[table["Image"] != "5.jpg"])
    message = error_of(capsys, files[0], fewer)
    assert f"{files[0]} has 1 of its 60 queries that {fewer} lacks: 5.jpg. Only the same queries" in message
    assert f"{files[0]} has 1 of its 60 queries" in error_of(capsys, fewer, files[0])
    write_query_table(other, table.assign(truth=table["truth"].replace("w_3", "w_4")))
    assert f"truth of 6.jpg is w_3 in {files[0]} and w_4 in {other}; 2 queries differ" in error_of(
        capsys, files[0], other
    )


def test_another_declared_share_is_refused(table, files, tmp_path, capsys):
    write_query_table(tmp_path / "other.csv", table.assign(weight=1.0))
    message = error_of(capsys, files[0], tmp_path / "other.csv")
    assert "other shares of new whales. Set evaluate.new_share to the same value" in message


def last_cell(value):
    """Return the change that puts another value into the last cell of the file, a weight."""
    return lambda text: f"{text.rstrip().rpartition(',')[0]},{value}\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:0], "the file is empty"),
        (lambda text: text.replace("points", "score", 1), "row 1: the header is"),
        (lambda text: text + "a,b\n", "row 122: 2 cells (a,b), expected 17"),
        (lambda text: text.replace("ensemble,0.jpg,w_0", "ensemble,1.jpg,w_0", 1), "names the query 1.jpg twice"),
        (lambda text: text.replace("ensemble,0.jpg", "ensemble,", 1), "row 62: the cell Image is empty"),
        (last_cell("heavy"), "row 121: weight is 'heavy', expected a number"),
        (last_cell("-1"), "row 121: weight is '-1', expected a number >= 0"),
        (last_cell("nan"), "row 121: weight is 'nan', expected a number >= 0"),
    ],
)
def test_a_malformed_file_ends_in_one_message(files, tmp_path, capsys, change, says):
    broken = tmp_path / "broken.csv"
    broken.write_text(change(files[0].read_text()))
    assert says in error_of(capsys, files[0], broken)


def test_a_missing_file_is_named(files, tmp_path, capsys):
    assert f"{tmp_path / 'none.csv'} is missing" in error_of(capsys, files[0], tmp_path / "none.csv")
