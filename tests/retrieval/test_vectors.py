from threading import Barrier

import faiss
import numpy as np
import pytest

from flukeprint.retrieval.vectors import (
    EmbeddedPhotos,
    chunks,
    highest,
    on_all_threads,
    photo_vectors,
    unit,
    vectors_of,
)


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("views", [1, 2])
def test_the_inner_product_is_the_mean_cosine_over_members_and_views(views):
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=(3, 2, features)).astype(np.float32) for features in (4, 7)]
    vectors = photo_vectors(parts, views)
    for i in range(3):
        for j in range(3):
            mean = np.mean([cosine(part[i, view], part[j, view]) for part in parts for view in range(views)])
            assert vectors[i] @ vectors[j] == pytest.approx(mean, abs=1e-6)


def test_a_vector_of_zeros_stays():
    assert not unit(np.zeros((2, 3), np.float32)).any()


@pytest.mark.numeric
def test_vectors_do_not_depend_on_how_photos_are_cut(monkeypatch):
    generator = np.random.default_rng(1)
    parts = [generator.normal(size=(40, 2, width)).astype(np.float32) for width in (3, 5)]
    rows = generator.permutation(40)
    whole = vectors_of(parts, rows, 2)
    np.testing.assert_array_equal(whole, photo_vectors([part[rows] for part in parts], 2))
    monkeypatch.setattr("flukeprint.retrieval.vectors.chunks", lambda rows: chunks(rows, 7))
    np.testing.assert_array_equal(vectors_of(parts, rows, 2), whole)


def test_embedded_photos_are_made_where_they_are_asked_for():
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=(9, 2, features)).astype(np.float32) for features in (4, 7)]
    photos = EmbeddedPhotos(parts, np.array([8, 0, 3]), 2)
    assert photos.shape == (3, 22)
    np.testing.assert_array_equal(photos[np.array([2, 0])], photo_vectors([part[[3, 8]] for part in parts], 2))


def test_items_are_worked_on_by_as_many_threads_at_once_as_faiss_has():
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    met = Barrier(3, timeout=20)
    try:
        assert sorted(on_all_threads(lambda item: (met.wait(), item)[1], [5, 6, 7])) == [5, 6, 7]
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(threads)


@pytest.mark.parametrize("queries", [1, 30, 300])
def test_the_highest_inner_products(queries):
    generator = np.random.default_rng(2)
    asked, vectors = (generator.normal(size=(count, 16)).astype(np.float32) for count in (queries, 500))
    values, rows = highest(asked, vectors, 7)
    expected = np.argsort(-(asked @ vectors.T), axis=1)[:, :7]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(values, np.take_along_axis(asked @ vectors.T, expected, axis=1), rtol=1e-5)
