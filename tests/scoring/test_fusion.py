"""The logit with several slopes, the fusions made of it, the choice of a scorer, and the rule for near-duplicates."""

import numpy as np
import pandas as pd
import pytest
from calibrations import calibration_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.metrics.arrays import new_share_weights
from flukeprint.scoring.calibrated_answers import Answers, calibrated
from flukeprint.scoring.calibration import BestScorer, CopyAgreement, OpenSetCalibration, ScoreFusion
from flukeprint.scoring.calibration_fitting import fit_scorer, fit_scorers
from flukeprint.scoring.candidates import Scored, from_lists, scored_of
from flukeprint.scoring.choice import best_answers, choose, cross_validated, folds_of
from flukeprint.scoring.conditional_logit import LogLoss
from flukeprint.scoring.copies import agreement, copied
from flukeprint.scoring.fusion import fuse, fused_of
from flukeprint.scoring.registry import BLEND, DUPLICATES, GALLERY, GALLERY_NEAREST

SCALES = {GALLERY: (0.2, 0.1), BLEND: (0.2, 0.1, 3.0)}


def drawn(n: int, scorer: str, slopes, other: float, new: float, of_photo, seed: int = 0) -> pd.DataFrame:
    """Draw features, then outcomes from the model itself; `of_photo` may be () for no features of the photo."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        labels = [f"w_{index}" for index in range(generator.integers(1, 6))]
        features = generator.normal(size=(len(labels), len(slopes))) * SCALES[scorer]
        photo = generator.normal(size=len(of_photo))
        logits = np.array([*(features @ slopes), other, new + photo @ np.array(of_photo)])
        chances = np.exp(logits - logits.max())
        truth = generator.choice([*labels, "elsewhere", NEW_WHALE], p=chances / chances.sum())
        rows.append(
            {
                "Image": f"{number}.jpg",
                "Id": f"held_{number}" if truth == NEW_WHALE else truth,
                "truth": truth,
                "scorer": scorer,
                "candidates": labels,
                "scores": features[:, 0],
                "new_score": np.nan,
                "features": features.ravel(),
                "new_features": photo if len(of_photo) else np.array([np.nan]),
            }
        )
    return pd.DataFrame(rows)


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows as of a scorer that has one score per candidate: the first feature."""
    features = [
        np.asarray(row).reshape(len(labels), -1)[:, 0]
        for row, labels in zip(rows["features"], rows["candidates"], strict=True)
    ]
    empty = [[] for _ in features]
    new = [row[0] for row in rows["new_features"]]
    return rows.assign(scores=features, new_score=new, features=empty, new_features=empty)


def scored(rows: pd.DataFrame) -> Scored:
    return scored_of(rows, rows["scorer"].iloc[0])


def problem(rows: pd.DataFrame, share: float) -> LogLoss:
    return LogLoss.of(scored(rows), rows["truth"].tolist(), share)


def fitted(rows: pd.DataFrame, scorer: str) -> tuple[ScoreFusion, OpenSetCalibration]:
    return fit_scorer(scored(rows), rows["truth"].tolist(), scorer, 0.325)


def log_loss_of(rows: pd.DataFrame, slopes, other: float, new: float, of_photo, share: float) -> float:
    """The weighted log-loss, query by query in float64."""
    weights = new_share_weights(rows["truth"] == NEW_WHALE, share)
    total = 0.0
    for weight, row in zip(weights, rows.to_dict("records"), strict=True):
        by_label = dict(zip(row["candidates"], np.reshape(row["features"], (-1, len(slopes))) @ slopes, strict=True))
        of_new = new + sum(a * b for a, b in zip(of_photo, row["new_features"], strict=False))
        right = of_new if row["truth"] == NEW_WHALE else by_label.get(row["truth"], other)
        total += weight * (np.log(np.exp([*by_label.values(), other, of_new]).sum()) - right)
    return total / weights.sum()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_log_loss_and_its_gradient_with_several_slopes(seed):
    rows = drawn(40, BLEND, (3.0, 2.0, 0.3), 0.5, 0.2, (0.7, -0.4), seed)
    if (rows["truth"] == NEW_WHALE).mean() in (0, 1):
        return
    loss = problem(rows, 0.325)
    point = np.random.default_rng(seed).normal(size=7)
    assert loss.log_loss(point) == pytest.approx(log_loss_of(rows, point[:3], *point[3:5], point[5:], 0.325))
    assert check_grad(lambda x: loss.objective(x)[0], lambda x: loss.objective(x)[1], point) < 1e-5


@pytest.mark.numeric
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_one_slope_is_the_logit_of_a_single_score(seed):
    """With features that say the same, the slopes add up to that of the score alone."""
    rows = drawn(60, GALLERY, (4.0, 0.0), 0.5, 0.2, (0.7,), seed)
    if rows["truth"].eq(NEW_WHALE).mean() in (0, 1):
        return
    single = plain(rows).assign(scorer="knn")
    twice = rows.assign(features=[np.repeat(row, 2) for row in single["scores"]])
    one, several = problem(single, 0.3).fit(), problem(twice, 0.3).fit()
    assert several.slopes.sum() == pytest.approx(one.slopes[0], rel=1e-3, abs=1e-3)
    assert (several.other, several.new) == pytest.approx((one.other, one.new), abs=1e-3)


def test_planted_slopes_are_recovered():
    slopes, other, new, of_photo = (6.0, 4.0, 0.5), 0.5, 0.8, (0.6, -0.4)
    rows = drawn(12_000, BLEND, slopes, other, new, of_photo)
    fit = problem(rows, float((rows["truth"] == NEW_WHALE).mean())).fit()
    np.testing.assert_allclose(fit.slopes, slopes, rtol=0.12)
    np.testing.assert_allclose(fit.new_weights, of_photo, atol=0.08)
    assert fit.other - fit.new == pytest.approx(other - new, abs=0.1)


def test_a_feature_that_misleads_gets_no_weight_and_one_that_is_missing_none_either():
    rows = drawn(3000, BLEND, (6.0, -4.0, 0.5), 0.5, 0.8, (0.6, 0.0), 1)
    rows["new_features"] = [np.array([row[0], np.nan]) for row in rows["new_features"]]
    fusion, _ = fitted(rows, BLEND)
    assert fusion.features["centre"] == 0
    assert set(fusion.new_features) == {"head"}
    rows["new_features"] = [np.array([0.0, 1.0]), *rows["new_features"][1:]]
    with pytest.raises(FlukeprintError, match="2999 of 3000 rows have no new_score"):
        fitted(rows, BLEND)


@pytest.mark.numeric
@pytest.mark.parametrize(("scorer", "slopes", "of_photo"), [(GALLERY, (6, 3), ()), (BLEND, (6, 3, 0.4), (0.6, -0.4))])
def test_fusion_and_calibration_are_the_logit_in_two_parts(scorer, slopes, of_photo):
    rows = drawn(400, scorer, slopes, 0.5, 0.8, of_photo, 2)
    fusion, decision = fitted(rows, scorer)
    fit = problem(rows, 0.325).fit()
    assert sum(fusion.features.values()) == pytest.approx(1, abs=1e-5)
    assert list(fusion.features.values()) == pytest.approx(fit.slopes / fit.slopes.sum(), rel=1e-5)
    expected = log_loss_of(rows, fit.slopes, fit.other, fit.new, fit.new_weights if of_photo else (), 0.325)
    assert decision.log_loss == pytest.approx(expected, rel=1e-4)
    answers = calibrated(fuse(scored(rows), scorer, fusion), decision, 10)
    for number, row in enumerate(rows.to_dict("records")):
        logits = np.reshape(row["features"], (-1, len(slopes))) @ fit.slopes
        new = fit.new + (row["new_features"] @ fit.new_weights if of_photo else 0)
        powers = np.exp([*logits, new, fit.other])
        chances = dict(zip([*row["candidates"], NEW_WHALE], powers / powers.sum(), strict=False))
        found = dict(zip(answers.labels[number], answers.probabilities[number], strict=True))
        assert found == pytest.approx(chances, abs=1e-4)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_fusion_by_hand_with_ties_by_label():
    rows = drawn(1, GALLERY, (1, 1), 0, 0, ()).assign(
        candidates=[["c", "a", "b"]], features=[[1.0, 0.0, 0.5, 0.5, 0.0, 3.0]]
    )
    fused = fuse(scored(rows), GALLERY, ScoreFusion(features={"nearest": 0.5, "centre": 0.5}, new_features={}))
    assert fused.labels() == [["b", "a", "c"]]
    assert fused.scores[0, :3].tolist() == [1.5, 0.5, 0.5]
    assert np.isnan(fused.new_score[0])
    with pytest.raises(FlukeprintError, match="weights of gallery are for other features than nearest, centre"):
        fuse(scored(rows), GALLERY, ScoreFusion(features={"nearest": 1.0}, new_features={}))
    with pytest.raises(FlukeprintError, match="dvc repro ensemble"):
        scored(rows.assign(features=[[1.0]]))


def test_a_scorer_without_a_fusion_is_left_out():
    rows = drawn(3, GALLERY, (1, 1), 0, 0, ())
    assert fused_of(rows, GALLERY, calibration_of()) is None
    fusion = ScoreFusion(features={"nearest": 1.0, "centre": 0.0}, new_features={})
    fused = fused_of(rows, GALLERY, calibration_of(fusions={GALLERY: fusion}))
    one = fused_of(plain(rows).assign(scorer="knn"), "knn", calibration_of())
    assert [set(labels) for labels in fused.labels()] == [set(labels) for labels in one.labels()]
    assert fused.scores.max(axis=1).tolist() == one.scores.max(axis=1).tolist()


def test_fusions_stand_beside_their_calibrations():
    rows = drawn(300, GALLERY, (6, 3), 0.5, 0.8, ())
    found = fit_scorers(rows, 0.325, [GALLERY])
    fusion, calibration = fitted(rows, GALLERY)
    assert (found.scorers, found.fusions, found.without) == ({GALLERY: calibration}, {GALLERY: fusion}, {})
    none = fit_scorers(rows[:0], 0.325, [GALLERY])
    assert (none.scorers, none.fusions) == ({}, {})
    assert "there are no calibration queries" in none.without[GALLERY]


def test_a_single_scorer_has_no_fusion():
    rows = plain(drawn(200, GALLERY, (6, 0), 0.5, 0.8, ())).assign(scorer="knn")
    found = fit_scorers(rows, 0.325, ["knn"])
    assert found.fusions == {}
    assert found.scorers["knn"] == fit_scorer(scored(rows), rows["truth"].tolist(), "knn", 0.325)[1]


# --- the choice ---


def test_folds_keep_individuals_whole_and_hold_both_kinds():
    rows = drawn(200, GALLERY, (6, 3), 0.5, 0.8, ())
    folds = folds_of(rows)
    assert folds.max() == 4
    known = rows.assign(fold=folds)[rows["truth"] != NEW_WHALE]
    assert len(known[["Id", "fold"]].drop_duplicates()) == len(set(known["Id"]))
    for fold in range(5):
        assert (rows["truth"][folds == fold] == NEW_WHALE).any()
        assert (rows["truth"][folds == fold] != NEW_WHALE).any()
    assert (folds_of(rows[rows["truth"] == NEW_WHALE]) == 0).all()


def test_every_query_is_answered_by_a_calibration_that_did_not_see_it():
    rows = drawn(120, GALLERY, (6, 3), 0.5, 0.8, (), 3)
    folds = folds_of(rows)
    points = []
    for row in range(len(rows)):
        fusion, calibration = fitted(rows[folds != folds[row]], GALLERY)
        [labels] = calibrated(fuse(scored(rows[row : row + 1]), GALLERY, fusion), calibration, 5).labels
        truth = rows["truth"].iloc[row]
        points.append(1 / (1 + labels.index(truth)) if truth in labels else 0.0)
    weights = new_share_weights(rows["truth"] == NEW_WHALE, 0.325)
    found = cross_validated(scored(rows), rows["truth"].tolist(), GALLERY, 0.325, folds)
    assert found == pytest.approx(np.average(points, weights=weights))


def test_the_scorer_that_answers_best_is_chosen():
    rows = drawn(400, GALLERY, (20, 10), -2.0, -1.0, (), 4)
    blind = plain(rows).assign(scorer=GALLERY_NEAREST, scores=[np.zeros(len(row)) for row in rows["candidates"]])
    found = choose(pd.concat([blind, rows]), 0.325, [GALLERY_NEAREST, GALLERY, BLEND])
    assert found.scorer == GALLERY
    assert set(found.map5) == {GALLERY_NEAREST, GALLERY}
    assert choose(rows[:0], 0.325, [GALLERY]) == BestScorer(scorer=None, map5={}, folds=0)


# --- near-duplicates ---


def test_agreement_counts_each_photo_with_near_duplicates_once():
    gallery = pd.DataFrame({"Id": ["a", "a", "b", "c", "d", "e", "e"], "cluster": [1, 1, 1, 2, 2, 3, 4]})
    # a, a agree; b does not; c and d do not; e stands alone twice.
    assert agreement(gallery) == CopyAgreement(photos=5, agreeing=2, probability=round(3 / 7, 6))
    assert agreement(gallery[:0]).probability == 0.5


def test_labels_of_near_duplicates_are_mixed_in_by_their_probability():
    answers = Answers([["a", NEW_WHALE, "b"]] * 3, [[0.5, 0.3, 0.1]] * 3, np.full(3, 0.3))
    new = np.array([[0.0], [0.25], [0.5]])
    duplicates = from_lists([[], ["b", "z"], ["b"]], [[], [0.5, 0.25], [0.5]], new, 1)
    found = copied(answers, duplicates, 0.8, 3)
    assert found.labels[0] == ["a", NEW_WHALE, "b"]
    assert found.new_probability[0] == 0.3
    assert found.labels[1] == ["b", NEW_WHALE, "z"]
    assert found.probabilities[1] == pytest.approx([0.8 * 0.5 + 0.2 * 0.1, 0.8 * 0.25 + 0.2 * 0.3, 0.8 * 0.25])
    assert found.labels[2] == [NEW_WHALE, "b", "a"]
    assert found.new_probability[2] == pytest.approx(0.8 * 0.5 + 0.2 * 0.3)
    assert found.probabilities[2] == pytest.approx([0.46, 0.42, 0.1])


def test_the_best_answers_need_candidates_of_the_same_photos():
    rows = drawn(100, GALLERY, (6, 3), 0.5, 0.8, ())
    fusion, of_gallery = fitted(rows, GALLERY)
    calibration = calibration_of(
        scorers={GALLERY: of_gallery},
        fusions={GALLERY: fusion},
        best=BestScorer(scorer=GALLERY, map5={GALLERY: 0.5}, folds=5),
        duplicates=CopyAgreement(photos=2, agreeing=2, probability=0.75),
    )
    same = plain(rows).assign(scorer=DUPLICATES, candidates=[["z"]] * 100, scores=[[1.0]] * 100, new_score=0.0)
    answers = best_answers(pd.concat([same, rows]), calibration, 5)
    assert {labels[0] for labels in answers.labels} == {"z"}
    assert {values[0] for values in answers.probabilities} == {0.75}
    expected = calibrated(fuse(scored(rows), GALLERY, fusion), of_gallery, 4)
    assert [labels[1:] for labels in answers.labels] == [labels[:4] for labels in expected.labels]
    with pytest.raises(FlukeprintError, match="not of the same photos"):
        best_answers(pd.concat([same[:-1], rows]), calibration, 5)


def test_without_a_chosen_scorer_the_most_similar_come_first_then_new_whale():
    rows = plain(drawn(4, GALLERY, (6, 3), 0.5, 0.8, ()))
    rows["candidates"], rows["scores"] = [["a", "b", "c"]] * 4, [np.array([0.9, 0.9, 0.1], np.float32)] * 4
    nearest = rows.assign(scorer=GALLERY_NEAREST, new_score=np.nan)
    copied_labels = [["z"], [], [], []]
    scores = [[1.0], [], [], []]
    same = rows.assign(scorer=DUPLICATES, candidates=copied_labels, scores=scores, new_score=0.0)
    calibration = calibration_of(duplicates=CopyAgreement(photos=2, agreeing=2, probability=0.75))
    answers = best_answers(pd.concat([same, nearest]), calibration, 5)
    assert answers.labels == [["z", "a", NEW_WHALE, "b", "c"], *[["a", NEW_WHALE, "b", "c"]] * 3]
