"""Similarities to an individual's nearest photo and to its centre, against a recomputation in float64."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.individuals import Individuals, align, similarities, vectors_of
from flukeprint.scoring.candidates import combined_candidates
from flukeprint.scoring.registry import BLEND, ENSEMBLE, GALLERY, GALLERY_CENTRE, GALLERY_NEAREST
from flukeprint.scoring.scorers import Member, classify

LABELS = [f"w_{number}" for number in range(5)]


def embeddings(seed: int, n: int = 40) -> list[np.ndarray]:
    """Two members' embeddings, of different width, in two views."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(n, 2, width)).astype(np.float32) for width in (3, 5)]


def photos(seed: int, n: int = 30) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    labels = [*LABELS, *generator.choice([*LABELS, NEW_WHALE], n - len(LABELS))]
    return pd.DataFrame({"Id": labels, "pixel": generator.permutation(n)})


def mean_cosine(parts: list[np.ndarray], one: int, other: int, views: int) -> float:
    """The definition: the mean over members and views of the cosine similarity."""
    pairs = [
        (part[one, view].astype(float), part[other, view].astype(float)) for part in parts for view in range(views)
    ]
    return float(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]))


def joined_vector(parts: list[np.ndarray], row: int, views: int) -> np.ndarray:
    found = [part[row, view].astype(float) for part in parts for view in range(views)]
    return np.concatenate([one / np.linalg.norm(one) for one in found]) / np.sqrt(len(found))


@pytest.mark.numeric
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), views=st.sampled_from([1, 2]))
def test_nearest_and_centre_are_those_of_the_definition(seed, views):
    parts, table = embeddings(seed), photos(seed)
    gallery = Individuals.of(table, parts, views)
    assert gallery.labels == LABELS
    queries = vectors_of(parts, np.arange(30, 40), views)
    nearest, centre, new = gallery.nearest(queries), gallery.centre(queries), gallery.nearest_new(queries)
    for number, row in enumerate(range(30, 40)):
        for column, label in enumerate(LABELS):
            own = table.loc[table["Id"] == label, "pixel"]
            expected = max(mean_cosine(parts, row, other, views) for other in own)
            assert nearest[number, column] == pytest.approx(expected, abs=1e-6)
            mean = np.mean([joined_vector(parts, other, views) for other in own], axis=0)
            expected = joined_vector(parts, row, views) @ mean / np.linalg.norm(mean)
            assert centre[number, column] == pytest.approx(expected, abs=1e-6)
        whales = table.loc[table["Id"] == NEW_WHALE, "pixel"]
        expected = max((mean_cosine(parts, row, other, views) for other in whales), default=np.nan)
        assert new[number] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_gallery_without_new_whale_or_without_photos():
    parts = embeddings(0)
    queries = vectors_of(parts, np.arange(3), 1)
    known = Individuals.of(pd.DataFrame({"Id": ["a", "b"], "pixel": [5, 6]}), parts, 1)
    assert np.isnan(known.nearest_new(queries)).all()
    empty = Individuals.of(pd.DataFrame({"Id": [NEW_WHALE], "pixel": [5]}), parts, 1)
    assert empty.labels == []
    assert empty.nearest(queries).shape == empty.centre(queries).shape == (3, 0)


def test_a_label_that_the_head_does_not_know_gets_its_smallest_score():
    scores = np.array([[-1.0, -2.0, -3.0]], np.float32)
    aligned, new = align(scores, ["a", NEW_WHALE, "c"], ["a", "b", "c"])
    assert aligned.tolist() == [[-1.0, -3.0, -3.0]]
    assert new.tolist() == [-2.0]
    assert np.isnan(align(scores, ["a", "b", "c"], ["c"])[1]).all()


def test_candidates_of_several_features_are_the_union_of_the_best_by_each():
    first = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]], np.float32)
    second = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 1.0]], np.float32)
    found = combined_candidates([first, second], ["a", "b", "c", "d"], np.array([[0.5], [np.nan]], np.float32), 1)
    assert found.candidates == [["a", "d"], ["d"]]
    assert [row.tolist() for row in found.features] == [[3.0, 0.0, 0.0, 3.0], [1.0, 1.0]]
    assert [row.tolist() for row in found.scores] == [[3.0, 0.0], [1.0]]
    assert found.new_features[0].tolist() == [0.5]


@pytest.mark.numeric
def test_the_scorers_of_the_gallery_hold_exact_features():
    parts, table = embeddings(3), photos(3)
    labels = sorted(set(table["Id"]))
    members = []
    for number, part in enumerate(parts):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            members.append(Member(f"m{number}", nn.Linear(part.shape[2], len(labels)), labels, part))
    gallery = Individuals.of(table, parts, 1)
    scored = classify(members, np.arange(30, 40), 1, gallery=gallery)
    assert list(scored) == ["m0", "m1", ENSEMBLE, GALLERY_NEAREST, GALLERY_CENTRE, GALLERY, BLEND]
    by_head, new = scored[ENSEMBLE], scored[ENSEMBLE].new_score
    for row in range(10):
        values = {
            name: dict(zip(scored[name].candidates[row], scored[name].scores[row].tolist(), strict=True))
            for name in (GALLERY_NEAREST, GALLERY_CENTRE, ENSEMBLE)
        }
        features = scored[BLEND].features[row].reshape(-1, 3)
        for label, (nearest, centre, head) in zip(scored[BLEND].candidates[row], features.tolist(), strict=True):
            assert (nearest, centre, head) == tuple(
                values[name][label] for name in (GALLERY_NEAREST, GALLERY_CENTRE, ENSEMBLE)
            )
        assert scored[BLEND].new_features[row][0] == new[row]
        assert scored[GALLERY].features[row].reshape(-1, 2).tolist() == features[:, :2].tolist()
    assert by_head.features is None


@pytest.mark.numeric
def test_similarities_do_not_depend_on_how_photos_are_cut(monkeypatch):
    parts = embeddings(1)
    rows, asked = np.random.default_rng(0).permutation(40), np.arange(40) % 3 == 0
    whole = similarities(parts, rows, asked, 2)
    monkeypatch.setattr("flukeprint.retrieval.individuals.CHUNK", 7)
    np.testing.assert_allclose(similarities(parts, rows, asked, 2), whole, atol=1e-6)
    assert whole[1, 5] == pytest.approx(mean_cosine(parts, rows[3], rows[5], 2), abs=1e-6)
