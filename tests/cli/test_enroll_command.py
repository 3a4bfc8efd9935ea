"""`flukeprint enroll`: what arrives at the library; tests/identify enrols real photos."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from gallery_folder import small_gallery

from flukeprint.cli.main import main


@pytest.fixture
def calls(stub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Path(name).touch()
    opened = stub("flukeprint.bundle.opening.open_model", SimpleNamespace(gallery_folder=Path("there")))
    done = SimpleNamespace(images=["-x y.jpg"], id="w_1", before=0, gallery=small_gallery(), warnings=[])
    return opened, stub("flukeprint.identify.enrolling.enroll", done)


def test_the_options_arrive_and_the_line_that_undoes_it_is_quoted(calls, capsys):
    opened, enrolled = calls
    main(["enroll", "a.jpg", "--id", "w_1", "b.jpg", "--bundle", "there"])
    main(["enroll", "a.jpg", "--id=w_1", "--force", "--gallery", "other"])
    assert [call[0] for call in opened] == [(Path("there"), None), (None, Path("other"))]
    assert [(call[0][1:], call[1]) for call in enrolled] == [
        (([Path("a.jpg"), Path("b.jpg")], "w_1"), {"force": False}),
        (([Path("a.jpg")], "w_1"), {"force": True}),
    ]
    assert "flukeprint gallery remove '--image=-x y.jpg' --gallery there\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["a.jpg"], ["--id", "w_1"]])
def test_photos_and_the_id_are_required(calls, arguments):
    with pytest.raises(SystemExit) as end:
        main(["enroll", *arguments])
    assert end.value.code == 2
    assert calls == ([], [])
