"""The spread of an embedding, against plain recomputations, and where it is called collapsed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.metrics.spread import LEAST_INDIVIDUALS, Spread, spread_of


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 12))
def test_the_mean_cosine_is_that_of_all_pairs_of_two_individuals(seed, n, dimension):
    generator = np.random.default_rng(seed)
    vectors, names = unit(generator.normal(size=(n, dimension))), generator.integers(0, 4, n)
    names[:2] = (0, 1)
    cosines = vectors @ vectors.T
    expected = cosines[names[:, None] != names[None]].mean()
    assert spread_of(vectors, names).mean_cosine == pytest.approx(expected, abs=1e-6)


def test_the_effective_rank_counts_directions():
    names = np.arange(12)
    assert spread_of(np.eye(12), names).effective_rank == pytest.approx(12, abs=1e-3)
    assert spread_of(np.repeat(np.eye(12)[:3], 4, axis=0), names).effective_rank == pytest.approx(3, abs=1e-3)
    assert spread_of(np.ones((12, 4)) / 2, names).effective_rank == pytest.approx(1, abs=1e-3)


def test_more_vectors_than_dimensions_and_fewer_give_the_same_rank():
    vectors = unit(np.random.default_rng(0).normal(size=(30, 7)))
    wide = np.concatenate([vectors, np.zeros((30, 40))], axis=1)
    names = np.arange(30)
    assert spread_of(vectors, names).effective_rank == pytest.approx(spread_of(wide, names).effective_rank, abs=1e-3)


def test_vectors_all_alike_have_collapsed_and_vectors_apart_have_not():
    generator = np.random.default_rng(0)
    names = np.repeat(np.arange(20), 2)
    alike = unit(np.ones((40, 16)) + 1e-3 * generator.normal(size=(40, 16)))
    poles = unit(np.outer(np.where(generator.random(40) < 0.5, 1.0, -1.0), np.ones(16)))
    apart = unit(generator.normal(size=(40, 16)))
    assert spread_of(alike, names).collapsed
    assert spread_of(poles, names).collapsed
    assert not spread_of(apart, names).collapsed


def test_few_individuals_are_never_called_collapsed():
    assert not Spread(LEAST_INDIVIDUALS - 1, 1.0, 1.0).collapsed
    assert Spread(LEAST_INDIVIDUALS, 1.0, 1.0).collapsed
    assert spread_of(np.ones((3, 2)) / np.sqrt(2), ["a", "a", "a"]) is None
