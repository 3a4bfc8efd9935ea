"""What a gallery holds, how it changes, and what it finds, against plain recomputations."""

from dataclasses import replace

import numpy as np
import pytest
from gallery_folder import PROVENANCE, small_gallery, vectors_of
from hypothesis import given, settings
from hypothesis import strategies as st

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.gallery import Gallery, build_gallery
from flukeprint.retrieval.search import Searcher


def content(gallery: Gallery) -> dict:
    return {photo: tuple(vector) for photo, vector in zip(gallery.photos, gallery.vectors.tolist(), strict=True)}


def same(one: Gallery, two: Gallery) -> bool:
    return list(one.photos) == list(two.photos) and one.vectors.tobytes() == two.vectors.tobytes()


# --- contents ---


def test_a_photo_keeps_its_vector_id_and_hash():
    vectors = vectors_of(12)
    gallery = small_gallery()
    assert gallery.individuals == ["w_0", "w_1", "w_2", "w_3"]
    for n in range(12):
        row = [photo.image for photo in gallery.photos].index(f"{n}.jpg")
        assert gallery.photos[row] == (f"w_{n % 4}", f"{n}.jpg", f"{n:064x}")
        np.testing.assert_array_equal(gallery.vectors[row], vectors[n])
        assert gallery.individuals[gallery.individual[row]] == f"w_{n % 4}"


def test_the_order_of_the_photos_does_not_matter():
    order = np.random.default_rng(3).permutation(12)
    vectors = vectors_of(12)
    mixed = build_gallery(
        vectors[order],
        [f"{n}.jpg" for n in order],
        [f"w_{n % 4}" for n in order],
        PROVENANCE,
        [f"{n:064x}" for n in order],
    )
    assert same(mixed, small_gallery())


def test_centres_are_the_normalised_means():
    gallery = small_gallery()
    for place, name in enumerate(gallery.individuals):
        own = [vector for photo, vector in zip(gallery.photos, gallery.vectors, strict=True) if photo.id == name]
        mean = np.mean(np.array(own, np.float64), axis=0)
        np.testing.assert_allclose(gallery.centres[place], mean / np.linalg.norm(mean), atol=1e-7)


def test_a_centre_of_opposite_vectors_is_zero():
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    assert not build_gallery(vectors, ["a.jpg", "b.jpg"], ["w", "w"], PROVENANCE).centres.any()


def test_add_then_remove_is_as_before():
    gallery = small_gallery()
    added = gallery.add(vectors_of(2, seed=5), ["x.jpg", "a.jpg"], ["w_new", "w_1"], ["f" * 64, None])
    assert len(added) == 14
    assert "w_new" in added.individuals
    assert added.photos[0].id == "w_0"
    np.testing.assert_array_equal(content(added)["w_new", "x.jpg", "f" * 64], vectors_of(2, seed=5)[0])
    assert same(added.remove(images=["x.jpg", "a.jpg"]), gallery)


def test_remove_an_individual_with_all_its_photos():
    gallery = small_gallery().remove(ids=["w_2"], images=["0.jpg"])
    assert gallery.individuals == ["w_0", "w_1", "w_3"]
    assert len(gallery) == 8
    assert "0.jpg" not in [photo.image for photo in gallery.photos]


@pytest.mark.parametrize("unknown", [{"ids": ["w_9"]}, {"images": ["w_1"]}])
def test_what_is_not_there_cannot_be_removed(unknown):
    with pytest.raises(FlukeprintError, match=r"has no (individual|photo) 'w_"):
        small_gallery().remove(**unknown)


def test_an_empty_gallery_finds_nothing_and_can_be_filled():
    empty = small_gallery().remove(ids=["w_0", "w_1", "w_2", "w_3"])
    assert len(empty) == 0
    assert Searcher(empty).search(vectors_of(2), 5) == [[], []]
    assert len(empty.add(vectors_of(1), ["a.jpg"], ["w"])) == 1


def test_rename_and_join_individuals():
    gallery = small_gallery()
    renamed = gallery.rename("w_1", "w_x")
    assert renamed.individuals == ["w_0", "w_2", "w_3", "w_x"]
    assert same(renamed.rename("w_x", "w_1"), gallery)
    joined = gallery.rename("w_1", "w_0")
    assert joined.individuals == ["w_0", "w_2", "w_3"]
    assert np.bincount(joined.individual).tolist() == [6, 3, 3]
    assert {photo[1:]: vector for photo, vector in content(joined).items()} == {
        photo[1:]: vector for photo, vector in content(gallery).items()
    }
    with pytest.raises(FlukeprintError, match="no individual 'w_9'"):
        gallery.rename("w_9", "w_0")
    with pytest.raises(FlukeprintError, match="cannot be used"):
        gallery.rename("w_0", "../w")


def test_merge_keeps_common_photos_once():
    gallery = small_gallery()
    one, two = gallery.remove(ids=["w_0"]), gallery.remove(ids=["w_3"])
    assert same(one.merge(two), gallery)
    assert same(two.merge(one), gallery)
    assert same(gallery.merge(gallery), gallery)


def test_merge_refuses_a_name_for_two_photos_and_a_file_with_two_ids():
    gallery = small_gallery()
    named = build_gallery(vectors_of(1), ["0.jpg"], ["w_0"], PROVENANCE, ["e" * 64])
    with pytest.raises(FlukeprintError, match="two photos would be called '0.jpg'"):
        gallery.merge(named)
    copied = build_gallery(vectors_of(1), ["copy.jpg"], ["w_9"], PROVENANCE, [f"{0:064x}"])
    with pytest.raises(FlukeprintError, match=r"'copy.jpg' for 'w_9' is the same file as '0.jpg' of 'w_0'.*Decide"):
        gallery.merge(copied)
    assert len(gallery.merge(copied, allow_copies=True)) == 13


def test_add_refuses_a_copy_and_a_name_that_is_there():
    gallery = small_gallery()
    with pytest.raises(FlukeprintError, match=r"same file as '1.jpg'.*Leave it out"):
        gallery.add(vectors_of(1), ["copy.jpg"], ["w_1"], [f"{1:064x}"])
    with pytest.raises(FlukeprintError, match=r"same file as 'a.jpg'"):
        gallery.add(vectors_of(2), ["a.jpg", "b.jpg"], ["w_1", "w_1"], ["e" * 64] * 2)
    with pytest.raises(FlukeprintError, match="two photos would be called '1.jpg'"):
        gallery.add(vectors_of(1), ["1.jpg"], ["w_1"])
    assert len(gallery.add(vectors_of(2), ["a.jpg", "b.jpg"], ["w_1", "w_1"])) == 14


def test_a_file_with_two_ids_is_built_with_a_warning(caplog):
    build_gallery(vectors_of(2), ["a.jpg", "b.jpg"], ["w_1", "w_2"], PROVENANCE, ["e" * 64] * 2)
    assert "1 file(s) are in the gallery under two ids, such as a.jpg (w_1) and b.jpg (w_2)" in caplog.text


BAD_IDS = [
    "", "new_whale", "a b", "a\n", "a\x00", "a\x1b[2J", "a\u202eb", "a\u200b", "../a", "..", ".", "a/b", "a\\b",
    "=1+1", "@a", "-rf", "w" * 65, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_are_refused(name):
    with pytest.raises(FlukeprintError, match=r"cannot be used|no individual"):
        small_gallery().add(vectors_of(1), ["a.jpg"], [name])


@pytest.mark.parametrize("name", ["w_1287fbc", "w" * 64, "Ägir", "A.1", "HW-MN0500234"])
def test_ids_that_are_taken(name):
    assert name in small_gallery().add(vectors_of(1), ["a.jpg"], [name]).individuals


@pytest.mark.parametrize(
    "name", ["", "../a.jpg", "a/b.jpg", ".a.jpg", "a\\b.jpg", "C:a.jpg", "a\x07.jpg", "a\u202e.jpg"]
)
def test_photo_names_that_are_refused(name):
    with pytest.raises(FlukeprintError, match="expected a plain file name"):
        small_gallery().add(vectors_of(1), [name], ["w"])


@pytest.mark.parametrize("value", ["a" * 63, "A" * 64, "../" + "a" * 61])
def test_hashes_that_are_refused(value):
    with pytest.raises(FlukeprintError, match="64 hexadecimal digits"):
        small_gallery().add(vectors_of(1), ["a.jpg"], ["w"], [value])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 8), np.float32), "not of length 1"),
        (np.full((1, 8), np.nan, np.float32), "not a number"),
        (np.zeros((1, 7), np.float32), r"\(1, 7\), expected \(1, 8\)"),
        (np.zeros((2, 8), np.float32), r"\(2, 8\), expected \(1, 8\)"),
    ],
)
def test_vectors_that_are_refused(vectors, message):
    with pytest.raises(FlukeprintError, match=message):
        small_gallery().add(vectors, ["a.jpg"], ["w"])


# --- provenance ---


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            replace(PROVENANCE, members={"m1": "1" * 64, "m2": "3" * 64}),
            "weights of member m2: SHA-256 333333333333...",
        ),
        (replace(PROVENANCE, members={"m1": "1" * 64}), "member m2 is only in the gallery"),
        (replace(PROVENANCE, members={**PROVENANCE.members, "m3": "3" * 64}), "member m3 is only in the query"),
        (replace(PROVENANCE, members={"m2": "2" * 64, "m1": "1" * 64}), "members: in the order m2, m1"),
        (replace(PROVENANCE, preprocessing={**PROVENANCE.preprocessing, "views": 2}), "views: 2, the gallery has 1"),
        (replace(PROVENANCE, preprocessing={**PROVENANCE.preprocessing, "size": [64, 64]}), r"size: \[64,64\]"),
    ],
)
def test_a_query_of_another_make_is_refused_with_the_reason(other, message):
    with pytest.raises(FlukeprintError, match=message):
        Searcher(small_gallery()).search(vectors_of(1), 5, other)
    with pytest.raises(FlukeprintError, match="do not compare"):
        small_gallery().merge(replace(small_gallery(), provenance=other))
    assert Searcher(small_gallery()).search(vectors_of(1), 5, PROVENANCE)


# --- search ---


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
    searcher = Searcher(gallery)
    for query, found in zip(queries, searcher.search(queries, depth), strict=True):
        expected = brute_force(gallery, query, depth)
        assert [(candidate.id, candidate.image) for candidate in found] == [
            (name, image) for name, _, image in expected
        ]
        for candidate, (name, similarity, _) in zip(found, expected, strict=True):
            assert candidate.nearest == pytest.approx(similarity, abs=1e-6)
            assert candidate.centre == pytest.approx(centre_similarity(gallery, name, query), abs=1e-6)


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
    found = Searcher(gallery).search(query, 8)[0]
    expected = brute_force(gallery, query[0], 8)
    assert [(one.id, one.image) for one in found] == [(name, image) for name, _, image in expected]


@pytest.mark.numeric
@pytest.mark.parametrize("exact_up_to", [10_000, 100])
def test_a_query_has_the_same_candidates_alone_and_among_others(exact_up_to):
    searcher = Searcher(small_gallery(900, exact_up_to, 16))
    queries = vectors_of(64, 16, 1)
    assert [searcher.search(query[None], 5)[0] for query in queries] == searcher.search(queries, 5)


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
    searcher = Searcher(gallery)
    alone = [searcher.search(query[None], depth)[0] for query in queries]
    assert alone == searcher.search(queries, depth)
    for query, found in zip(queries, alone, strict=True):
        assert [(one.id, one.image) for one in found] == [
            (name, image) for name, _, image in brute_force(gallery, query, depth)
        ]


@pytest.mark.parametrize("queries", [np.zeros((1, 7), np.float32), np.zeros(8, np.float32), np.full((1, 8), np.nan)])
def test_queries_that_are_refused(queries):
    with pytest.raises(FlukeprintError, match=r"expected \(queries, 8\)|not a number"):
        Searcher(small_gallery()).search(queries, 5)


# --- cells ---


@pytest.mark.numeric
def test_cells_find_the_nearest_photos():
    """Photos in clusters: few cells hold nearly all of the 10 nearest, and what they hold is scored exactly."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(300, 24))

    def around(n: int) -> np.ndarray:
        photos = centres[rng.integers(0, 300, n)] + 0.4 * rng.normal(size=(n, 24))
        return (photos / np.linalg.norm(photos, axis=1, keepdims=True)).astype(np.float32)

    names, ids = [f"{n}.jpg" for n in range(6000)], [f"w_{n // 2}" for n in range(6000)]
    gallery = build_gallery(around(6000), names, ids, PROVENANCE, exact_up_to=5000)
    assert gallery.cells is not None
    assert gallery.cells.probes < len(gallery.cells.centroids)
    queries = around(300)
    searcher, exact = Searcher(gallery), Searcher(replace(gallery, cells=None))
    true = np.argsort(-(queries @ gallery.vectors.T), axis=1)[:, :10]
    fetched = searcher.nearest_photos(queries, searcher.fetched(10))
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(true, fetched, strict=True)])
    assert recall >= 0.98
    pairs = zip(searcher.search(queries, 1), exact.search(queries, 1), strict=True)
    assert np.mean([one == other for one, other in pairs]) >= 0.98


def test_cells_follow_changes():
    gallery = small_gallery(900, 500, 16)
    added = gallery.add(vectors_of(30, 16, 9), [f"x{n}.jpg" for n in range(30)], ["w_new"] * 30)
    assert added.cells.centroids is gallery.cells.centroids
    nearest = np.argmax(added.vectors @ gallery.cells.centroids.T, axis=1)
    assert (added.cells.cell == nearest).mean() > 0.999
    back = added.remove(ids=["w_new"])
    assert same(back, gallery)
    np.testing.assert_array_equal(back.cells.cell, gallery.cells.cell)
    assert added.remove(images=[photo.image for photo in added.photos[:430]]).cells is None
    grown = gallery.add(vectors_of(1000, 16, 8), [f"y{n}.jpg" for n in range(1000)], ["w_new"] * 1000)
    assert grown.cells.trained_on == 1900


@pytest.mark.parametrize("photos", [1, 2, 3])
def test_the_smallest_galleries_may_have_cells(photos):
    ids = [f"w_{n}" for n in range(photos)]
    gallery = build_gallery(vectors_of(photos), [f"{n}.jpg" for n in range(photos)], ids, PROVENANCE, exact_up_to=0)
    assert gallery.cells is not None
    assert Searcher(gallery).search(gallery.vectors, 1)[0][0].id == "w_0"


@pytest.mark.numeric
def test_cells_are_made_alike_twice():
    one, two = (small_gallery(900, 500, 16).cells for _ in range(2))
    np.testing.assert_array_equal(one.centroids, two.centroids)
    np.testing.assert_array_equal(one.cell, two.cell)
    assert one.probes == two.probes
