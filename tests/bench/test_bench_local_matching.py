"""The bench of local matching: who stands where after the fusion, and that nobody is answered by a fit to himself."""

from types import SimpleNamespace

import numpy as np
import pytest

from bench.local_matching import folded, known_hits, reordered
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.local_calibration import FusionFit, LookedAt

FIT = FusionFit(2.0, -5.0, 1.5, 1.0, 1.5, 9, 6, 40)


def test_labels_stand_in_the_order_of_their_new_probabilities():
    answers = SimpleNamespace(labels=[["a", NEW_WHALE, "b", "c"]], probabilities=[[0.4, 0.3, 0.2, 0.02]])
    looked_at = LookedAt(["a", "b"], np.array([0.4, 0.2]), np.array([0, 40]))
    assert reordered(SimpleNamespace(answers=answers), 0, looked_at, FIT) == ["b", NEW_WHALE, "a", "c"]
    nothing = LookedAt([], np.zeros(0), np.zeros(0, np.int64))
    assert reordered(SimpleNamespace(answers=answers), 0, nothing, FIT) == ["a", NEW_WHALE, "b", "c"]


def test_new_whale_takes_no_rank_among_known_whales():
    hits = known_hits(["b", "c"], [[NEW_WHALE, "b"], [*"defgh", NEW_WHALE, "c"]])
    assert hits.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_query_is_answered_by_a_fit_to_others(monkeypatch):
    ids = [f"w_{number // 2}" for number in range(40)]
    photos = [SimpleNamespace(id=label, image=f"{number}.jpg") for number, label in enumerate(ids)]
    asked = SimpleNamespace(photos=photos, truth=ids, weights=np.ones(40))
    monkeypatch.setattr("bench.local_matching.fit_fusion", lambda rows, names, _: (rows, set(names)))
    fits = folded(asked, list(range(40)))
    for row, (rows, names) in enumerate(fits):
        assert ids[row] not in names
        assert row not in rows
        assert len(rows) == pytest.approx(32, abs=4)
