"""Ids that look alike, and ids that say that nobody knows the whale."""

import pytest
import yaml
from imports import ROOT

from flukeprint.data.spellings import UNKNOWN_WORDS, look_alikes, looks_like, unknown_among, usual_spellings


@pytest.mark.parametrize(
    "alike",
    [
        ("001", "1", "1.0", "1.00", "\uff11"),
        ("HW-1-23", "hw_1.23", "HW 01-23", "HW1--23"),
        ("w_cbdbe84", "W_CBDBE84", "w-cbdbe84", "w_\u200bcbdbe84"),
        ("Jos\u00e9", "Jose\u0301", "JOS\u00c9"),
        ("HW-001", "hw1"),
    ],
)
def test_spellings_of_one_id_are_one_group(alike):
    assert [sorted(group) for group in look_alikes(alike).values()] == [sorted(alike)]


@pytest.mark.parametrize(
    ("one", "other"),
    [("HW-1-23", "HW-12-3"), ("HW-1-23", "HW-123"), ("1", "10"), ("1a01", "01a1"), ("1.5", "15"), ("?", "??")],
)
def test_ids_that_differ_in_what_counts_are_two_groups(one, other):
    assert len(look_alikes([one, other])) == 2


def test_the_most_frequent_spelling_is_the_usual_one_and_new_whale_always():
    labels = ["w_a", "w_a", "W-A", "New_Whale", "New_Whale", "w_b"]
    assert usual_spellings(labels) == {"w_a": "w_a", "W-A": "w_a", "New_Whale": "new_whale", "w_b": "w_b"}


def test_an_id_is_looked_up_among_known_ones_and_new_whale():
    assert looks_like("W_A", ["w_a", "w-a", "w_b"]) == ["w-a", "w_a"]
    assert looks_like("w_a", ["w_a"]) == []
    assert looks_like("New Whale", []) == ["new_whale"]


def test_words_and_marks_that_name_nobody():
    unknown = {"Unknown", "NA", "n/a", "n.a.", "none", "?", "--", "UNID.", "New Whale", "No ID"}
    assert unknown_among({*unknown, "new_whale", "w_none", "1", "\u9be8"}) == unknown
    assert unknown_among(["Inconnu", "none"], ["inconnu"]) == {"Inconnu"}


def test_params_list_the_same_words():
    words = yaml.safe_load((ROOT / "params.yaml").read_text())["validate"]["unknown"]["words"]
    assert sorted(words) == sorted(UNKNOWN_WORDS)
