"""A decision that is kept from an earlier run: what it must agree with, and what it says of itself."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from calibrations import calibration_of, open_set
from gallery_folder import PROVENANCE

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import check_params
from flukeprint.retrieval.provenance import MemberRecord
from flukeprint.scoring.calibration import EARLIER, CopyAgreement, read_calibration, write_calibration
from flukeprint.scoring.kept_decision import KEPT, digest_of_queries, keep, settings_of

ROOT = Path(__file__).parents[2]
SETTINGS = {"finetune.lr": 0.001, "profiles.<profile>.image_size": [32, 32]}
FITTED = {"ensemble": open_set(2.0, 0.5, 1.0, None)}


def others(**changes):
    """Return the same members with other weights."""
    members = [MemberRecord(name=one.name, sha256="f" * 64) for one in PROVENANCE.members]
    return PROVENANCE.model_copy(update={"members": members} | changes)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Put a decision in data/kept, as somebody who copies it does."""
    monkeypatch.chdir(tmp_path)
    KEPT.parent.mkdir(parents=True)

    def put(**changes):
        fields = {"scorers": FITTED, "settings": SETTINGS, "queries": "1" * 64} | changes
        write_calibration(KEPT, calibration_of(**fields))

    put()
    return put


def test_it_is_taken_over_and_says_to_what_it_was_fitted(kept):
    agreement = CopyAgreement(photos=4, agreeing=2, probability=0.5)
    run = calibration_of(settings=SETTINGS, provenance=others(), duplicates=agreement)
    found = keep(run)
    assert (found.scorers, found.provenance, found.fitted_to) == (FITTED, others(), PROVENANCE)
    assert found.duplicates == agreement  # of labels, which this run has
    assert (run.note, found.note) == (None, EARLIER)
    # Kept again it still says where it came from, and files hold all of it.
    write_calibration(KEPT, found)
    assert read_calibration(KEPT) == found
    assert keep(calibration_of(settings=SETTINGS)).fitted_to == PROVENANCE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": SETTINGS | {"finetune.lr": 0.01}}, r"finetune\.lr was 0\.001, here 0\.01\."),
        ({"settings": SETTINGS | {"finetune.new": 1}}, r"finetune\.new was None, here 1"),
        ({"share": 0.5}, r"evaluate\.new_share was 0\.325, here 0\.5"),
        ({"provenance": others(views=2)}, r"provenance\.views was 1, here 2"),
        ({"provenance": others(size=[64, 64])}, r"provenance\.size was .*, here \[64, 64\]"),
        ({"provenance": others(members=others().members[:1])}, r"ensemble\.members was \['m1', 'm2'\], here \['m1'\]"),
        ({"queries": "2" * 64}, r"made beside other queries \(select, seed\)"),
    ],
)
def test_one_that_was_fitted_to_other_settings_is_refused_by_key(kept, changes, message):
    with pytest.raises(FlukeprintError, match=rf"data/kept/decision\.json was not fitted .*{message}"):
        keep(calibration_of(**{"settings": SETTINGS, "provenance": others()} | changes))


def test_one_of_an_older_version_or_none_is_refused(kept):
    kept(settings={})
    with pytest.raises(FlukeprintError, match="an older version wrote it"):
        keep(calibration_of(settings=SETTINGS))
    KEPT.unlink()
    with pytest.raises(FlukeprintError, match=r"data/kept/decision\.json is missing\. Copy models/decision\.json"):
        keep(calibration_of(settings=SETTINGS))


def test_the_same_queries_are_no_other_ones(kept):
    assert keep(calibration_of(settings=SETTINGS, queries="1" * 64)).queries == "1" * 64


def test_settings_are_those_that_count_by_key():
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    reference = settings_of(check_params(content))
    metric = settings_of(check_params(content | {"recipe": "metric"}))
    assert (reference["finetune.lr"], metric["finetune.lr"]) == (0.0001, 0.0003)
    assert (reference["finetune.epochs"], metric["finetune.epochs"]) == (6, 28)
    assert metric["finetune.schedule.keep"] == "last"
    assert metric["profiles.<profile>.image_size"] == [64, 128]
    assert metric["profiles.<profile>.backbone.name"] == "shufflenet_v2_x0_5"
    assert settings_of(check_params(content | {"seed": 7})) == reference


def test_settings_name_what_members_have_of_their_own():
    content = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"recipe": "metric"}

    def settings(**members):
        content["profiles"]["sample"]["members"] = members
        return settings_of(check_params(content))

    plain, own = settings(), settings(m2={"image_size": 96}, m3={"image_size": "auto"})
    named = {key: value for key, value in own.items() if value != plain.get(key)}
    prefix = "profiles.<profile>.members"
    assert named == {f"{prefix}.m2.image_size": [96, 96], f"{prefix}.m3.image_size": "auto"}
    assert settings(m2={"image_size": [96, 96]}, m3={"image_size": "auto"}) == own
    backbone = settings(m2={"backbone": content["profiles"]["sample"]["backbone"]})
    assert backbone[f"{prefix}.m2.backbone.weights"] == plain["profiles.<profile>.backbone.weights"]


def test_the_digest_of_queries_is_of_their_names_in_any_order():
    table = pd.DataFrame({"Image": ["b", "a", "c"], "split": ["query", "query", "train"]})
    assert digest_of_queries(table) == digest_of_queries(table[::-1])
    assert digest_of_queries(table[table["split"] == "train"]) is None
