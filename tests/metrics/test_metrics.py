"""Every figure against its formula on small cases, against independent implementations, and its properties."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as skm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.metrics import arrays, boxes, detection, intervals, rankings, reliability

LABELS = ["a", "b", "c", "d", "e", "f", "g"]
_labels = st.sampled_from(LABELS)
_rankings = st.lists(st.tuples(_labels, st.lists(_labels, max_size=8)), min_size=1, max_size=30)
# Few distinct values, so that ties are the rule.
_scored = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda pairs: len({positive for positive, _ in pairs}) == 2
)


# Examples enough to meet ties and empty lists; no deadline, because a busy machine is no fault.
_properties = settings(max_examples=60, deadline=None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def _unzipped(pairs: Sequence[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], dtype=float)


def _random_detection(rng: np.random.Generator, size: int = 500) -> tuple[np.ndarray, np.ndarray]:
    positive = rng.random(size) < 0.4
    return positive, np.round(rng.normal(size=size) + positive, 1)  # rounded: ties


# --- MAP@5 ---


def _grader(actual: set[str], predicted: list[str], k: int = 5) -> float:
    """Average precision at k as the Kaggle wiki and mle-bench define it, hit by hit."""
    hits, score = 0, 0.0
    for place, label in enumerate(predicted[:k]):
        if label in actual and label not in predicted[:place]:
            hits += 1
            score += hits / (place + 1)
    return score / min(len(actual), k)


def map_at_5(truth: Sequence[str], ranked: rankings.Ranked, weights: Any = None) -> float:
    return arrays.weighted_mean(rankings.reciprocal_ranks(truth, ranked), weights)


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        (["a", "b", "c", "d", "e"], 1.0),
        (["b", "a", "c", "d", "e"], 1 / 2),
        (["b", "c", "d", "e", "a"], 1 / 5),
        (["b", "c", "d", "e", "f", "a"], 0.0),  # beyond the fifth
        (["b", "b", "a"], 1 / 3),  # a repeated label uses up a rank
        (["a", "a", "a", "a", "a"], 1.0),  # and scores once
        (["", "a"], 1 / 2),  # an empty label uses up a rank too
        (["a"], 1.0),
        ([], 0.0),
    ],
)
def test_map_at_5_of_one_query(ranked: list[str], expected: float) -> None:
    assert rankings.reciprocal_ranks(["a"], [ranked]) == pytest.approx([expected])
    assert _grader({"a"}, ranked) == pytest.approx(expected)


@_properties
@given(_rankings)
def test_map_at_5_is_the_graders(pairs: list[tuple[str, list[str]]]) -> None:
    truth, ranked = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    expected = np.mean([_grader({label}, labels) for label, labels in pairs])
    found = map_at_5(truth, ranked)
    assert found == pytest.approx(expected)
    assert 0 <= found <= rankings.top_k_accuracy(rankings.first_ranks(truth, ranked), 5) <= 1


@_properties
@given(_rankings, st.randoms(use_true_random=False))
def test_map_at_5_does_not_depend_on_the_order_of_queries(pairs: list[tuple[str, list[str]]], random: Any) -> None:
    before = map_at_5([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    random.shuffle(pairs)
    assert map_at_5([pair[0] for pair in pairs], [pair[1] for pair in pairs]) == pytest.approx(before)


@pytest.mark.parametrize("dtype", [str, object])
def test_an_array_of_labels_is_ranked_like_lists(dtype: type, rng: np.random.Generator) -> None:
    truth = rng.choice(LABELS, 200)
    ranked = rng.choice(LABELS, (200, 5))
    expected = rankings.first_ranks(list(truth), [list(row) for row in ranked])
    np.testing.assert_array_equal(rankings.first_ranks(truth, ranked.astype(dtype)), expected)
    assert set(expected) == set(range(6))


def test_a_long_label_is_not_cut_to_one_that_matches() -> None:
    assert rankings.first_ranks(["w_12"], np.array([["w_1", "w_2"]])).tolist() == [0]


def test_rankings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="ranked has 1 entries, expected 2"):
        rankings.first_ranks(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="is one string"):
        rankings.first_ranks(["a"], ["a b c"])
    with pytest.raises(FlukeprintError, match="no queries"):
        map_at_5([], [])
    assert rankings.first_ranks(["a"], np.empty((1, 0), dtype=str)).tolist() == [0]


def test_weights_count_as_copies_of_a_query() -> None:
    truth, ranked = ["a", "b", "c"], [["a"], ["x", "b"], ["x"]]
    copies = [0, 0, 0, 1, 2, 2]
    expected = map_at_5([truth[i] for i in copies], [ranked[i] for i in copies])
    assert map_at_5(truth, ranked, weights=[3, 1, 2]) == pytest.approx(expected)
    for wrong in ([1, 2], [0, 0, 0], [1, -1, 1], [1, np.nan, 1]):
        with pytest.raises(ValueError, match="weights must be 3 finite numbers"):
            map_at_5(truth, ranked, weights=wrong)


# --- Top-k, CMC ---


def test_cmc_by_hand() -> None:
    assert rankings.cmc([1, 2, 0, 4], 5) == pytest.approx([0.25, 0.5, 0.5, 0.75, 0.75])
    with pytest.raises(FlukeprintError, match="no queries"):
        rankings.cmc([], 5)


def test_top_k_accuracy_is_scikit_learns(rng: np.random.Generator) -> None:
    scores, target = rng.normal(size=(200, 30)), rng.integers(0, 30, 200)
    ranks = (scores > scores[np.arange(200), target][:, None]).sum(axis=1) + 1
    for k in (1, 5, 10):
        expected = skm.top_k_accuracy_score(target, scores, k=k, labels=np.arange(30))
        assert rankings.top_k_accuracy(ranks, k) == pytest.approx(expected)


# --- The share of new whales ---


@_properties
@given(st.lists(st.booleans(), min_size=2, max_size=50), st.floats(0, 1))
def test_weights_give_new_whales_their_share(is_new: list[bool], share: float) -> None:
    new = np.array([*is_new, True, False])
    weights = arrays.new_share_weights(new, share)
    assert weights.mean() == pytest.approx(1)
    assert weights[new].sum() / weights.sum() == pytest.approx(share)
    assert np.unique(weights[new]).size == np.unique(weights[~new]).size == 1


def test_all_new_scores_the_declared_share() -> None:
    is_new = np.array([True] * 7 + [False] * 4)
    truth = [NEW_WHALE if new else "w_1" for new in is_new]
    ranked = [[NEW_WHALE]] * 11
    weights = arrays.new_share_weights(is_new, 0.325)
    assert map_at_5(truth, ranked, weights=weights) == pytest.approx(0.325, abs=1e-12)
    curve = rankings.map_over_share(rankings.reciprocal_ranks(truth, ranked), is_new, [0.1, 0.6])
    assert curve == pytest.approx([0.1, 0.6])


def test_a_missing_kind_of_query_is_named() -> None:
    with pytest.raises(FlukeprintError, match=r"none of the 2 queries shows a new whale, but 32\.5%"):
        arrays.new_share_weights([False, False], 0.325)
    with pytest.raises(FlukeprintError, match=r"none of the 1 queries shows a known whale, but 67\.5%"):
        arrays.new_share_weights([True], 0.325)
    with pytest.raises(FlukeprintError, match="none of the 0 queries"):
        arrays.new_share_weights([], 0.0)
    with pytest.raises(FlukeprintError, match=r"is nan, expected 0\.\.1"):
        arrays.new_share_weights([True, False], float("nan"))
    assert arrays.new_share_weights([False, False], 0.0).tolist() == [1, 1]
    assert arrays.new_share_weights([True, True], 1.0).tolist() == [1, 1]


# --- Individuals counted alike ---


def test_balanced_accuracy_by_hand() -> None:
    assert rankings.balanced_accuracy(["a", "a", "a", "b"], [True, True, False, False]) == pytest.approx(1 / 3)
    assert rankings.balanced_accuracy(["x", "x", "y", "z"], [True, False, True, False]) == pytest.approx(1 / 2)
    with pytest.raises(FlukeprintError, match="no queries"):
        rankings.balanced_accuracy([], [])
    with pytest.raises(ValueError, match="correct has 1 entries, expected 2"):
        rankings.balanced_accuracy(["a", "b"], [True])


def test_balanced_accuracy_is_scikit_learns(rng: np.random.Generator) -> None:
    identities = rng.choice(LABELS, 300, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    predicted = np.where(rng.random(300) < 0.5, identities, rng.choice([*LABELS, NEW_WHALE], 300))
    # Macro recall over the classes that are in the truth, whatever else is predicted.
    expected = skm.recall_score(identities, predicted, labels=np.unique(identities), average="macro")
    assert rankings.balanced_accuracy(identities, predicted == identities) == pytest.approx(expected)


# --- Precision, recall, AP, mAP, IoU ---


def test_interpolated_average_precision_by_hand() -> None:
    # Hits at ranks 1, 3 and 6 of four objects, one of which no box was proposed for.
    hits = np.array([True, False, True, False, False, True])
    curve = detection.precision_recall_curve(hits, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], positives=4)
    assert curve.precision == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6])
    assert curve.recall == pytest.approx([1 / 4, 1 / 4, 2 / 4, 2 / 4, 2 / 4, 3 / 4])
    assert curve.envelope == pytest.approx([1, 2 / 3, 2 / 3, 1 / 2, 1 / 2, 1 / 2])
    assert detection.average_precision(curve) == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)
    with pytest.raises(FlukeprintError, match="there are 2 positives, 3 with a score"):
        detection.precision_recall_curve(hits, np.arange(6), positives=2)


@_properties
@given(_scored)
def test_average_precision_against_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    positive, scores = _unzipped(pairs)
    curve = detection.precision_recall_curve(positive, scores)
    raw = np.diff(curve.recall, prepend=0) @ curve.precision
    assert raw == pytest.approx(skm.average_precision_score(positive, scores))
    assert raw - 1e-12 <= detection.average_precision(curve) <= 1 + 1e-12
    assert np.all(np.diff(curve.envelope) <= 0)
    assert np.all(curve.envelope >= curve.precision)


@_properties
@given(_scored)
def test_interpolated_average_precision_is_a_mean_over_positives(pairs: list[tuple[bool, float]]) -> None:
    positive, scores = _unzipped(pairs)
    points = [((positive & (scores >= cut)).sum(), positive[scores >= cut].mean()) for cut in np.unique(scores)]
    best = [max(precision for hits, precision in points if hits >= count) for count in range(1, positive.sum() + 1)]
    curve = detection.precision_recall_curve(positive, scores)
    assert detection.average_precision(curve) == pytest.approx(np.mean(best))


def test_precision_recall_curve_is_scikit_learns(rng: np.random.Generator) -> None:
    positive, scores = _random_detection(rng)
    curve = detection.precision_recall_curve(positive, scores)
    precision, recall, thresholds = skm.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(curve.precision[::-1], precision[:-1])  # scikit-learn appends the point (1, 0)
    np.testing.assert_allclose(curve.recall[::-1], recall[:-1])
    np.testing.assert_allclose(curve.thresholds[::-1], thresholds)


@_properties
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(-3, 3)), max_size=60), st.integers(1, 3))
def test_average_precisions_are_those_of_each_class(triples: list[tuple[int, bool, int]], missing: int) -> None:
    classes, positive, scores = (np.array(column) for column in zip(*[(0, True, 0), *triples], strict=True))
    total = np.bincount(classes[positive], minlength=5) + missing
    expected = [
        detection.average_precision(detection.precision_recall_curve(positive[own], scores[own], int(total[index])))
        for index in range(5)
        for own in [classes == index]
    ]
    assert detection.average_precisions(classes, positive, scores, total) == pytest.approx(expected)


def test_average_precisions_of_classes_without_a_score_are_0() -> None:
    assert detection.average_precisions([], [], [], [1, 2]).tolist() == [0, 0]
    assert detection.average_precisions([1], [True], [0.5], [3, 1, 1]).tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="scores has 1 entries, expected 2"):
        detection.average_precisions([0, 0], [True, False], [0.5], [1])


def test_iou_counts_shared_pixels(rng: np.random.Generator) -> None:
    corners = np.sort(rng.integers(0, 12, (20, 2, 2)), axis=1).reshape(20, 4)
    grid_y, grid_x = np.mgrid[:12, :12]
    inside = [(x0 <= grid_x) & (grid_x < x1) & (y0 <= grid_y) & (grid_y < y1) for x0, y0, x1, y1 in corners]
    expected = [[(a & b).sum() / max((a | b).sum(), 1) for b in inside] for a in inside]
    np.testing.assert_allclose(boxes.box_iou(corners, corners), expected)
    assert boxes.box_iou([[0, 0, 2, 2]], [[1, 1, 3, 3], [2, 0, 4, 2]]).tolist() == [[1 / 7, 0]]
    assert boxes.box_iou([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]


@pytest.mark.parametrize("table", [[[2, 0, 1, 1]], [[0, 0, np.nan, 1]], [[0, 0, 1]], [0, 0, 1, 1]])
def test_what_is_not_a_box_is_refused(table: Any) -> None:
    with pytest.raises(ValueError, match="box"):
        boxes.box_iou(table, [[0, 0, 1, 1]])


# --- ROC ---


@_properties
@given(_scored)
def test_auroc_and_the_curve_are_scikit_learns(pairs: list[tuple[bool, float]]) -> None:
    positive, scores = _unzipped(pairs)
    curve = detection.roc_curve(positive, scores)
    far, tar, thresholds = skm.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.far, far)
    np.testing.assert_allclose(curve.tar, tar)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    assert detection.auroc(curve) == pytest.approx(skm.roc_auc_score(positive, scores))


@_properties
@given(_scored, st.floats(0, 1), st.floats(0, 1))
def test_operating_points_are_the_best_over_all_thresholds(
    pairs: list[tuple[bool, float]], rate: float, other: float
) -> None:
    positive, scores = _unzipped(pairs)
    curve = detection.roc_curve(positive, scores)
    points = [
        ((scores[~positive] >= cut).mean(), (scores[positive] >= cut).mean()) for cut in [*np.unique(scores), np.inf]
    ]
    assert detection.tar_at_far(curve, rate) == max(tar for far, tar in points if far <= rate)
    assert detection.fpr_at_tpr(curve, rate) == min(far for far, tar in points if tar >= rate)
    low, high = sorted((rate, other))
    assert detection.tar_at_far(curve, low) <= detection.tar_at_far(curve, high)
    assert detection.fpr_at_tpr(curve, low) <= detection.fpr_at_tpr(curve, high)


def test_operating_points_by_hand() -> None:
    positive = np.array([True] * 20 + [False] * 100)
    scores = np.concatenate([np.arange(100, 120), np.arange(100)]).astype(float)
    scores[0] = 49.5  # one of the twenty positives lies below 50 of the 100 negatives
    curve = detection.roc_curve(positive, scores)
    assert detection.fpr_at_tpr(curve, 0.95) == 0
    assert detection.fpr_at_tpr(curve, 1.0) == 0.5
    assert detection.tar_at_far(curve, 1e-3) == 0.95  # 100 negatives: no false accept at all
    assert detection.tar_at_far(curve, 0.5) == 1
    scores[20:] += 18.5  # the highest two negatives: 117.5 and 116.5
    curve = detection.roc_curve(positive, scores)
    assert detection.tar_at_far(curve, 1e-3) == 2 / 20
    assert detection.tar_at_far(curve, 1e-2) == 3 / 20
    with pytest.raises(ValueError, match=r"expected 0\.\.1"):
        detection.tar_at_far(curve, 1.5)


@_properties
@given(_scored)
def test_equal_error_rate_lies_where_the_curve_meets_the_diagonal(pairs: list[tuple[bool, float]]) -> None:
    curve = detection.roc_curve(*_unzipped(pairs))
    rate = detection.equal_error_rate(curve)
    # On a vertical part of the curve the true accept rate at this far is not one number.
    below = np.interp(rate - 1e-9, curve.far, curve.tar)
    above = np.interp(rate + 1e-9, curve.far, curve.tar)
    assert below - 1e-6 <= 1 - rate <= above + 1e-6
    flipped = detection.roc_curve(~_unzipped(pairs)[0], -_unzipped(pairs)[1])
    assert detection.equal_error_rate(flipped) == pytest.approx(rate)


def test_equal_error_rate_by_hand() -> None:
    assert detection.equal_error_rate(detection.roc_curve([True, True, False], [3.0, 2.0, 1.0])) == 0
    assert detection.equal_error_rate(detection.roc_curve([True, True, False], [1.0, 2.0, 3.0])) == 1
    assert detection.equal_error_rate(detection.roc_curve([True, False], [1.0, 1.0])) == 0.5
    # One of four positives lies below one of four negatives.
    curve = detection.roc_curve([True] * 4 + [False] * 4, [9.0, 8, 7, 1, 5, 0, 0, 0])
    assert detection.equal_error_rate(curve) == 0.25


@pytest.mark.parametrize("positive", [[True, True], [False, False], []])
def test_a_curve_needs_both_kinds(positive: list[bool]) -> None:
    with pytest.raises(FlukeprintError, match="at least one of either kind"):
        detection.roc_curve(positive, np.zeros(len(positive)))
    with pytest.raises(ValueError, match="NaN"):
        detection.roc_curve([True, False], [1.0, np.nan])


# --- Calibration ---


def test_calibration_error_by_hand() -> None:
    bins = reliability.reliability_bins([0.0, 0.5, 0.5, 0.51, 0.99], [False, True, False, True, True], bins=2)
    assert bins.count.tolist() == [3, 2]
    assert bins.confidence == pytest.approx([1 / 3, 0.75])  # the mean, not the centre 0.25
    assert bins.accuracy == pytest.approx([1 / 3, 1])
    assert reliability.expected_calibration_error(bins) == pytest.approx(0.25 * 2 / 5)


def test_chance_alone_gives_a_calibration_error() -> None:
    """Of n true probabilities of one half the mean error is that of a mean of n coins: the root of 1 / (2 pi n)."""
    apart = reliability.calibration_error_by_chance([0.5] * 400, range(400), draws=2000)
    assert apart == pytest.approx(1 / np.sqrt(2 * np.pi * 400), rel=0.1)
    together = reliability.calibration_error_by_chance([0.5] * 400, [0] * 400)
    assert together == pytest.approx(0.5)
    assert reliability.calibration_error_by_chance([0.0, 1.0], ["a", "b"]) == 0.0


def test_reliability_bins_are_scikit_learns(rng: np.random.Generator) -> None:
    from sklearn.calibration import calibration_curve

    confidence = rng.random(1000) ** 2
    correct = rng.random(1000) < confidence
    bins = reliability.reliability_bins(confidence, correct, bins=10)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10, strategy="uniform")
    np.testing.assert_allclose(bins.accuracy, accuracy)
    np.testing.assert_allclose(bins.confidence, mean)
    assert reliability.expected_calibration_error(bins) < 0.05
    too_sure = reliability.reliability_bins(np.sqrt(confidence), correct)
    assert reliability.expected_calibration_error(too_sure) == pytest.approx(1 / 2 - 1 / 3, abs=0.05)


def test_weights_in_bins_count_as_copies(rng: np.random.Generator) -> None:
    confidence, correct, copies = rng.random(50), rng.random(50) < 0.5, rng.integers(0, 4, 50)
    weighted = reliability.reliability_bins(confidence, correct, 5, copies)
    copied = reliability.reliability_bins(np.repeat(confidence, copies), np.repeat(correct, copies), 5)
    for name in ("portion", "confidence", "accuracy"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(copied, name))


@_properties
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 20))
def test_calibration_error_bounds(pairs: list[tuple[float, bool]], number: int) -> None:
    confidence, correct = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    bins = reliability.reliability_bins(confidence, correct, number)
    assert bins.portion.sum() == pytest.approx(1)
    assert bins.count.sum() == len(pairs)
    place = np.ceil(bins.confidence * number - 1e-9)
    assert np.all(np.diff(place) > 0)
    gap = abs(confidence.mean() - correct.mean())
    assert gap - 1e-9 <= reliability.expected_calibration_error(bins) <= 1 + 1e-9


def test_a_confidence_outside_its_range_is_refused() -> None:
    for wrong in ([1.1], [-0.1], [np.nan]):
        with pytest.raises(ValueError, match=r"must be in 0\.\.1"):
            reliability.reliability_bins(wrong, [True])


# --- Resampling ---


@_properties
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.floats(-5, 5), st.integers(0, 2**32))
def test_the_bootstrap_of_a_constant_is_that_constant(groups: list[int], value: float, seed: int) -> None:
    weights = np.arange(1, len(groups) + 1)
    found = intervals.Resampling(groups, weights, resamples=50, seed=seed).interval([value] * len(groups))
    assert (found.low, found.estimate, found.high) == pytest.approx((value, value, value))


def test_the_bootstrap_draws_whole_groups(rng: np.random.Generator) -> None:
    values, groups = rng.random(40), rng.integers(0, 8, 40)
    weights = rng.random(40)
    names = np.unique(groups)
    generator = np.random.default_rng(3)
    expected = []
    for drawn in generator.integers(len(names), size=(25, len(names))):
        rows = np.concatenate([np.flatnonzero(groups == names[index]) for index in drawn])
        expected.append(np.average(values[rows], weights=weights[rows]))
    found = intervals.Resampling(groups, weights, resamples=25, seed=3).means(values)
    np.testing.assert_allclose(found, expected)


def test_blocks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    values, groups = rng.random((60, 2)), rng.integers(0, 20, 60)
    whole = intervals.Resampling(groups, resamples=64, seed=1).means(values)
    p_value = intervals.Resampling(groups, resamples=64, seed=1).p_value(values[:, 0] - values[:, 1])
    monkeypatch.setattr(intervals, "_BLOCK", 160)
    np.testing.assert_allclose(intervals.Resampling(groups, resamples=64, seed=1).means(values), whole)
    assert intervals.Resampling(groups, resamples=64, seed=1).p_value(values[:, 0] - values[:, 1]) == p_value
    assert whole.shape == (64, 2)
    np.testing.assert_allclose(intervals.Resampling(groups, resamples=64, seed=1).means(values[:, 1]), whole[:, 1])


def test_the_interval_is_as_wide_as_the_spread_of_group_means(rng: np.random.Generator) -> None:
    means = rng.normal(size=400)
    values, groups = np.repeat(means, 5), np.repeat(np.arange(400), 5)
    found = intervals.Resampling(groups, resamples=4000).interval(values)
    assert found.high - found.low == pytest.approx(2 * 1.96 * means.std() / 20, rel=0.1)
    # Photos of one individual taken for independent ones: less than half as wide.
    wrong = intervals.Resampling(np.arange(2000), resamples=4000).interval(values)
    assert wrong.high - wrong.low < 0.5 * (found.high - found.low)


def test_intervals_of_several_figures_are_those_of_each_alone(rng: np.random.Generator) -> None:
    values, groups, weights = rng.random((80, 3)), rng.integers(0, 30, 80), rng.random(80)
    is_new = groups < 10
    together = intervals.Resampling(groups, weights, is_new, resamples=100, seed=2).intervals(values)
    alone = [intervals.Resampling(groups, weights, is_new, resamples=100, seed=2).interval(v) for v in values.T]
    for one, other in zip(together, alone, strict=True):
        assert (one.low, one.estimate, one.high) == pytest.approx((other.low, other.estimate, other.high))


def test_a_declared_share_is_no_source_of_chance(rng: np.random.Generator) -> None:
    is_new = rng.random(200) < 0.5
    weights = arrays.new_share_weights(is_new, 0.325)
    found = intervals.Resampling(np.arange(200) // 2, weights, is_new).interval(is_new.astype(float))
    assert (found.low, found.estimate, found.high) == pytest.approx((0.325, 0.325, 0.325))
    values = rng.random(200)
    stratified = intervals.Resampling(np.arange(200), weights, is_new).interval(values)
    assert stratified.low < stratified.estimate < stratified.high
    assert stratified.estimate == pytest.approx(0.325 * values[is_new].mean() + 0.675 * values[~is_new].mean())


def test_the_seed_fixes_the_interval_and_row_order_does_not_matter(rng: np.random.Generator) -> None:
    values, groups = rng.random(80), rng.choice(LABELS, 80)
    order = rng.permutation(80)
    first = intervals.Resampling(groups, seed=7).means(values)
    np.testing.assert_allclose(intervals.Resampling(groups[order], seed=7).means(values[order]), first)
    assert not np.allclose(intervals.Resampling(groups, seed=8).means(values), first)


def test_queries_without_weight_are_as_if_they_were_not_there(rng: np.random.Generator) -> None:
    values, groups = rng.random(60), rng.integers(0, 30, 60)
    weights = (np.arange(60) < 40).astype(float)
    expected = intervals.Resampling(groups[:40]).means(values[:40])
    np.testing.assert_allclose(intervals.Resampling(groups, weights).means(values), expected)
    is_new = weights == 0
    np.testing.assert_allclose(intervals.Resampling(groups, weights, is_new).means(values), expected)


def test_runs_that_are_alike_are_not_told_apart(rng: np.random.Generator) -> None:
    values, groups = rng.random(50), rng.integers(0, 10, 50)
    same = intervals.Resampling(groups).compare(values, values)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_a_better_run_is_told_apart(rng: np.random.Generator) -> None:
    groups = np.arange(300) // 2
    worse = rng.random(300)
    better = worse + rng.normal(0.05, 0.1, 300)
    found = intervals.Resampling(groups).compare(better, worse)
    assert 0 < found.low < found.difference < found.high < 0.1
    assert found.p_value < 0.01
    back = intervals.Resampling(groups).compare(worse, better)
    assert (back.difference, back.low) == pytest.approx((-found.difference, -found.high))
    assert back.p_value == found.p_value


def test_the_permutation_test_is_the_sign_test_where_differences_are_equal() -> None:
    # 14 groups won, 4 lost, all by as much; and a tie, which tells nothing.
    first = np.array([1.0] * 14 + [0.0] * 4 + [0.5])
    second = np.array([0.0] * 14 + [1.0] * 4 + [0.5])
    found = intervals.Resampling(np.arange(19), resamples=40000).p_value(first - second)
    assert found == pytest.approx(binomtest(14, 18).pvalue, abs=0.005)


def test_the_permutation_test_is_not_fooled_by_many_photos_of_one_individual() -> None:
    first, second = np.ones(100), np.zeros(100)
    assert intervals.Resampling(np.zeros(100)).p_value(first - second) == 1
    assert intervals.Resampling(np.arange(100)).p_value(first - second) < 0.001
    with pytest.raises(ValueError, match="expected the same N"):
        intervals.Resampling(np.arange(100)).compare(first, second[:1])


def test_resampling_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="values has 2 entries, expected 1"):
        intervals.Resampling(["a"]).means([1.0, 2.0])
    with pytest.raises(ValueError, match="the level is 95"):
        intervals.Resampling(["a", "b"]).interval([1.0, 2.0], level=95)
    with pytest.raises(FlukeprintError, match="no queries"):
        intervals.Resampling([]).means([])


# --- Size ---


def test_two_thousand_queries_against_four_thousand_ids(rng: np.random.Generator) -> None:
    scores = rng.random((2000, 4000))
    target = np.where(np.arange(2000) < 1300, rng.integers(0, 4000, 2000), -1)
    is_new, ranked = target < 0, np.argpartition(-scores, 5)[:, :5].astype(str)
    started = time.perf_counter()
    weights = arrays.new_share_weights(is_new, 0.325)
    values = rankings.reciprocal_ranks(target.astype(str), ranked)
    rankings.cmc(rankings.first_ranks(target.astype(str), ranked), 100)
    best = np.argpartition(-scores, 20)[:, :20]
    own = np.take_along_axis(scores, best, axis=1).ravel()
    detection.average_precisions(
        best.ravel(), (best == target[:, None]).ravel(), own, np.bincount(target + 1, minlength=4001)[1:] + 1
    )
    intervals.Resampling(target.astype(str), weights, is_new).interval(values)
    intervals.Resampling(target.astype(str), weights, is_new).compare(values, values[::-1])
    assert time.perf_counter() - started < 10  # about one second on two idle cores
