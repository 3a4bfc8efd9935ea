"""`flukeprint export` and `enroll`, killed before their calls of the file system: no enrolled photo is lost."""

import shutil
from pathlib import Path

import pytest
from identify_project import NAMES, make_project
from killed_writers import FEW, SOME, Killed
from quality_folder import texture

from flukeprint.bundle import export
from flukeprint.bundle.bundle_manifest import check_files
from flukeprint.bundle.export import export_bundle
from flukeprint.bundle.model import Model
from flukeprint.bundle.opening import open_bundle, open_project
from flukeprint.core import replacement
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, write_bytes
from flukeprint.core.paths import GALLERY
from flukeprint.core.replacement import recover
from flukeprint.identify.enrolling import enroll
from flukeprint.retrieval.gallery_files import load_gallery, update_gallery

BUNDLE = Path("bundle")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A project with a bundle."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        make_project(folder, ("m1",))
        patched.chdir(folder)
        export_bundle(BUNDLE)
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch) -> Path:
    """A copy, in which networks are exported by copying those of the bundle: a fork cannot use torch's threads."""
    onnx = (made / BUNDLE / "members/m1.onnx").read_bytes()
    monkeypatch.setattr(export, "export_onnx", lambda _, target: write_bytes(target, onnx))
    shutil.copytree(made, tmp_path / "start")
    monkeypatch.chdir(tmp_path / "start")
    return tmp_path / "start"


def photos_of_bundle() -> int:
    recover(BUNDLE)
    check_files(BUNDLE)
    return len(load_gallery(BUNDLE / "gallery"))


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_export(project, tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(replacement, "_exchange", lambda *_: False)
    model, encoded = open_project(), open_project().encode([Path("data/raw/train") / NAMES[0]])
    update_gallery(model.gallery_folder, lambda now: now.add(-encoded.vectors, ["x.jpg"], ["w_x"]))
    kills, found = Killed(project, lambda: export_bundle(BUNDLE), photos_of_bundle).everywhere(tmp_path, FEW)
    assert kills >= 8
    assert {pair[0] for pair in found} == {12, 13}
    assert {pair[1] for pair in found} == {13}


def test_an_export_killed_between_two_renames_loses_no_enrolled_photo(project, monkeypatch):
    update_gallery(BUNDLE / "gallery", lambda now: now.rename("w_a", "w_enrolled"))
    BUNDLE.rename(".bundle.12ab34cd.old")
    with pytest.raises(FlukeprintError, match="4 photo.* that the new one lacks"):
        export_bundle(BUNDLE)
    assert "w_enrolled" in load_gallery(BUNDLE / "gallery").individuals
    BUNDLE.rename(".bundle.12ab34cd.old")
    assert open_bundle(BUNDLE).gallery().photos == load_gallery(BUNDLE / "gallery").photos


def test_enroll(project, tmp_path, monkeypatch):
    for number, name in enumerate(("n.jpg", "o.jpg")):
        texture(90 + number, (96, 64)).save(name)
    encoded = {name: open_project().encode([Path(name)]) for name in ("n.jpg", "o.jpg")}
    monkeypatch.setattr(Model, "encode", lambda _, paths: encoded[paths[0].name])

    def enrolled() -> tuple[str, ...]:
        assert read_json(GALLERY / "gallery.json")["photos"] == len(load_gallery(GALLERY))
        return tuple(photo.image for photo in load_gallery(GALLERY).photos if photo.image not in NAMES)

    killed = Killed(
        project,
        lambda: enroll(open_project(), [Path("n.jpg")], "w_n"),
        enrolled,
        lambda: enroll(open_project(), [Path("o.jpg")], "w_o"),
    )
    kills, found = killed.everywhere(tmp_path, SOME)
    assert kills >= 8
    assert set(found) == {((), ("o.jpg",)), (("n.jpg",), ("n.jpg", "o.jpg"))}
