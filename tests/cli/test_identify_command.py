"""`flukeprint identify`: what arrives at the library, the page, exit codes; tests/identify tests the answers."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from flukeprint.cli.main import main
from flukeprint.scoring.candidates import DEPTH


@pytest.fixture
def calls(stub, tmp_path, monkeypatch):
    """A folder `new` with two photos; calls of the library by function."""
    monkeypatch.chdir(tmp_path)
    Path("new").mkdir()
    for name in ("b.jpg", "a.jpg", "notes.txt"):
        (Path("new") / name).touch()
    return {
        "open": stub("flukeprint.bundle.opening.open_model", "model"),
        "identify": stub("flukeprint.identify.answers.identify", SimpleNamespace(failed=[])),
        "page": stub("flukeprint.identify.identification_page.write_page", None),
        **{form: stub(f"flukeprint.identify.formats.as_{form}", form) for form in ("table", "json", "csv")},
    }


def test_photos_and_folders_each_photo_once(calls, capsys):
    main(["identify", "new/b.jpg", "new"])
    assert calls["open"] == [((None, None), {})]
    assert calls["identify"] == [
        (("model", [Path("new/b.jpg"), Path("new/a.jpg")], 5), {"local": False, "networks": None})
    ]
    assert capsys.readouterr().out == "table\n"
    assert calls["page"] == []


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_the_options_arrive(calls, capsys, form):
    options = ["--top", str(DEPTH), "--format", form, "--html", "page.html", "--bundle", "there", "--gallery", "other"]
    options += ["--local", "--local-networks", "a.pth", "b.pth"]
    main(["identify", "new/a.jpg", *options])
    assert calls["open"] == [((Path("there"), Path("other")), {})]
    assert calls["identify"][0][0][2] == DEPTH
    assert calls["identify"][0][1] == {"local": True, "networks": (Path("a.pth"), Path("b.pth"))}
    assert calls["page"][0][0][0] == Path("page.html")
    assert capsys.readouterr().out == f"{form}\n"


@pytest.mark.parametrize("options", [["--top", "0"], ["--top", str(DEPTH + 1)], ["--top", "many"], ["--format", "xml"]])
def test_values_out_of_range_end_with_code_2_before_any_work(calls, options):
    with pytest.raises(SystemExit) as end:
        main(["identify", "new", *options])
    assert end.value.code == 2
    assert calls["open"] == calls["identify"] == []


def test_networks_that_would_not_be_asked_are_refused_before_any_work(calls):
    with pytest.raises(SystemExit, match="error: --local-networks .* --local is not there"):
        main(["identify", "new", "--local-networks", "a.pth", "b.pth"])
    assert calls["open"] == calls["identify"] == []


@pytest.mark.parametrize(
    ("page", "message"), [("new", "is a folder"), ("new/a.jpg", "is one of"), ("new/a.jpg/p.html", "cannot be written")]
)
def test_a_page_that_cannot_be_written_is_refused_before_any_work(calls, page, message):
    with pytest.raises(SystemExit, match=f"error: --html {page} {message}"):
        main(["identify", "new", "--html", page])
    assert calls["open"] == calls["identify"] == []


def test_photos_that_failed_end_with_code_1_after_the_others_are_answered(calls, stub, capsys):
    stub("flukeprint.identify.answers.identify", SimpleNamespace(failed=["a.jpg"]))
    with pytest.raises(SystemExit) as end:
        main(["identify", "new", "--html", "page.html"])
    assert end.value.code == 1
    assert capsys.readouterr().out == "table\n"
    assert len(calls["page"]) == 1
