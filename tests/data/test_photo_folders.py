"""Which files of a folder are photos, what is said of the others, and names that are nearly right."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.photo_folders import NearlyNamed, file_key, list_folder, list_tree, said_of_others
from flukeprint.data.reading import list_photos

JUNK = ("Thumbs.db", "desktop.ini", ".DS_Store", "._a.jpg", "a.xmp", "notes", "IMG_1.CR3")


@pytest.fixture
def folder(tmp_path):
    """A folder with a photo, what others leave beside it, and inner folders."""
    for name in ("a.jpg", "listed.dat", "@eaDir/a.jpg", ".hidden/a.jpg", "day 2/a.jpg", "day 1/x/b.HEIC", *JUNK):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "day 1/again").symlink_to(tmp_path)
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    return tmp_path


def test_only_photos_and_what_a_table_names_are_photos(folder):
    content = list_folder(folder, {"listed.dat", "Thumbs"})
    assert content.photos == ["a.jpg", "listed.dat", "loop.jpg"]  # a link to itself cannot be read: said later
    assert content.others == sorted([*JUNK, "@eaDir/", ".hidden/", "day 1/", "day 2/"])
    assert content.raw == ["IMG_1.CR3"]


def test_inner_folders_are_entered_but_hidden_ones_those_of_systems_and_links(folder):
    content, folders = list_tree(folder)
    assert content.photos == ["a.jpg", "loop.jpg", "day 1/x/b.HEIC", "day 2/a.jpg"]
    assert folders == 2
    assert set(content.others) == {*JUNK, "listed.dat", "@eaDir/", ".hidden/", "day 1/again/"}


def test_folders_within_folders_without_end_are_left_alone(tmp_path):
    deep = tmp_path.joinpath(*(["d"] * 40))
    deep.mkdir(parents=True)
    (deep / "a.jpg").touch()
    content, _ = list_tree(tmp_path)
    assert content.photos == []
    assert content.others == ["/".join(["d"] * 33) + "/"]


def test_what_is_left_alone_is_counted_named_and_raw_files_with_what_to_do(folder):
    said = said_of_others("train/", list_folder(folder, {"listed.dat"}))
    assert said.startswith(
        f"train/: {len(JUNK) + 4} other file(s) or folder(s) left alone (@eaDir/, IMG_1.CR3, Thumbs.db"
    )
    assert "1 raw file(s) of cameras without a photo beside it (IMG_1.CR3): export" in said
    assert ".DS_Store" not in said  # visible ones first
    assert said_of_others("train/", list_folder(folder / "day 2")) is None


def test_photos_of_inner_folders_are_listed_and_that_is_said(folder, caplog):
    caplog.set_level("INFO")
    assert list_photos([folder]) == [
        folder / "a.jpg",
        folder / "loop.jpg",
        folder / "day 1/x/b.HEIC",
        folder / "day 2/a.jpg",
    ]
    assert "4 photo(s), 2 of them in 2 inner folder(s)" in caplog.text
    assert "Thumbs.db" in caplog.text


def test_a_folder_of_raw_files_says_what_to_do(tmp_path):
    (tmp_path / "IMG_1.NEF").touch()
    with pytest.raises(FlukeprintError, match=r"holds no photo.*beside it \(IMG_1\.NEF\): export"):
        list_photos([tmp_path])


@pytest.mark.parametrize(
    ("missing", "there"),
    [
        ("a.jpg", "a.JPG"),
        ("a.jpg", "A.jpeg"),
        ("a.jpg", "a .jpg"),
        ("a.jpg", "a.heic"),
        ("a.jpg", "a.jpg.jpg"),
        ("a", "a.jpg"),
        ("\u00e9.jpg", "e\u0301.jpg"),
    ],
)
def test_a_name_that_is_nearly_right_is_found_everywhere(tmp_path, missing, there):
    (tmp_path / there).touch()
    hint = f" (there is {there!a})"
    assert NearlyNamed([there, "b.jpg"]).hint(missing) == hint
    assert inspect_photo(tmp_path, missing).fault == f"the file is missing{hint}"
    with pytest.raises(FlukeprintError) as error:
        list_photos([tmp_path / missing])
    assert hint in str(error.value)


@given(st.text("a.jpg \u0301", max_size=8), st.sampled_from(["", "/"]))
def test_a_key_of_any_name_is_found_and_is_its_own_key(name, end):
    assert file_key(file_key(name)) == file_key(name + end)


def test_a_folder_of_that_name_is_named(tmp_path):
    (tmp_path / "A.JPG").mkdir()
    assert NearlyNamed(list_folder(tmp_path).others).hint("a.jpg") == " (there is 'A.JPG/')"


def test_another_name_is_no_hint(tmp_path):
    assert NearlyNamed(["b.jpg", "a1.jpg"]).hint("a.jpg") == ""
    assert inspect_photo(tmp_path / "nowhere", "a.jpg").fault == "the file is missing"


def test_a_raw_file_is_refused_with_what_to_do_even_if_it_looks_like_a_tiff(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 48)).save(tmp_path / "a.DNG", "TIFF")
    assert "export it as JPEG" in inspect_photo(tmp_path, "a.DNG").fault


def test_names_that_are_not_utf8_are_listed(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).touch()
    assert list_folder(tmp_path).photos == [name]
