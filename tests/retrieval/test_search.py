"""What a gallery finds, against plain recomputations in float64."""

import numpy as np
import pytest
from gallery_folder import PROVENANCE, small_gallery, vectors_of
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.gallery import Gallery, build_gallery
from flukeprint.retrieval.search import Candidates, Searcher
from flukeprint.retrieval.vectors import unit


def nearest_of(gallery: Gallery, found: Candidates, depth: int) -> list[list[tuple]]:
    """The candidates by nearest photo as (id, name of the photo), best first."""
    return [
        [
            (gallery.individuals[place], gallery.photos[photo].image)
            for place, photo in zip(places[:depth], photos[:depth], strict=True)
            if place >= 0
        ]
        for places, photos in zip(found.individual, found.photo, strict=True)
    ]


def rows_of(found: Candidates) -> list[list[list[float]]]:
    arrays = (found.individual, found.nearest, found.centre, found.photo)
    return [[array[row].tolist() for array in arrays] for row in range(len(found.individual))]


def test_centres_are_the_normalised_means():
    gallery = small_gallery()
    centres = Searcher.of(gallery).centres
    for place, name in enumerate(gallery.individuals):
        own = [vector for photo, vector in zip(gallery.photos, gallery.vectors, strict=True) if photo.id == name]
        mean = np.mean(np.array(own, np.float64), axis=0)
        np.testing.assert_allclose(centres[place], mean / np.linalg.norm(mean), atol=1e-7)


def test_a_centre_of_opposite_vectors_is_zero():
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    assert not Searcher.of(build_gallery(vectors, ["a.jpg", "b.jpg"], ["w", "w"], PROVENANCE)).centres.any()


def brute_force(gallery: Gallery, query: np.ndarray, depth: int) -> list[tuple]:
    """Compare with every photo, in float64 and in the plainest way."""
    best: dict[str, tuple[float, str]] = {}
    for photo, vector in zip(gallery.photos, gallery.vectors.astype(np.float64), strict=True):
        similarity = float(vector @ query.astype(np.float64))
        if photo.id not in best or similarity > best[photo.id][0] + 1e-12:
            best[photo.id] = similarity, photo.image
    ranked = sorted(best.items(), key=lambda item: (-round(item[1][0], 12), item[0]))
    return [(name, similarity, image) for name, (similarity, image) in ranked[:depth]]


def centre_similarity(gallery: Gallery, name: str, query: np.ndarray) -> float:
    own = [vector for photo, vector in zip(gallery.photos, gallery.vectors, strict=True) if photo.id == name]
    mean = np.mean(np.array(own, np.float64), axis=0)
    return float(mean @ query / np.linalg.norm(mean) / np.linalg.norm(query.astype(np.float64)))


@pytest.mark.numeric
@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    depth=st.integers(1, 15),
    seed=st.integers(0, 1000),
    repeated=st.booleans(),
)
def test_candidates_are_those_of_brute_force(counts, depth, seed, repeated):
    """Individuals with many photos push others out of the nearest ones; copies make similarities equal."""
    ids = [f"w_{place}" for place, count in enumerate(counts) for _ in range(count)]
    vectors = vectors_of(len(ids), 4, seed)
    if repeated:
        vectors[:] = vectors[np.arange(len(ids)) % 3]
    gallery = build_gallery(vectors, [f"{n}.jpg" for n in range(len(ids))], ids, PROVENANCE)
    queries = vectors_of(3, 4, seed + 1)
    found = Searcher.of(gallery).search(queries, depth)
    for row, query in enumerate(queries):
        everybody = {name: (similarity, image) for name, similarity, image in brute_force(gallery, query, 100)}
        centre = {name: centre_similarity(gallery, name, query) for name in everybody}
        places = found.individual[row][found.filled[row]]
        names = [gallery.individuals[place] for place in places]
        by_nearest = [name for name, *_ in brute_force(gallery, query, depth)]
        by_centre = sorted(centre, key=lambda name: (-round(centre[name], 6), name))[:depth]
        assert names[: len(by_nearest)] == by_nearest
        # Centres of float32 may differ in the last place that decides between two of them.
        least = centre[by_centre[-1]]
        assert {name for name in names if name not in by_nearest} <= {
            name for name, value in centre.items() if value >= least - 1e-6
        }
        assert set(names) >= {name for name, value in centre.items() if value > least + 1e-6}
        for place, near, middle, photo in zip(
            places, found.nearest[row], found.centre[row], found.photo[row], strict=False
        ):
            name = gallery.individuals[place]
            assert (near, gallery.photos[photo].image) == (
                pytest.approx(everybody[name][0], abs=1e-6), everybody[name][1]
            )  # fmt: skip
            assert middle == pytest.approx(centre[name], abs=1e-6)
        assert (np.diff(found.nearest[row][found.filled[row]]) <= 0).all()


@pytest.mark.numeric
@pytest.mark.parametrize("exact_up_to", [10_000, 100])
def test_one_individual_with_most_photos_leaves_room_for_the_others(exact_up_to):
    """All photos near the query are of one individual, so more are fetched, and in the end all are looked at."""
    rng = np.random.default_rng(0)
    query = vectors_of(1, 16)
    near = query + 0.05 * rng.normal(size=(3000, 16)).astype(np.float32)
    vectors = np.concatenate([near / np.linalg.norm(near, axis=1, keepdims=True), vectors_of(20, 16, 1)])
    ids = ["w_often"] * 3000 + [f"w_{n}" for n in range(20)]
    gallery = build_gallery(vectors, [f"{n}.jpg" for n in range(3020)], ids, PROVENANCE, exact_up_to=exact_up_to)
    # Enough queries that FAISS is asked, which finds the often photographed one alone.
    found = Searcher.of(gallery).search(np.repeat(query, 30, axis=0), 8)
    expected = brute_force(gallery, query[0], 8)
    assert nearest_of(gallery, found, 8) == [[(name, image) for name, _, image in expected]] * 30


@pytest.mark.numeric
@pytest.mark.parametrize("exact_up_to", [10_000, 100])
def test_a_query_has_the_same_candidates_alone_and_among_others(exact_up_to):
    searcher = Searcher.of(small_gallery(900, exact_up_to, 16))
    queries = vectors_of(64, 16, 1)
    alone = [rows_of(searcher.search(query[None], 5))[0] for query in queries]
    assert alone == rows_of(searcher.search(queries, 5))


@pytest.mark.numeric
@pytest.mark.parametrize("depth", [5, 30])
def test_copies_of_a_photo_are_ordered_by_name_alone_and_among_others(depth):
    """Matrix products give equal vectors other last bits in the last rows; the answer must not depend on them."""
    vectors = vectors_of(363, 512)
    ids = [f"w_{n % 30:02}" for n in range(363)]
    for last in (f"w_{n:02}" for n in range(25, 30)):
        own = [n for n, name in enumerate(ids) if name == last]
        vectors[own[1:]] = vectors[own[0]]
    gallery = build_gallery(vectors, [f"{n:03}.jpg" for n in range(363)], ids, PROVENANCE)
    queries = vectors_of(40, 512, 1)
    searcher = Searcher.of(gallery)
    found = searcher.search(queries, depth)
    assert [rows_of(searcher.search(query[None], depth))[0] for query in queries] == rows_of(found)
    for query, best in zip(queries, nearest_of(gallery, found, depth), strict=True):
        assert best == [(name, image) for name, _, image in brute_force(gallery, query, depth)]


def test_individuals_that_are_named_come_along_with_exact_similarities():
    gallery = small_gallery(900, 1000, 16)
    searcher, queries = Searcher.of(gallery), vectors_of(40, 16, 1)
    everybody = searcher.search(queries, 300)
    named = np.random.default_rng(2).integers(-1, 300, size=(40, 4))
    found = searcher.search(queries, 5, named)
    assert found.individual.shape == (40, 14)
    for row in range(40):
        places = found.individual[row][found.filled[row]].tolist()
        assert len(set(places)) == len(places)
        assert set(named[row][named[row] >= 0]) <= set(places)
        at = [everybody.individual[row].tolist().index(place) for place in places]
        for array, whole in ((found.nearest, everybody.nearest), (found.centre, everybody.centre)):
            assert array[row][: len(at)].tolist() == whole[row][at].tolist()
    assert rows_of(found.best(5)) == rows_of(searcher.search(queries, 5))


def test_an_individual_that_is_near_by_its_centre_alone_is_found():
    """Two photos on either side of the query: their mean is the query itself, many photos are nearer than they."""
    query = np.eye(8, dtype=np.float32)[:1]
    others = unit(query + 0.6 * vectors_of(200, 8, 1))
    sides = unit(np.stack([query[0] + np.eye(8)[1] * 2, query[0] - np.eye(8)[1] * 2]).astype(np.float32))
    ids = [f"w_{n:03}" for n in range(200)] + ["w_centre"] * 2
    gallery = build_gallery(np.concatenate([others, sides]), [f"{n}.jpg" for n in range(202)], ids, PROVENANCE)
    found = Searcher.of(gallery).search(query)
    place = gallery.individuals.index("w_centre")
    [column] = np.flatnonzero(found.individual[0] == place)
    assert found.centre[0, column] == pytest.approx(1, abs=1e-6)
    assert found.nearest[0, column] == pytest.approx(1 / np.sqrt(5), abs=1e-6)
    assert found.nearest[0, : found.filled[0].sum()].min() == found.nearest[0, column]


def test_no_queries_and_no_photos():
    empty = build_gallery(vectors_of(0), [], [], PROVENANCE)
    assert not Searcher.of(empty).search(vectors_of(2), 5).filled.any()
    assert Searcher.of(small_gallery()).search(vectors_of(0), 5).individual.shape == (0, 10)


@pytest.mark.parametrize("queries", [np.zeros((1, 7), np.float32), np.zeros(8, np.float32), np.full((1, 8), np.nan)])
def test_queries_that_are_refused(queries):
    with pytest.raises(FlukeprintError, match=r"expected \(queries, 8\)|not a number"):
        Searcher.of(small_gallery()).search(queries, 5)


@pytest.mark.parametrize("exact_up_to", [10_000, 100])
def test_without_centres_the_nearest_are_the_same(exact_up_to):
    searcher, queries = Searcher.of(small_gallery(900, exact_up_to, 16)), vectors_of(40, 16, 1)
    both, one = searcher.search(queries, 5), searcher.search(queries, 5, by_centre=False)
    np.testing.assert_array_equal(one.individual[:, :5], both.individual[:, :5])
    np.testing.assert_array_equal(one.nearest[:, :5], both.nearest[:, :5])
    assert one.filled.sum() < both.filled.sum()


# --- codes ---


def clustered(photos: int, seed: int, dimension: int = 160) -> np.ndarray:
    """Photos around 300 centres, with more axes than codes keep."""
    centres = np.random.default_rng(0).normal(size=(300, dimension))
    rng = np.random.default_rng(seed)
    return unit((centres[rng.integers(0, 300, photos)] + rng.normal(size=(photos, dimension))).astype(np.float32))


@pytest.mark.numeric
def test_codes_find_the_nearest_photos_and_centres():
    """Few of the photos are compared with a query, they hold nearly all of the nearest, and are scored exactly."""
    names, ids = [f"{n}.jpg" for n in range(12_000)], [f"w_{n // 2}" for n in range(12_000)]
    gallery = build_gallery(clustered(12_000, 1), names, ids, PROVENANCE, exact_up_to=5000)
    assert gallery.codes is not None
    assert gallery.codes.fetched < 2000
    searcher, queries = Searcher.of(gallery), clustered(200, 2)
    found = searcher.search(queries, 5)
    exact = Searcher(gallery.vectors.astype(np.float32), gallery.individual).search(queries, 5)
    there = (exact.individual[:, :, None] == found.individual[:, None, :]).any(axis=2)
    assert there[:, :5].mean() >= 0.99
    assert there[exact.filled].mean() >= 0.98
    shared = (found.individual == exact.individual) & exact.filled
    assert (found.nearest[shared] == exact.nearest[shared]).all()


@pytest.mark.numeric
def test_codes_are_coordinates_along_the_axes_of_most_variance():
    """16 dimensions have 16 axes; what the codes give back differs from the vectors by a part of a step."""
    gallery = small_gallery(900, 500, 16)
    assert gallery.vectors.dtype == np.float16
    axes, codes = gallery.codes.axes, gallery.codes.codes
    levels = np.stack([codes & 15, codes >> 4], axis=2).reshape(900, 16) - 7.5
    steps = 1 / np.linalg.norm(axes[:, :-1], axis=1)
    assert (np.diff(steps) <= 0).all()
    units = axes[:, :-1] * steps[:, None]
    np.testing.assert_allclose(units @ units.T, np.eye(16), atol=1e-5)
    kept = (levels + axes[:, -1]) * steps @ units
    spread = np.square(gallery.vectors - gallery.vectors.mean(axis=0, dtype=np.float32)).sum()
    # 4 bits for a normal coordinate lose 1.15 % (Max 1960).
    assert np.square(gallery.vectors - kept).sum() / spread < 0.013


@pytest.mark.numeric
def test_as_many_codes_are_fetched_as_the_recall_takes():
    """Vectors without any structure beyond 128 axes: by their codes alone most of the nearest would be missed."""
    vectors = vectors_of(1000, 1024)
    ids = [f"w_{n:03}" for n in range(1000)]
    gallery = build_gallery(vectors, [f"{n}.jpg" for n in range(1000)], ids, PROVENANCE, exact_up_to=0)
    assert len(gallery.codes.axes) == 128
    assert 300 < gallery.codes.fetched <= 1000
    queries = unit(vectors[:100] + 0.5 * vectors_of(100, 1024, 1))
    found, exact = (one.search(queries, 5) for one in (Searcher.of(gallery), Searcher(vectors, np.arange(1000))))
    there = (exact.individual[:, :5, None] == found.individual[:, None, :]).any(axis=2)
    assert there.mean() >= 0.99


def test_vectors_of_few_directions_have_few_axes():
    """20 directions of 64, the rest a hundredth of them: 97 % of the variance are on as many axes, in steps of 16."""
    scales = np.where(np.arange(64) < 20, 1, 0.1)
    vectors = unit((np.random.default_rng(0).normal(size=(600, 64)) * scales).astype(np.float32))
    ids = [f"w_{n}" for n in range(600)]
    gallery = build_gallery(vectors, [f"{n}.jpg" for n in range(600)], ids, PROVENANCE, exact_up_to=0)
    assert (gallery.codes.axes.shape, gallery.codes.codes.shape) == ((32, 65), (600, 16))


@pytest.mark.parametrize("photos", [1, 2, 3])
def test_the_smallest_galleries_may_have_codes(photos):
    ids = [f"w_{n}" for n in range(photos)]
    gallery = build_gallery(vectors_of(photos), [f"{n}.jpg" for n in range(photos)], ids, PROVENANCE, exact_up_to=0)
    assert gallery.codes is not None
    assert Searcher.of(gallery).search(vectors_of(photos), 1).individual[:, 0].tolist() == list(range(photos))


def test_no_codes_up_to_so_many_photos():
    gallery = small_gallery(900, 900, 16)
    assert (gallery.codes, gallery.vectors.dtype) == (None, np.float32)


@pytest.mark.numeric
def test_codes_are_made_alike_twice():
    one, two = (small_gallery(900, 500, 16).codes for _ in range(2))
    np.testing.assert_array_equal(one.axes, two.axes)
    np.testing.assert_array_equal(one.codes, two.codes)
    assert one.fetched == two.fetched
