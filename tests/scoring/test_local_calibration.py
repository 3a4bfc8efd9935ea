"""local.json: the fusion of probabilities with matched keypoints, its fit, and what is refused."""

import json

import numpy as np
import pytest
from gallery_folder import PROVENANCE
from keypoint_pictures import local_calibration

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.provenance import MemberRecord
from flukeprint.scoring.local_calibration import LocalCalibration, LookedAt, MatcherRecord, fit_fusion, shared_out


def test_the_fusion_is_that_of_a_plain_recomputation():
    fitted = local_calibration()
    p, matched = [0.4, 0.2, 0.1], [0, 30, 5]
    shares = shared_out(fitted, np.array(p), np.array(matched))
    q = [1 / (1 + np.exp(-(2.0 * np.log(1 + c) - 5.0))) for c in matched]
    f = [(one + other) / 2 for one, other in zip(p, q, strict=True)]
    odds = [(one / (1 - one)) ** 1.5 for one in f]
    assert shares.tolist() == pytest.approx([0.7 * one / sum(odds) for one in odds])
    assert shares.argmax() == 1  # 30 matched keypoints count more than 0.4 against 0.2
    assert shares.sum() == pytest.approx(0.7)


def test_without_candidates_there_is_nothing_to_share_out():
    assert len(shared_out(local_calibration(), np.zeros(0), np.zeros(0, np.int64))) == 0


def queries(number: int, tells: float) -> tuple[list[LookedAt], list[str]]:
    """Ten candidates a query, of which the global scores know nothing and keypoints `tells` on average."""
    generator = np.random.default_rng(3)
    looked_at, truth = [], []
    for _ in range(number):
        right = generator.integers(12)  # of some queries nobody is
        matched = generator.poisson([4 + tells * (place == right) for place in range(10)])
        looked_at.append(LookedAt([f"w_{place}" for place in range(10)], np.full(10, 0.07), matched))
        truth.append(f"w_{right}")
    return looked_at, truth


def test_keypoints_that_tell_are_learned_from():
    looked_at, truth = queries(300, 12.0)
    fitted = fit_fusion(looked_at, truth, np.ones(300))
    assert fitted.slope > 1
    assert fitted.sharpness > 0.5
    assert fitted.log_loss_before == pytest.approx(np.log(10), abs=1e-4)
    assert fitted.log_loss < 0.7
    assert (fitted.queries, fitted.candidates) == (300, 3000)
    assert fitted.right == sum(label in one.labels for one, label in zip(looked_at, truth, strict=True))


def test_keypoints_that_tell_nothing_change_nothing():
    looked_at, truth = queries(300, 0.0)
    fitted = fit_fusion(looked_at, truth, np.ones(300))
    assert fitted.log_loss == pytest.approx(np.log(10), abs=0.02)
    even = shared_out(fitted, np.full(10, 0.07), np.arange(10))
    assert even.tolist() == pytest.approx([0.07] * 10, abs=0.03)


def test_keypoints_never_count_against_a_candidate():
    looked_at, truth = queries(300, -3.5)
    assert fit_fusion(looked_at, truth, np.ones(300)).slope == 0


def test_a_fit_follows_the_weights():
    looked_at, truth = queries(200, 12.0)
    known = np.array([label in one.labels for one, label in zip(looked_at, truth, strict=True)])
    rarer = fit_fusion(looked_at, truth, np.where(known, 1.0, 9.0))
    assert rarer.intercept < fit_fusion(looked_at, truth, np.ones(200)).intercept - 0.3


@pytest.mark.parametrize("truth", [["w_x"] * 4, []])
def test_a_fit_needs_right_and_wrong_candidates(truth):
    with pytest.raises(FlukeprintError, match=r"0 of the \d+ candidates .*select.holdout"):
        fit_fusion(queries(len(truth), 5.0)[0], truth, np.ones(len(truth)))


def test_it_comes_back_as_it_was_written(tmp_path):
    fitted = local_calibration()
    fitted.write(tmp_path)
    first = (tmp_path / "local.json").read_bytes()
    assert LocalCalibration.read(tmp_path) == fitted
    fitted.write(tmp_path)
    assert (tmp_path / "local.json").read_bytes() == first


def change(path, key, value):
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("key", "value"), [("slope", 3.0), ("first", 6), ("sha256", "0" * 64), ("surplus", 1)])
def test_a_changed_file_is_refused(tmp_path, key, value):
    local_calibration().write(tmp_path)
    change(tmp_path / "local.json", key, value)
    with pytest.raises(FlukeprintError, match=r"local\.json was changed.*fit-local"):
        LocalCalibration.read(tmp_path)


def test_a_file_of_another_version_or_none_is_refused(tmp_path):
    with pytest.raises(FlukeprintError, match=r"no calibration of local matching .*fit-local"):
        LocalCalibration.read(tmp_path)
    local_calibration().write(tmp_path)
    change(tmp_path / "local.json", "version", 2)
    with pytest.raises(FlukeprintError, match="has version 2"):
        LocalCalibration.read(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("first", 1), ("photos", 0), ("slope", -1.0), ("side", 9), ("sharpness", float("inf"))]
)
def test_values_that_make_no_sense_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        local_calibration(**{key: value})


def test_scores_of_other_weights_and_other_keypoints_are_refused():
    members = [MemberRecord(name=one.name, sha256="f" * 64) for one in PROVENANCE.members]
    local_calibration().refuse_other(PROVENANCE)
    with pytest.raises(FlukeprintError, match=r"local\.json was fitted to the scores of other weights"):
        local_calibration().refuse_other(PROVENANCE.model_copy(update={"members": members}))
    other = MatcherRecord(name="lightglue", weights=["a" * 64, "b" * 64])
    local_calibration().refuse_other_matcher(MatcherRecord(name="sift", weights=[]))
    with pytest.raises(FlukeprintError, match=r"by sift, and these are by lightglue aaaaaaaaaaaa\.\.\. bbbb"):
        local_calibration().refuse_other_matcher(other)
