"""Bounds of cosines, and that a search through them answers as one without."""

import numpy as np
import pytest
from gallery_folder import vectors_of

from flukeprint.retrieval import search
from flukeprint.retrieval.bounds import new_bounds
from flukeprint.retrieval.search import Searcher
from flukeprint.retrieval.vectors import unit

DIMENSION = 128


def along_few_axes(photos: int, seed: int, beside: float = 0.02) -> np.ndarray:
    """Vectors that 10 of 128 axes nearly hold."""
    scales = np.where(np.arange(DIMENSION) < 10, 1, beside)
    return unit((np.random.default_rng(seed).normal(size=(photos, DIMENSION)) * scales).astype(np.float32))


SHAPES = {
    "few axes": along_few_axes,
    "no axis counts": lambda photos, seed: vectors_of(photos, DIMENSION, seed),
    "on the axes": lambda photos, seed: along_few_axes(photos, seed, 0.0),
    "some of zeros": lambda photos, seed: along_few_axes(photos, seed) * (np.arange(photos)[:, None] % 5 > 0),
}


@pytest.mark.numeric
@pytest.mark.parametrize("shape", SHAPES)
def test_no_bound_is_below_the_inner_product(shape):
    vectors, queries = SHAPES[shape](3000, 1).astype(np.float32), SHAPES[shape](200, 2).astype(np.float32)
    values, rows = new_bounds(vectors).highest(queries, len(vectors))
    exact = np.einsum("qd,qkd->qk", queries.astype(float), vectors[rows].astype(float))
    assert (values >= exact - 1e-6).all()
    assert (np.diff(values, axis=1) <= 0).all()
    if shape != "no axis counts":
        assert (values - exact).max() < 0.1


@pytest.mark.numeric
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("queries", [0, 3, 200])
def test_a_search_through_bounds_answers_as_one_without(shape, queries):
    vectors, asked = SHAPES[shape](3000, 1).astype(np.float32), SHAPES[shape](queries, 2).astype(np.float32)
    place = np.arange(3000) // 3
    plain, bounded = Searcher(vectors, place), Searcher(vectors, place, bounds=new_bounds(vectors))
    named = np.full((queries, 2), 7)
    for by_centre in (True, False):
        one, other = (each.search(asked, 20, named, by_centre=by_centre) for each in (plain, bounded))
        for field in ("individual", "nearest", "centre", "photo"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_where_few_axes_hold_the_vectors_few_are_compared(monkeypatch):
    vectors, asked = along_few_axes(3000, 1), along_few_axes(200, 2)
    searcher = Searcher(vectors, np.arange(3000) // 3, bounds=new_bounds(vectors))
    expected = Searcher(vectors, np.arange(3000) // 3).search(asked, 5)
    monkeypatch.setattr(search._Neighbours, "_by_vectors", None)
    monkeypatch.setattr(search._Neighbours, "_of_all", None)
    np.testing.assert_array_equal(searcher.search(asked, 5).individual, expected.individual)
