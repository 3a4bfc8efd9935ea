"""`flukeprint gallery info`; a gallery is only read."""

import json

import pytest
from gallery_folder import small_gallery

from flukeprint.cli.main import main
from flukeprint.retrieval.gallery_files import save_gallery


@pytest.fixture
def gallery(tmp_path, monkeypatch):
    """Twelve photos of four individuals, w_0 to w_3, where a project has its gallery."""
    monkeypatch.chdir(tmp_path)
    save_gallery(small_gallery(), tmp_path / "models/gallery")
    return tmp_path / "models/gallery"


def test_info_in_words_and_as_json(gallery, capsys):
    main(["gallery", "info", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert (content["photos"], content["individuals"], content["most_photos"]) == (12, 4, 3)
    assert content["members"] == {"m1": "1" * 64, "m2": "2" * 64}
    assert content["index"] == "exact"
    main(["gallery", "info", "--gallery", str(gallery)])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["with_one_photo"] == "0"
    assert lines["members.m2"] == "2" * 64
    assert lines["preprocessing.views"] == "1"


def test_no_gallery_is_an_error_that_names_the_folder(gallery):
    with pytest.raises(SystemExit, match="no gallery in nowhere"):
        main(["gallery", "info", "--gallery", "nowhere"])
