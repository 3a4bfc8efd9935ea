"""Pairs, thresholds and their calibration, and enrolment of individuals never trained on."""

import numpy as np
import pandas as pd
import pytest
import torch
from calibrations import calibration_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_safetensors
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.leaks import learned_individuals
from flukeprint.evaluation.enrolment import enrol, enrolment_test
from flukeprint.evaluation.verification import verify
from flukeprint.metrics import detection
from flukeprint.scoring import labelled_photos
from flukeprint.scoring.calibration import Verification, read_calibration, write_calibration
from flukeprint.scoring.labelled_photos import ComparedQueries
from flukeprint.scoring.pairs import STEPS, QueryPairs, fit_verification, logistic, pairs_of

# Image, individual, cluster, split. a and b are trained; x, y and z are held out, y with one cluster only.
PHOTOS = [
    ("09", "a", 1, "train"),
    ("01", "a", 2, "valid"),
    ("02", "b", 3, "train"),
    ("03", NEW_WHALE, 4, "train"),
    ("04", "a", 5, "query"),
    ("05", "b", 6, "calibration"),
    ("08", "x", 7, "query"),
    ("06", "x", 8, "query"),
    ("07", "x", 8, "query"),
    ("10", "y", 9, "query"),
    ("11", "y", 9, "query"),
    ("12", "z", 10, "calibration"),
    ("13", "z", 11, "calibration"),
    ("14", NEW_WHALE, 12, "query"),
]
TABLE = pd.DataFrame(PHOTOS, columns=["Image", "Id", "together", "split"]).assign(pixel=range(len(PHOTOS)))
EMBEDDINGS = np.random.default_rng(0).normal(size=(len(TABLE), 2, 5)).astype(np.float32)


def similarity_of(query: str, photo: str) -> float:
    place = {image: row for row, image in enumerate(TABLE["Image"])}
    a, b = (EMBEDDINGS[place[name]].astype(float) for name in (query, photo))
    return float(np.mean((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


def steps_of(query: str, *photos: str) -> list:
    return [pytest.approx(similarity_of(query, photo) * STEPS, abs=0.6) for photo in photos]


def test_pairs_are_known_queries_with_photos_of_individuals():
    pairs = pairs_of(ComparedQueries.of(TABLE, [EMBEDDINGS], 2, "query"))
    assert pairs.individuals.tolist() == ["a", "a"]
    assert pairs.same.tolist() == steps_of("04", "01", "09")
    assert pairs.different.tolist() == steps_of("04", "02")
    assert pairs.numbers.tolist() == [1]
    assert pairs.counts() == {"queries": 1, "individuals": 1, "same_pairs": 2, "different_pairs": 1}
    other = pairs_of(ComparedQueries.of(TABLE, [EMBEDDINGS], 2, "calibration"))
    assert other.same.tolist() == steps_of("05", "02")
    assert sorted(other.different.tolist()) == sorted(steps_of("05", "01", "09"), key=lambda one: one.expected)


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_pairs_by_blocks_are_those_of_the_whole_matrix(monkeypatch, block):
    monkeypatch.setattr(labelled_photos, "_BLOCK", block)
    generator = np.random.default_rng(3)
    table = pd.DataFrame({
        "Image": [f"{number:02}" for number in range(90)],
        "Id": generator.choice(["a", "b", "c", "d", NEW_WHALE], 90),
        "split": np.where(np.arange(90) % 3 == 0, "query", "train"),
        "pixel": generator.permutation(90),
    })  # fmt: skip
    vectors = generator.normal(size=(90, 1, 6)).astype(np.float32)
    pairs = pairs_of(ComparedQueries.of(table, [vectors], 1, "query"))
    of = vectors[table["pixel"], 0] / np.linalg.norm(vectors[table["pixel"], 0], axis=1, keepdims=True)
    named = (table["Id"] != NEW_WHALE).to_numpy()
    asked, there = ((table["split"] == split).to_numpy() & named for split in ("query", "train"))
    matrix, ids = np.rint(of[asked] @ of[there].T * STEPS), table["Id"].to_numpy()
    same = ids[asked][:, None] == ids[there]
    np.testing.assert_allclose(np.sort(pairs.same), np.sort(matrix[same]), atol=1)
    np.testing.assert_allclose(np.repeat(pairs.different, pairs.numbers), np.sort(matrix[~same]), atol=1)
    assert pairs.individuals.tolist() == np.repeat(ids[asked], same.sum(axis=1)).tolist()


def test_copies_of_one_photo_tell_nobody_apart():
    """The same bits everywhere are ties, which count half: no rounding makes a figure of them."""
    alike = np.broadcast_to(EMBEDDINGS[:1], EMBEDDINGS.shape)
    pairs = pairs_of(ComparedQueries.of(TABLE, [alike], 2, "query"))
    assert detection.auroc(pairs.curve()) == 0.5


def drawn(seed: int = 0, queries: int = 60, photos: int = 80) -> tuple[QueryPairs, np.ndarray, np.ndarray]:
    """Pairs, and the similarities in them of the same and of different individuals."""
    generator = np.random.default_rng(seed)
    individuals = generator.integers(20, size=queries)
    same = individuals[:, None] == generator.integers(20, size=photos)
    steps = np.rint((generator.normal(0.2, 0.2, size=same.shape) + 0.4 * same) * STEPS).astype(int)
    different, numbers = np.unique(steps[~same], return_counts=True)
    shown = np.repeat(individuals.astype(str), same.sum(axis=1))
    return QueryPairs(queries, steps[same], shown, different, numbers), steps[same] / STEPS, steps[~same] / STEPS


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), far=st.sampled_from([0.0, 1e-3, 1e-2, 0.3, 1.0]))
def test_a_threshold_gives_the_rates_of_its_point(seed, far):
    generator = np.random.default_rng(seed)
    scores, positive = generator.integers(0, 30, 200) / 30, np.arange(200) % 4 == 0
    curve = detection.roc_curve(positive, scores)
    accepted = scores >= detection.threshold_at_far(curve, far)
    assert accepted[~positive].mean() <= far
    assert accepted[positive].mean() == detection.tar_at_far(curve, far)
    at_eer = scores >= detection.threshold_at_eer(curve)
    assert at_eer[~positive].mean() >= 1 - at_eer[positive].mean()
    above = scores > detection.threshold_at_eer(curve)
    assert above[~positive].mean() < 1 - above[positive].mean()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.sampled_from([3, 30, 10_000]), far=st.sampled_from([1e-2, 0.1, 0.5]))
def test_the_curve_of_few_positives_is_the_curve(seed, levels, far):
    generator = np.random.default_rng(seed)
    scores = (generator.integers(0, levels, 300) / levels).astype(np.float32)
    positive = np.arange(300) % 20 == 0
    whole = detection.roc_curve(positive, scores)
    few = detection.roc_curve_of_few(scores[positive], *np.unique(scores[~positive], return_counts=True))
    assert detection.auroc(few) == pytest.approx(detection.auroc(whole))
    assert detection.equal_error_rate(few) == pytest.approx(detection.equal_error_rate(whole))
    assert detection.tar_at_far(few, far) == detection.tar_at_far(whole, far)
    for curve_far, tar, threshold in zip(few.far, few.tar, few.thresholds, strict=True):
        assert (scores[positive] >= threshold).mean() == pytest.approx(tar)
        assert (scores[~positive] >= threshold).mean() == pytest.approx(curve_far)
    with pytest.raises(FlukeprintError, match="0 positive and 2 negative"):
        detection.roc_curve_of_few([], [0.1, 0.2], [1, 1])


def test_the_calibration_is_the_likeliest_one():
    pairs, genuine, impostors = drawn()
    values = np.append(genuine, impostors)
    same = np.arange(len(values)) < len(genuine)
    slope, intercept = logistic(pairs)

    def loss(parameters: np.ndarray) -> float:
        odds = np.where(same, 1, -1) * (parameters[0] * values + parameters[1])
        return np.logaddexp(0, -odds)[same].mean() + np.logaddexp(0, -odds)[~same].mean()

    best = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    assert (slope, intercept) == pytest.approx(tuple(best), rel=1e-4)
    # Pairs that the similarity tells apart without error give finite numbers.
    apart = QueryPairs(1, np.array([800_000]), np.array(["a"]), np.array([100_000, 200_000]), np.array([1, 1]))
    assert np.isfinite(logistic(apart)).all()


def test_thresholds_and_probabilities_are_read_back(tmp_path):
    (pairs, _, impostors), path = drawn(), tmp_path / "decision.json"
    write_calibration(path, calibration_of(verification=fit_verification(pairs)))
    found = read_calibration(path).verification
    assert found == fit_verification(pairs)
    assert found.same_pairs + found.different_pairs == 60 * 80
    for name, far in (("far_1e-2", 1e-2), ("far_1e-3", 1e-3)):
        wrong = (impostors >= found.thresholds[name]).mean()
        assert 0.5 * far <= wrong <= far + 1e-3
    assert found.probability(-found.intercept / found.slope) == pytest.approx(0.5)
    assert found.probability(1.0) > 0.9
    assert found.probability(-1.0) < 0.1
    steep = Verification(**found.model_dump() | {"slope": 1e6, "intercept": 0.0})
    assert steep.probability(-1.0) == pytest.approx(0)


def test_without_pairs_the_reason_is_said(tmp_path):
    nothing = np.zeros(0, np.int64)
    none = QueryPairs(0, nothing, np.array([], str), nothing, nothing)
    write_calibration(tmp_path / "decision.json", calibration_of(verification=fit_verification(none)))
    assert "there are no calibration pairs" in read_calibration(tmp_path / "decision.json").verification.without
    assert verify({"ensemble": none}, {}, 100) == ({**none.counts()}, {})


def test_figures_of_verification():
    pairs, genuine, impostors = drawn(1)
    other = QueryPairs(pairs.queries, pairs.same - STEPS // 5, pairs.individuals, pairs.different, pairs.numbers)
    found, curves = verify({"ensemble": pairs, "pretrained": other}, {"eer": 0.4}, 200)
    wins = (genuine[:, None] > impostors).mean() + (genuine[:, None] == impostors).mean() / 2
    row = found["ensemble"]
    assert row["auroc"] == pytest.approx(wins, abs=1e-5)
    cut = np.sort(impostors)[::-1][int(1e-2 * len(impostors))]
    assert row["tar_at_1e-2_far"] == pytest.approx((genuine > cut).mean(), abs=1e-6)
    assert row["tar_at_1e-2_far_low"] < row["tar_at_1e-2_far"] < row["tar_at_1e-2_far_high"]
    assert found["at_thresholds"]["eer"] == {
        "threshold": 0.4,
        "far": pytest.approx((impostors >= 0.4).mean(), abs=1e-6),
        "tar": pytest.approx((genuine >= 0.4).mean(), abs=1e-6),
    }
    assert list(curves) == ["ensemble", "pretrained"]
    at = {point["far"]: point["tar"] for point in curves["ensemble"]}
    assert at[0.01] == row["tar_at_1e-2_far"]
    assert at[0.001] == row["tar_at_1e-3_far"]
    assert at[1.0] == 1.0
    assert found["pretrained"]["auroc"] < row["auroc"]


# --- enrolment ---


def test_who_is_enrolled_and_who_is_a_query():
    test = enrolment_test(TABLE, {"a"})
    names = TABLE["Image"].to_numpy()
    # The first by name of a, b, x and z; y has one cluster only.
    assert sorted(names[test.enrolled]) == ["01", "02", "06", "12"]
    # 07 is nearly the same picture as 06, which is enrolled.
    assert names[test.queries["held_out"]].tolist() == ["08", "13"]
    assert names[test.queries["trained"]].tolist() == ["04"]
    assert names[test.queries["left_out"]].tolist() == []
    assert test.held_out == 3


def test_who_was_left_out_of_fine_tuning_is_counted_apart():
    test = enrolment_test(TABLE, {"b"})
    assert TABLE["Image"].to_numpy()[test.queries["left_out"]].tolist() == ["04"]
    assert len(test.queries["trained"]) == 0
    # Who was trained on changes neither the gallery nor who was held out.
    np.testing.assert_array_equal(test.enrolled, enrolment_test(TABLE, {"a", "b"}).enrolled)
    np.testing.assert_array_equal(test.queries["held_out"], enrolment_test(TABLE, {"a", "b"}).queries["held_out"])


def test_the_networks_say_who_they_were_trained_on(tmp_path):
    for name, labels in (("m1", ["a", NEW_WHALE]), ("m2", ["a", "b"])):
        write_safetensors(tmp_path / name, {"weight": torch.zeros(1)}, {"labels": labels})
    assert learned_individuals([tmp_path / "m1", tmp_path / "m2"]) == {"a", "b"}
    (tmp_path / "m3").write_bytes(b"not tensors")
    with pytest.raises(FlukeprintError, match="m3 is not a readable safetensors file"):
        learned_individuals([tmp_path / "m3"])
    with pytest.raises(FlukeprintError, match="m4 is missing"):
        learned_individuals([tmp_path / "m4"])


def test_enrolment_ranks_one_photo_of_each():
    found = enrol(TABLE, {"a"}, {"ensemble": ([EMBEDDINGS], 2)}, 200)
    assert found["gallery_photos"] == 4
    ranks = []
    for query, right in (("08", "06"), ("13", "12")):
        scores = {photo: similarity_of(query, photo) for photo in ("01", "02", "06", "12")}
        ranks.append(sorted(scores, key=scores.__getitem__, reverse=True).index(right) + 1)
    row = found["held_out"]["ensemble"]
    assert row["top1"] == np.mean(np.array(ranks) <= 1)
    assert row["top5"] == 1.0
    assert (found["held_out"]["queries"], found["held_out"]["individuals"]) == (2, 2)
    individual = np.unique(TABLE["Id"], return_inverse=True)[1]
    perfect = np.eye(individual.max() + 1, dtype=np.float32)[individual][:, None]
    assert enrol(TABLE, {"a"}, {"ensemble": ([perfect], 1)}, 200)["held_out"]["ensemble"]["top1"] == 1.0
    # An embedding that says the same of all photos finds nobody.
    alike = np.ones((len(TABLE), 1, 1), np.float32)
    assert enrol(TABLE, {"a"}, {"ensemble": ([alike], 1)}, 200)["trained"]["ensemble"]["top1"] == 0.0


def test_without_anybody_held_out_the_counts_are_given():
    known = TABLE[TABLE["Id"].isin(["a", "b"])].reset_index(drop=True)
    found = enrol(known, {"a"}, {"ensemble": ([EMBEDDINGS], 2)}, 200)
    assert found["held_out"] == {"queries": 0, "individuals": 0}
    assert found["trained"]["queries"] == 1
