"""The leaderboard and its figures on hand-made queries, against flukeprint.metrics and by arithmetic."""

import numpy as np
import pandas as pd
import pytest
from calibrations import calibration_of, open_set

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation import report_words as words
from flukeprint.evaluation.breakdowns import as_metrics, break_down, figures_of
from flukeprint.evaluation.curves import all_curves, curves_of, write_curves
from flukeprint.evaluation.examples import choose_examples
from flukeprint.evaluation.figures import class_map, counts, evaluate
from flukeprint.evaluation.leaderboard import build_leaderboard
from flukeprint.metrics.intervals import Resampling
from flukeprint.scoring.registry import SCORERS, in_order

# Photo, individual, right answer: four known queries of three individuals, three new ones.
QUERIES = [
    ("1.jpg", "a", "a"),
    ("2.jpg", "a", "a"),
    ("3.jpg", "b", "b"),
    ("4.jpg", "c", "c"),
    ("5.jpg", "held", NEW_WHALE),
    ("6.jpg", NEW_WHALE, NEW_WHALE),
    ("7.jpg", NEW_WHALE, NEW_WHALE),
]
# One scorer's candidates with scores, and its score for new_whale. Answers as an ordinary class:
# a first; b before a; new before b; c missing; new first; d before new; d before new.
ANSWERS = [
    ([("a", 5.0), ("b", 1.0)], 0.0),
    ([("b", 5.0), ("a", 4.0)], 0.0),
    ([("b", 1.0), ("d", 0.0)], 2.0),
    ([("a", 3.0), ("b", 2.0)], 1.0),
    ([("d", 1.0), ("a", 0.0)], 4.0),
    ([("d", 3.0), ("a", 0.0)], 2.0),
    ([("d", 9.0), ("a", 0.0)], 2.0),
]
POINTS = [1, 1 / 2, 1 / 2, 0, 1, 1 / 2, 1 / 2]
SHARE = 0.4


def rows_of(scorer, answers=None, queries=None):
    answers = ANSWERS if answers is None else answers
    rows = []
    for (image, label, truth), (candidates, new_score) in zip(queries or QUERIES, answers, strict=True):
        names, scores = [name for name, _ in candidates], [score for _, score in candidates]
        rows.append((image, label, "query", truth, scorer, names, np.array(scores, np.float32), new_score))
    columns = ["Image", "Id", "split", "truth", "scorer", "candidates", "scores", "new_score"]
    return pd.DataFrame(rows, columns=columns)


def without_candidates():
    return rows_of("duplicates", [([], np.nan)] * 7)


@pytest.fixture
def leaderboard():
    knn = rows_of("pretrained_knn", [([("a", 1.0), ("b", 0.5)], np.nan)] * 7)
    table = pd.concat([without_candidates(), knn, rows_of("m1"), rows_of("ensemble")], ignore_index=True)
    # Always new first: its logit is far above the others'.
    sure_of_new = open_set(1.0, -50.0, 50.0, None)
    calibration = calibration_of(scorers={"ensemble": sure_of_new, "duplicates": sure_of_new})
    return build_leaderboard(table, calibration, SHARE, ["m1"])


def test_results_stand_in_the_order_of_the_leaderboard(leaderboard):
    names = ["all_new", "duplicates", "pretrained_knn", "m1", "ensemble", "ensemble_class"]
    assert list(leaderboard.results) == names
    assert [result.name for result in leaderboard.main] == [name for name in names if name != "m1"]
    assert (leaderboard.top.name, leaderboard.calibrated) == ("ensemble", True)
    assert in_order(reversed(names)) == names


def test_every_curve_belongs_to_a_scorer_of_the_registry():
    assert {curve for scorer in SCORERS for curve in scorer.curves} == set(words.CURVES) - {"roc"}
    assert {scorer.name for scorer in SCORERS if scorer.breakdown} <= {scorer.name for scorer in SCORERS}


def test_a_decision_is_used_where_there_is_one(leaderboard):
    assert {labels[0] for labels in leaderboard.results["ensemble"].answers.labels} == {NEW_WHALE}
    assert leaderboard.results["m1"].points.tolist() == pytest.approx(POINTS)
    assert leaderboard.results["ensemble_class"].points.tolist() == pytest.approx(POINTS)
    assert leaderboard.results["ensemble_class"].candidates == leaderboard.results["ensemble"].candidates
    undecided = build_leaderboard(rows_of("ensemble"), calibration_of(), SHARE, [])
    assert list(undecided.results) == ["all_new", "ensemble"]
    assert not undecided.calibrated


def test_scorers_that_answered_other_queries_are_refused():
    other = rows_of("m1").iloc[::-1]
    with pytest.raises(FlukeprintError, match=r"asks m1 7 queries and ensemble 7, and they are not the same"):
        build_leaderboard(pd.concat([other, rows_of("ensemble")]), calibration_of(), SHARE, ["m1"])


def test_photos_of_new_whale_are_individuals_of_their_own(leaderboard):
    assert len(set(leaderboard.queries.groups)) == 3 + 1 + 2
    assert counts(leaderboard.queries) == {
        "queries": 7,
        "known_queries": 4,
        "new_queries": 3,
        "known_individuals": 3,
        "held_out_queries": 1,
        "new_whale_queries": 2,
        "held_out_individuals": 1,
    }


def test_figures_by_hand(leaderboard):
    figures = evaluate(leaderboard, resamples=200)
    m1 = figures["m1"]
    assert m1["map5_plain"] == pytest.approx(sum(POINTS) / 7, abs=1e-6)
    assert m1["map5"] == pytest.approx(0.6 * sum(POINTS[:4]) / 4 + 0.4 * sum(POINTS[4:]) / 3, abs=1e-6)
    assert m1["top1"] == pytest.approx(2 / 7, abs=1e-6)
    assert (m1["known_top1"], m1["known_top5"]) == (0.25, 0.75)
    assert m1["new_top1"] == pytest.approx(1 / 3, abs=1e-6)
    # Individuals only: a first, a second, b first, c missing.
    assert (m1["cmc1"], m1["cmc5"], m1["cmc10"]) == (0.5, 0.75, 0.75)
    # Scores of a: 5 and 4 for its own photos, 3 for c's. Of b: 4, 2, then 1 for its own and one other. None of c.
    assert m1["class_map"] == pytest.approx((1 + 1 / 4 + 0) / 3, abs=1e-6)
    assert m1["baks"] == pytest.approx((1 / 2 + 0 + 0) / 3, abs=1e-6)
    assert m1["baus"] == pytest.approx((1 + 0 + 0) / 3, abs=1e-6)


def test_the_two_kinds_of_new_whales_are_told_apart(leaderboard):
    """Of the new queries the first shows an individual that was held out; two are labelled new_whale."""
    m1 = evaluate(leaderboard, resamples=200)["m1"]
    new = leaderboard.results["m1"].answers.new_probability
    for kind, rows in (("held_out", [4]), ("new_whale", [5, 6])):
        points = np.array(POINTS)[rows]
        assert m1[f"new_top1_{kind}"] == m1[f"baus_{kind}"] == np.mean(points == 1)
        assert m1[f"map5_{kind}"] == pytest.approx(0.6 * sum(POINTS[:4]) / 4 + 0.4 * points.mean(), abs=1e-6)
        wins = [float(known < other) + (known == other) / 2 for known in new[:4] for other in new[rows]]
        assert m1[f"auroc_{kind}"] == pytest.approx(np.mean(wins), abs=1e-6)
    of_kind = {name.removesuffix("_held_out") for name in m1 if name.endswith("_held_out")}
    assert of_kind == {name.removesuffix("_new_whale") for name in m1 if name.endswith("_new_whale")}
    assert of_kind >= {"eer", "fpr_at_95_tpr", "tar_at_1e-2_far", "tar_at_1e-3_far", "geometric_mean"}


def test_all_new_scores_exactly_the_declared_share(leaderboard):
    figures = evaluate(leaderboard, resamples=200)
    assert figures["all_new"]["map5"] == figures["all_new"]["map5_low"] == figures["all_new"]["map5_high"] == SHARE
    assert figures["all_new"]["known_top5"] == 0
    assert "auroc" not in figures["all_new"]
    assert not {"cmc1", "class_map"} & set(figures["all_new"])


def test_intervals_and_gains_are_those_of_the_metrics_module(leaderboard):
    figures = evaluate(leaderboard, resamples=300)
    queries = leaderboard.queries
    draws = Resampling(queries.groups, queries.weights, queries.is_new, resamples=300)
    result, reference = leaderboard.results["m1"], leaderboard.results["duplicates"]
    alone = draws.interval(result.points)
    assert (figures["m1"]["map5_low"], figures["m1"]["map5_high"]) == pytest.approx((alone.low, alone.high), abs=1e-6)
    both = draws.compare(result.points, reference.points)
    found = [figures["m1"][key] for key in ("gain", "gain_low", "gain_high", "gain_p")]
    assert found == pytest.approx([both.difference, both.low, both.high, both.p_value], abs=1e-6)
    assert "gain" not in figures["duplicates"]
    assert figures["all_new"]["gain"] == 0


def test_open_set_figures_use_the_probability_of_new(leaderboard):
    figures = evaluate(leaderboard, resamples=200)
    new = leaderboard.results["m1"].answers.new_probability
    is_new = leaderboard.queries.is_new
    pairs = [(known, other) for known in new[~is_new] for other in new[is_new]]
    wins = sum((known < other) + (known == other) / 2 for known, other in pairs)
    assert figures["m1"]["auroc"] == pytest.approx(wins / len(pairs), abs=1e-6)
    assert figures["duplicates"]["auroc"] == 0.5  # the same for every photo


def test_class_map_compares_the_scores_of_all_known_queries():
    """By hand: for a, the queries in order of a's score are a, b, a; for b they are a, b."""
    queries = [("1.jpg", "a", "a"), ("2.jpg", "b", "b"), ("3.jpg", "a", "a"), ("4.jpg", "n", NEW_WHALE)]
    answers = [([("a", 9.0), ("b", 8.0)], 0.0), ([("a", 5.0), ("b", 4.0)], 0.0), ([("x", 6.0), ("a", 1.0)], 0.0)]
    rows = rows_of("ensemble", [*answers, ([("a", 7.0)], 0.0)], queries)
    result = build_leaderboard(rows, calibration_of(), SHARE, []).top
    assert class_map(result, result.candidates) == pytest.approx(((1 / 2 * 1 + 1 / 2 * 2 / 3) + 1 / 2) / 2)


def test_one_kind_of_queries_gives_the_figures_that_it_can():
    known = build_leaderboard(rows_of("ensemble", ANSWERS[:4], QUERIES[:4]), calibration_of(), SHARE, [])
    figures = evaluate(known, resamples=200)["ensemble"]
    assert {"map5_plain", "known_top1", "cmc1", "class_map", "ece"} <= set(figures)
    assert not {"map5", "new_top1", "auroc", "baks", "gain"} & set(figures)
    assert set(curves_of(known.results["ensemble"])) == {"cmc", "precision_recall", "reliability"}
    new = build_leaderboard(rows_of("ensemble", ANSWERS[4:], QUERIES[4:]), calibration_of(), SHARE, [])
    assert set(evaluate(new, resamples=200)["ensemble"]) == {
        "map5_plain", "top1", "new_top1", "new_top1_held_out", "new_top1_new_whale", "ece"
    }  # fmt: skip
    assert set(curves_of(new.results["ensemble"])) == {"reliability"}


# --- curves ---


def test_accepted_identifications_by_hand(leaderboard):
    """Each answer's best individual, most probable first: m1 is right on queries 1 and 3 of the four known ones."""
    result = leaderboard.results["m1"]
    points = curves_of(result)["precision_recall"]
    best = [max((p, x) for x, p in zip(*row, strict=True) if x != NEW_WHALE) for row in _answers(result)]
    for point in points:
        accepted = [
            label == truth
            for (value, label), truth in zip(best, leaderboard.queries.truth, strict=True)
            if value >= point["probability"] - 1e-6
        ]
        assert point["precision"] == pytest.approx(np.mean(accepted), abs=1e-6)
        assert point["recall"] == pytest.approx(sum(accepted) / 4, abs=1e-6)
    assert points[-1]["recall"] == 0.5
    assert points[-1]["precision"] == pytest.approx(2 / 7, abs=1e-6)


def _answers(result):
    return zip(result.answers.labels, result.answers.probabilities, strict=True)


def test_curves_go_through_the_figures(leaderboard):
    figures, curves = evaluate(leaderboard, resamples=200), all_curves(leaderboard)
    assert "m1" not in curves
    for name, found in curves.items():
        at = {point["share"]: point["map5"] for point in found["new_share"]}
        assert at[SHARE] == figures[name]["map5"]
        assert min(at) == 0.1
        assert max(at) == 0.6
        assert sum(point["queries"] for point in found["reliability"]) == 7
        assert all(found.values())
    assert "precision_recall" not in curves["duplicates"]  # none of its answers names an individual
    cmc = [point["identified"] for point in curves["ensemble"]["cmc"]]
    assert (cmc[0], cmc[4], cmc[9], len(cmc)) == (*(figures["ensemble"][f"cmc{k}"] for k in (1, 5, 10)), 20)


def test_long_curves_are_thinned_to_their_ends():
    number = 900
    queries = [(f"{n}.jpg", "a", "a") for n in range(number)]
    answers = [([("a" if n % 3 else "b", 1 + n / number)], 0.0) for n in range(number)]
    points = curves_of(build_leaderboard(rows_of("ensemble", answers, queries), calibration_of(), SHARE, []).top)[
        "precision_recall"
    ]
    assert len(points) == 200
    assert points[-1]["recall"] == pytest.approx(600 / number)
    assert points[0]["probability"] > points[1]["probability"]


def test_curves_of_results_that_are_gone_are_gone(leaderboard, tmp_path):
    curves = all_curves(leaderboard)
    write_curves(tmp_path / "curves", curves, {})
    assert (tmp_path / "curves/cmc/ensemble_class.json").exists()
    write_curves(tmp_path / "curves", {"ensemble": curves["ensemble"]}, {})
    assert [path.name for path in (tmp_path / "curves/cmc").iterdir()] == ["ensemble.json"]


# --- breakdowns ---


@pytest.fixture
def breakdowns(leaderboard):
    photos = pd.DataFrame(
        {
            "Image": [f"{n}.jpg" for n in range(1, 12)],
            "width": [90, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300],
            "height": [200, 150, 150, 150, 150, 150, 150, 150, 150, 150, 150],
            "mode": ["L", "RGB", "RGB", "LA", "I;16", "RGBA", "P", "RGB", "RGB", "RGB", "RGB"],
            "cluster": [1, 1, 2, 3, 4, 5, 6, 2, 7, 8, 9],
        }
    )
    gallery = pd.DataFrame({"Image": ["8.jpg", "9.jpg", "10.jpg", "11.jpg"], "Id": ["a", "a", "b", NEW_WHALE]})
    return {breakdown.key: breakdown for breakdown in break_down(leaderboard.queries, photos, gallery)}


def rows_by_group(breakdown):
    return {name: (np.flatnonzero(rows) + 1).tolist() for name, rows in breakdown.groups.items()}


def test_queries_are_grouped_by_photo_and_individual(breakdowns):
    assert rows_by_group(breakdowns["photos_per_id"]) == {"1": [3], "2": [1, 2]}  # c has none, new whales neither
    assert rows_by_group(breakdowns["colour"]) == {"grey": [1, 4, 5], "colour": [2, 3, 6, 7]}
    assert rows_by_group(breakdowns["shorter_side"]) == {"under 100 px": [1], "100-199 px": [2, 3, 4, 5, 6, 7]}
    assert rows_by_group(breakdowns["near_duplicates"]) == {
        "none": [4, 5, 6, 7],
        "some, not trained on": [1, 2],
        "some, trained on": [3],
    }


def test_figures_of_a_group_are_those_of_its_queries_alone(leaderboard, breakdowns):
    result = leaderboard.results["ensemble_class"]
    grey = breakdowns["colour"].groups["grey"]
    assert figures_of(result, grey) == {
        "known_top1": 0.5,
        "known_top5": 0.5,
        "new_top1": 1.0,
        "new_top1_held_out": 1.0,
        "map5": pytest.approx(0.6 * 0.5 + 0.4),
    }
    assert set(figures_of(result, breakdowns["photos_per_id"].groups["1"])) == {"known_top1", "known_top5"}


def test_breakdowns_name_how_many_queries_they_rest_on(leaderboard, breakdowns):
    found = as_metrics(leaderboard, list(breakdowns.values()))
    assert found["colour"]["grey"]["queries"] == 3
    assert found["colour"]["grey"]["new_queries"] == 1
    assert set(found["colour"]["grey"]) == {"queries", "new_queries", "duplicates", "pretrained_knn", "ensemble"}


# --- examples ---


def test_examples_are_what_their_list_says(leaderboard):
    result = leaderboard.results["ensemble_class"]
    lists = {chosen.key: chosen.rows for chosen in choose_examples(result, 1)}
    lot = lists.pop("lot")
    assert lists == {"right": [0], "wrong": [1], "found": [2], "worst": [3], "new_right": [4], "new_wrong": [6]}
    assert len(lot) == 1
    more = {chosen.key: chosen.rows for chosen in choose_examples(result, 4)}
    assert more["wrong"] == [1, 2, 3]  # the surest first; none of them is shown again
    assert more["found"] == more["worst"] == []
    assert more["new_wrong"] == [6, 5]
    assert len(set(more["lot"])) == 4


def test_no_examples_are_chosen_where_none_are_wanted(leaderboard):
    assert all(chosen.rows == [] for chosen in choose_examples(leaderboard.top, 0))
