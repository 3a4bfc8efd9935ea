"""What a gallery holds, how it changes, and what made it."""

from dataclasses import replace

import numpy as np
import pytest
from gallery_folder import PROVENANCE, provenance, small_gallery, vectors_of

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.gallery import Gallery, build_gallery


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
    with pytest.raises(FlukeprintError, match="do not compare"):
        small_gallery().merge(replace(small_gallery(), provenance=other))
    small_gallery().provenance.refuse_other(PROVENANCE)
