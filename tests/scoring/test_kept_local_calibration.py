"""A calibration of local matching that is kept from an earlier run: whose it must be, and what it says of itself."""

import pytest
from calibrations import calibration_of
from gallery_folder import PROVENANCE
from keypoint_pictures import local_calibration

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.provenance import MemberRecord
from flukeprint.scoring.calibration import EARLIER
from flukeprint.scoring.kept_local_calibration import KEPT_LOCAL, is_kept, keep_local
from flukeprint.scoring.local_calibration import LocalCalibration, MatcherRecord

MEMBERS = [MemberRecord(name=one.name, sha256="f" * 64) for one in PROVENANCE.members]
OTHERS = PROVENANCE.model_copy(update={"members": MEMBERS})
# The run answers by other weights than those that the decision was fitted to.
DECISION = calibration_of(provenance=OTHERS, fitted_to=PROVENANCE)
ASKED = {"matcher": MatcherRecord(name="sift", weights=[]), "side": 320, "first": 5, "photos": 2}


@pytest.fixture
def kept(tmp_path, monkeypatch) -> LocalCalibration:
    """Put a calibration in data/kept, as somebody who copies it does."""
    monkeypatch.chdir(tmp_path)
    KEPT_LOCAL.parent.mkdir(parents=True)
    fitted = local_calibration(slope=3.0)
    fitted.write(KEPT_LOCAL.parent)
    return fitted


def test_it_is_taken_over_and_says_to_what_it_was_fitted(kept):
    found = keep_local(DECISION, ASKED)
    assert found == kept.model_copy(update={"provenance": OTHERS, "fitted_to": PROVENANCE})
    assert (kept.note, found.note) == (None, EARLIER)
    assert found.described()["calibration_note"] == EARLIER
    # Kept again it still says where it came from, and files hold all of it.
    found.write(KEPT_LOCAL.parent)
    assert LocalCalibration.read(KEPT_LOCAL.parent) == found
    again = keep_local(DECISION.model_copy(update={"provenance": PROVENANCE}), ASKED)
    assert (again.provenance, again.fitted_to) == (PROVENANCE, PROVENANCE)


def test_it_is_there_for_kept_decisions_alone(kept):
    assert is_kept(DECISION)
    assert not is_kept(calibration_of())
    KEPT_LOCAL.unlink()
    assert not is_kept(DECISION)


def test_one_of_another_run_than_the_decision_is_refused(kept):
    with pytest.raises(FlukeprintError, match=r"data/kept/local\.json was fitted to the scores of other weights than"):
        keep_local(DECISION.model_copy(update={"fitted_to": OTHERS}), ASKED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 640}, r"way: --side was 320, here 640\."),
        ({"first": 4, "photos": 3}, r"--first was 5, here 4, --photos was 2, here 3"),
        (
            {"matcher": MatcherRecord(name="lightglue", weights=["a" * 64, "b" * 64])},
            r"--local-networks was sift, here lightglue aaaaaaaaaaaa\.\.\. bbbbbbbbbbbb",
        ),
    ],
)
def test_one_that_was_fitted_in_another_way_is_refused_by_option(kept, changes, message):
    with pytest.raises(FlukeprintError, match=message):
        keep_local(DECISION, ASKED | changes)


def test_a_changed_file_is_refused(kept):
    KEPT_LOCAL.write_text(KEPT_LOCAL.read_text().replace("320", "321"))
    with pytest.raises(FlukeprintError, match=r"data/kept/local\.json was changed"):
        keep_local(DECISION, ASKED)
