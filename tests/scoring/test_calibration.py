import itertools
import json

import numpy as np
import pandas as pd
import pytest
from calibrations import calibration_of, open_set
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibrated_answers import as_ordinary_class, calibrated
from flukeprint.scoring.calibration import (
    GallerySizes,
    OpenSetCalibration,
    read_calibration,
    write_calibration,
)
from flukeprint.scoring.calibration_fitting import fit_scorer, fit_scorers, nothing_to_fit
from flukeprint.scoring.candidates import Scored, scored_of
from flukeprint.scoring.conditional_logit import LogLoss


def one_row(candidates: list[str], scores: list[float], new_score: float, truth: str = "a") -> dict:
    return {"candidates": candidates, "scores": np.array(scores, np.float32), "new_score": new_score, "truth": truth}


def rows_of(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"new_score": "float32"})


def scored(rows: pd.DataFrame) -> Scored:
    return scored_of(rows, "ensemble")


def fit(rows: pd.DataFrame, share: float) -> OpenSetCalibration:
    return fit_scorer(scored(rows), rows["truth"].tolist(), "ensemble", share)[1]


def log_loss(rows: pd.DataFrame, share: float) -> LogLoss:
    return LogLoss.of(scored(rows), rows["truth"].tolist(), share)


def drawn(n: int, parameters: tuple, seed: int = 0, scale: float = 1.0, offset: float = 0.0) -> pd.DataFrame:
    """Draw scores, then outcomes from the model itself with the given (a, b, c, d); d may be None."""
    a, b, c, d = parameters
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        labels = [f"w_{number}" for number in range(generator.integers(0, 6))]
        scores = np.sort(offset + scale * generator.normal(size=len(labels)))[::-1]
        new_score = np.nan if d is None else offset + scale * generator.normal()
        logits = [*(a * scores), b, c + (0 if d is None else d * new_score)]
        chances = np.exp(logits - np.max(logits))
        outcome = generator.choice([*labels, "elsewhere", NEW_WHALE], p=chances / chances.sum())
        rows.append(one_row(labels, scores, new_score, outcome))
    return rows_of(*rows)


def new_share(rows: pd.DataFrame) -> float:
    return float((rows["truth"] == NEW_WHALE).mean())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), with_new_score=st.booleans())
def test_the_gradient_agrees_with_finite_differences(seed, with_new_score):
    rows = drawn(40, (1.0, 0.5, 0.2, 0.7 if with_new_score else None), seed)
    if nothing_to_fit(scored(rows), rows["truth"].tolist()):
        return
    loss = log_loss(rows, 0.325)
    point = np.random.default_rng(seed).normal(size=4)
    assert check_grad(lambda x: loss.objective(x)[0], lambda x: loss.objective(x)[1], point) < 1e-6


@pytest.mark.parametrize("parameters", [(1.5, 0.5, 0.8, 0.6), (2.0, 0.0, 0.5, None)])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.02, 0.9), (30.0, -100.0)])
def test_probabilities_are_calibrated_on_data_from_the_model(parameters, scale, offset):
    """Whatever the scale of the scores; the parameters are scaled so that the probabilities are the same."""
    a, b, c, d = parameters
    a, b, c = a / scale, b + a / scale * offset, c + a / scale * offset
    if d is not None:
        d = d / scale
        c = c - d * offset
    rows = drawn(8000, (a, b, c, d), 1, scale, offset)
    fitted = fit(rows, new_share(rows))
    assert fitted.inverse_temperature == pytest.approx(a, rel=0.1)
    assert fitted.other - fitted.new == pytest.approx(b - c, abs=0.15 + 0.1 * abs(b - c))
    assert (fitted.new_score_weight is None) == (d is None)
    # On data that was not fitted, each probability is met by the frequency, within four standard errors.
    fresh = drawn(8000, (a, b, c, d), 2, scale, offset)
    answers = calibrated(scored(fresh), fitted, 10)
    first = [
        (row[0], labels[0] == truth)
        for row, labels, truth in zip(answers.probabilities, answers.labels, fresh["truth"], strict=True)
    ]
    assert_calibrated(*map(np.array, zip(*first, strict=True)))
    assert_calibrated(answers.new_probability, (fresh["truth"] == NEW_WHALE).to_numpy())


def assert_calibrated(probability: np.ndarray, happened: np.ndarray) -> None:
    for part in np.array_split(np.argsort(probability), 10):
        expected = probability[part].mean()
        assert abs(happened[part].mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(part)) + 0.01


def test_the_check_of_calibration_sees_overconfidence():
    rows = drawn(4000, (1.5, 0.5, 0.8, 0.6), 1)
    is_new = (rows["truth"] == NEW_WHALE).to_numpy()
    assert_calibrated(calibrated(scored(rows), open_set(1.5, 0.5, 0.8, 0.6), 5).new_probability, is_new)
    with pytest.raises(AssertionError):
        assert_calibrated(calibrated(scored(rows), open_set(3.0, 1.0, 1.6, 1.2), 5).new_probability, is_new)


def test_new_queries_are_weighted_to_the_declared_share():
    """Losing two thirds of the new queries changes nothing but the noise, if the share is declared."""
    rows = drawn(12_000, (1.5, 0.5, 0.8, 0.6), 3)
    share = new_share(rows)
    kept = rows[(rows["truth"] != NEW_WHALE) | (np.arange(len(rows)) % 3 == 0)]
    whole, thinned = fit(rows, share), fit(kept, share)
    assert thinned.new_queries < 0.4 * whole.new_queries
    for field in ("inverse_temperature", "other", "new", "new_score_weight"):
        assert getattr(thinned, field) == pytest.approx(getattr(whole, field), abs=0.12)
    assert fit(kept, new_share(kept)).new < whole.new - 0.5


def test_the_fit_is_the_minimum():
    rows = drawn(300, (1.0, 0.5, 0.2, 0.7), 4)
    fitted = fit(rows, 0.325)
    loss = log_loss(rows, 0.325)
    best = np.array([fitted.inverse_temperature, fitted.other, fitted.new, fitted.new_score_weight])
    assert loss.log_loss(best) == pytest.approx(fitted.log_loss, rel=1e-5)
    for step in np.random.default_rng(0).normal(size=(50, 4)):
        assert loss.log_loss(best + 0.1 * step) > fitted.log_loss


def test_the_order_of_the_queries_does_not_matter():
    rows = drawn(200, (1.0, 0.5, 0.2, 0.7), 5)
    assert fit(rows, 0.3) == fit(rows[::-1], 0.3)


def test_scores_that_mislead_get_no_weight():
    rows = [one_row(["a", "b"], [1.0, 0.0], np.nan, truth) for truth in ["b"] * 20 + ["a"] * 5 + [NEW_WHALE] * 10]
    assert fit(rows_of(*rows), 0.3).inverse_temperature == 0


def test_queries_that_a_score_tells_apart_without_error_give_finite_parameters():
    rows = [one_row(["a"], [0.9], 0.1, "a")] * 20 + [one_row(["a"], [0.1], 0.9, NEW_WHALE)] * 10
    fitted = fit(rows_of(*rows), 0.325)
    answers = calibrated(scored(rows_of(*rows)), fitted, 5)
    assert fitted.log_loss < 1e-3
    assert [labels[0] for labels in answers.labels] == ["a"] * 20 + [NEW_WHALE] * 10


def test_a_known_case_by_hand():
    rows = rows_of(one_row(["b", "c"], [2.0, 1.0], 0.5), one_row([], [], 0.0))
    answers = calibrated(scored(rows), open_set(1.0, 0.0, 1.0, 2.0), 2)
    powers = np.exp([2.0, 1.0, 0.0, 1.0 + 2.0 * 0.5])
    # new_whale and b are equally likely: the label decides, and new_whale comes after b.
    assert answers.labels == [["b", NEW_WHALE], [NEW_WHALE]]
    np.testing.assert_allclose(answers.probabilities[0], powers[[0, 3]] / powers.sum())
    np.testing.assert_allclose(answers.new_probability, [powers[3] / powers.sum(), np.e / (1 + np.e)])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), candidates=st.integers(0, 5), top=st.sampled_from([1, 2, 5]))
def test_the_ranking_is_the_best_one_for_map_at_5(seed, candidates, top):
    """Against every order of the candidates and new_whale, by expected score under the model's probabilities."""
    generator = np.random.default_rng(seed)
    labels = [f"w_{number}" for number in range(candidates)]
    rows = rows_of(one_row(labels, np.sort(generator.normal(size=candidates))[::-1], generator.normal()))
    answers = calibrated(scored(rows), open_set(*np.abs(generator.normal(size=4))), candidates + 1)
    chance = dict(zip(answers.labels[0], answers.probabilities[0], strict=True))
    assert len(chance) == candidates + 1
    assert sum(chance.values()) < 1

    def expected(order: tuple[str, ...] | list[str]) -> float:
        return sum(chance[label] / rank for rank, label in enumerate(order[:top], 1))

    best = max(expected(order) for order in itertools.permutations(chance))
    assert expected(answers.labels[0]) == pytest.approx(best, abs=1e-12)


def test_as_an_ordinary_class_new_whale_goes_by_its_score():
    rows = rows_of(
        one_row(["b", "c"], [-1.0, -3.0], -2.0),
        one_row(["b", "c"], [-1.0, -3.0], np.nan),
        one_row([], [], 0.0),
        one_row([], [], np.nan),
        one_row(["z", "c"], [0.5, 0.1], 0.5),
    )
    answers = as_ordinary_class(scored(rows), 2)
    assert answers.labels == [["b", NEW_WHALE], ["b", "c"], [NEW_WHALE], [], [NEW_WHALE, "z"]]
    powers = np.exp([-1.0, -3.0, -2.0])
    np.testing.assert_allclose(answers.probabilities[0], powers[[0, 2]] / powers.sum())
    np.testing.assert_allclose(answers.new_probability[:4], [powers[2] / powers.sum(), 0, 1, 0])


def test_probabilities_that_underflow_do_not_lose_the_order():
    rows = rows_of(one_row(["b", "c", "d"], [0.0, -900.0, -1000.0], -950.0))
    for answers in (as_ordinary_class(scored(rows), 5), calibrated(scored(rows), open_set(1.0, -2000.0, 0.0, 1.0), 5)):
        assert answers.labels == [["b", "c", NEW_WHALE, "d"]]
        assert answers.probabilities == [[1.0, 0.0, 0.0, 0.0]]


def test_answers_of_no_photos():
    empty = scored(rows_of(one_row([], [], 0.0))[:0])
    assert as_ordinary_class(empty, 5).labels == calibrated(empty, open_set(1, 0, 0, None), 5).labels == []


def test_candidates_without_the_score_that_the_decision_weighs_are_refused():
    with pytest.raises(FlukeprintError, match="fitted with a score for new_whale.*dvc repro calibrate"):
        calibrated(scored(rows_of(one_row(["b"], [1.0], np.nan))), open_set(1, 0, 0, 1.0), 5)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "no calibration queries"),
        ([one_row(["a"], [1.0], 0.0)] * 3, "all 3 calibration queries show known whales"),
        ([one_row(["a"], [1.0], 0.0, NEW_WHALE)], "all 1 calibration queries show new whales"),
        ([one_row([], [], 0.0), one_row([], [], 0.0, NEW_WHALE)], "no calibration query has a candidate"),
    ],
)
def test_where_there_is_nothing_to_fit_the_reason_is_said(rows, reason):
    table = pd.DataFrame(rows, columns=["candidates", "scores", "new_score", "truth"])
    assert reason in nothing_to_fit(scored(table), table["truth"].tolist())
    with pytest.raises(FlukeprintError, match=reason):
        fit(table, 0.325)


def test_scores_for_new_whale_in_some_rows_only_are_refused():
    rows = rows_of(one_row(["a"], [1.0], 0.0), one_row(["a"], [1.0], np.nan, NEW_WHALE))
    with pytest.raises(FlukeprintError, match="1 of 2 rows have no new_score"):
        fit(rows, 0.325)


def test_the_file_of_calibrations(tmp_path):
    rows = drawn(200, (1.0, 0.5, 0.2, 0.7), 6).assign(scorer="ensemble")
    path = tmp_path / "decision.json"
    fitted = fit_scorers(rows, 0.325, ["ensemble", "duplicates"])
    written = calibration_of(scorers=fitted.scorers, without=fitted.without)
    write_calibration(path, written)
    found = read_calibration(path)
    assert found == written
    assert found.without == {"duplicates": "there are no calibration queries; select.holdout sets them aside"}
    assert found.scorers == {"ensemble": fit(rows, 0.325)}
    assert found.of("ensemble") == fit(rows, 0.325)
    with pytest.raises(FlukeprintError, match="calibration of duplicates: there are no calibration.*submit.decision"):
        found.of("duplicates")
    with pytest.raises(FlukeprintError, match="no calibration of other: only ensemble was calibrated"):
        found.of("other")
    with pytest.raises(FlukeprintError, match=r"none\.json is missing"):
        read_calibration(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("share",), 1.0),
        (("scorers", "ensemble", "inverse_temperature"), -1.0),
        (("scorers", "ensemble", "other"), 1e13),
        (("scorers", "ensemble", "new"), None),
        (("scorers", "ensemble", "new"), "1.0"),
        (("scorers", "ensemble", "more"), 1.0),
        (("scorers", "ensemble", "inverse_temperature"), 10**30),
        (("scorers", "ensemble", "known_queries"), 10**30),
        (("scorers", "gallery", "sizes", "individuals"), 10**30),
        (("scorers", "gallery", "sizes", "individuals"), 1),
        (("scorers", "gallery", "sizes", "photos"), 0),
        (("scorers", "gallery", "sizes", "new"), 1e308),
        (("scorers", "gallery", "sizes", "inverse_temperature"), -1.0),
        (("fusions", "gallery", "features", "centre"), 1e308),
        (("fusions", "gallery", "features", "nearest"), 0.5),
        (("fusions", "gallery", "features", "nearest"), -0.5),
        (("best", "map5", "ensemble"), 1.5),
        (("duplicates", "probability"), -0.1),
        (("verification", "thresholds", "eer"), 2.0),
        (("provenance", "views"), 3),
        (("mixtures",), {}),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_its_key(tmp_path, keys, value):
    path = tmp_path / "decision.json"
    counts = {"queries": 1, "individuals": 1, "same_pairs": 1, "different_pairs": 1}
    sizes = GallerySizes(individuals=90, photos=1, inverse_temperature=1.0, other=0.0, new=0.0)
    in_sizes = open_set(1.0, 0.0, 0.0, None).model_copy(update={"sizes": sizes})
    content = calibration_of(
        scorers={"ensemble": open_set(1.0, 0.0, 0.0, None), "gallery": in_sizes},
        fusions={"gallery": {"features": {"nearest": 1.0, "centre": 0.0}, "new_features": {}}},
        verification={**counts, "thresholds": {"eer": 0.5}, "slope": 1.0, "intercept": 0.0},
    )
    write_calibration(path, content)
    assert read_calibration(path) == content
    changed = json.loads(path.read_text())
    part = changed
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(changed))
    with pytest.raises(FlukeprintError, match=rf"decision\.json is not what it should be: {keys[0]}.*dvc repro"):
        read_calibration(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    path = tmp_path / "decision.json"
    write_calibration(path, calibration_of(scorers={"ensemble": open_set(1.0, 0.125, 0.0, None)}))
    path.write_text(path.read_text().replace("0.125", number))
    with pytest.raises(FlukeprintError, match=r"decision\.json.*(no JSON number|scorers\.ensemble\.other)"):
        read_calibration(path)
