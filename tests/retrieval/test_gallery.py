"""What a gallery holds, and what made it."""

import numpy as np
import pytest
from gallery_folder import PROVENANCE, provenance, small_gallery, vectors_of

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.gallery import Gallery, build_gallery


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


def test_an_empty_gallery_has_nobody():
    empty = build_gallery(vectors_of(0), [], [], PROVENANCE)
    assert (len(empty), empty.individuals, empty.spread) == (0, [], None)


def test_two_photos_of_one_name_are_refused():
    with pytest.raises(FlukeprintError, match="two photos would be called 'a.jpg'"):
        build_gallery(vectors_of(2), ["a.jpg", "a.jpg"], ["w_1", "w_2"], PROVENANCE)


def test_a_file_with_two_ids_is_built_with_a_warning(caplog):
    build_gallery(vectors_of(2), ["a.jpg", "b.jpg"], ["w_1", "w_2"], PROVENANCE, ["e" * 64] * 2)
    assert "1 file(s) are in the gallery under two ids, such as a.jpg (w_1) and b.jpg (w_2)" in caplog.text


BAD_IDS = [
    "", "new_whale", "a b", "a\n", "a\x00", "a\x1b[2J", "a\u202eb", "a\u200b", "../a", "..", ".", "a/b", "a\\b",
    "=1+1", "@a", "-rf", "w" * 65, "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_are_refused(name):
    with pytest.raises(FlukeprintError, match="cannot be used|is no individual"):
        build_gallery(vectors_of(1), ["a.jpg"], [name], PROVENANCE)


@pytest.mark.parametrize("name", ["w_1287fbc", "w" * 64, "Ägir", "A.1", "HW-MN0500234"])
def test_ids_that_are_taken(name):
    assert build_gallery(vectors_of(1), ["a.jpg"], [name], PROVENANCE).individuals == [name]


@pytest.mark.parametrize(
    "name", ["", "../a.jpg", "a/b.jpg", ".a.jpg", "a\\b.jpg", "C:a.jpg", "a\x07.jpg", "a\u202e.jpg"]
)
def test_photo_names_that_are_refused(name):
    with pytest.raises(FlukeprintError, match="expected a plain file name"):
        build_gallery(vectors_of(1), [name], ["w"], PROVENANCE)


@pytest.mark.parametrize("value", ["a" * 63, "A" * 64, "../" + "a" * 61])
def test_hashes_that_are_refused(value):
    with pytest.raises(FlukeprintError, match="64 hexadecimal digits"):
        build_gallery(vectors_of(1), ["a.jpg"], ["w"], PROVENANCE, [value])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 8), np.float32), "not of length 1"),
        (np.full((1, 8), np.nan, np.float32), "not a number"),
        (np.zeros(8, np.float32), r"\(8,\), expected \(1, D\)"),
        (np.zeros((2, 8), np.float32), r"\(2, 8\), expected \(1, D\)"),
    ],
)
def test_vectors_that_are_refused(vectors, message):
    with pytest.raises(FlukeprintError, match=message):
        build_gallery(vectors, ["a.jpg"], ["w"], PROVENANCE)


# --- provenance ---


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (provenance(m1="1", m2="3"), "weights of member m2: SHA-256 333333333333..."),
        (provenance(m1="1"), "member m2 is only in the gallery"),
        (provenance(m1="1", m2="2", m3="3"), "member m3 is only in the query"),
        (provenance(m2="2", m1="1"), "members: in the order m2, m1"),
        (provenance(m1="1", m2="2", views=2), "views: 2, the gallery has 1"),
        (provenance(m1="1", m2="2", size=[64, 64]), r"size: \[64,64\]"),
    ],
)
def test_a_query_of_another_make_is_refused_with_the_reason(other, message):
    with pytest.raises(FlukeprintError, match=message):
        small_gallery().provenance.refuse_other(other)
    small_gallery().provenance.refuse_other(PROVENANCE)
