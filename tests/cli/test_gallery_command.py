"""`flukeprint gallery`: its four actions; tests/retrieval/test_gallery_files.py tests what they do to the files."""

import json

import pytest
from gallery_folder import small_gallery

from flukeprint.cli.main import main
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """Twelve photos of four individuals, w_0 to w_3, where a project has its gallery."""
    monkeypatch.chdir(tmp_path)
    save_gallery(small_gallery(), tmp_path / "models/gallery")
    return tmp_path / "models/gallery"


def test_info_in_words_and_as_json(gallery, capsys):
    main(["gallery", "info", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["photos"] == 12
    assert content["individuals"] == 4
    assert content["members"] == {"m1": "1" * 64, "m2": "2" * 64}
    assert content["index"] == "exact"
    main(["gallery", "info", "--gallery", str(gallery)])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["with_one_photo"] == "0"
    assert lines["members.m2"] == "2" * 64
    assert lines["preprocessing.views"] == "1"


def test_remove_takes_several_individuals_and_photos(gallery, capsys):
    main(["gallery", "remove", "--id", "w_0", "--id=w_1", "--image", "2.jpg", "--image=3.jpg"])
    assert capsys.readouterr().out == "models/gallery: 4 photos of 2 individuals\n"
    assert load_gallery(gallery).individuals == ["w_2", "w_3"]


def test_rename_joins_an_individual_that_is_there(gallery, capsys):
    main(["gallery", "rename", "w_0", "w_1"])
    main(["gallery", "rename", "w_1", "w_9"])
    assert capsys.readouterr().out == "models/gallery: 12 photos of 3 individuals\n" * 2
    assert load_gallery(gallery).individuals == ["w_2", "w_3", "w_9"]


def test_merge_takes_copies_only_if_allowed(gallery, capsys, tmp_path):
    other = small_gallery().rename("w_0", "w_9")
    save_gallery(other, tmp_path / "other")
    with pytest.raises(SystemExit, match="error: .*is the same file as"):
        main(["gallery", "merge", "other"])
    main(["gallery", "remove", "--id", "w_0", "--id", "w_1", "--id", "w_2", "--id", "w_3"])
    main(["gallery", "merge", "other", "--gallery", "models/gallery"])
    assert capsys.readouterr().out.splitlines()[-1] == "models/gallery: 12 photos of 4 individuals"


def test_a_request_that_cannot_be_met_changes_nothing(gallery):
    before = {path: path.read_bytes() for path in gallery.iterdir()}
    for arguments, message in (
        (["remove"], "error: nothing to remove"),
        (["remove", "--id", "w_9"], "w_9"),
        (["rename", "w_9", "w_1"], "w_9"),
        (["info", "--gallery", "nowhere"], "no gallery in nowhere"),
        (["merge", "nowhere"], "no gallery in nowhere"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(["gallery", *arguments])
    assert {path: path.read_bytes() for path in gallery.iterdir()} == before
