"""`flukeprint export`, killed before its calls of the file system: the old bundle is there, or the new one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from identify_project import make_project
from killed_writers import FEW, Killed

from flukeprint.bundle import export
from flukeprint.bundle.bundle_manifest import check_files
from flukeprint.bundle.export import export_bundle
from flukeprint.bundle.opening import open_bundle
from flukeprint.core import replacement
from flukeprint.core.files import write_bytes
from flukeprint.core.paths import GALLERY
from flukeprint.core.replacement import recover
from flukeprint.retrieval.gallery import Photo, build_gallery
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery

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
    gallery = load_gallery(GALLERY)
    vectors, photos = np.concatenate([gallery.vectors, -gallery.vectors[:1]]), [*gallery.photos, Photo("w_x", "x.jpg")]
    ids, images, hashes = zip(*photos, strict=True)
    save_gallery(build_gallery(vectors, images, ids, gallery.provenance, hashes), GALLERY)
    kills, found = Killed(project, lambda: export_bundle(BUNDLE), photos_of_bundle).everywhere(tmp_path, FEW)
    assert kills >= 100 // FEW
    assert {pair[0] for pair in found} == {12, 13}
    assert {pair[1] for pair in found} == {13}


def test_an_export_killed_between_two_renames_leaves_a_bundle(project):
    BUNDLE.rename(".bundle.12ab34cd.old")
    assert len(open_bundle(BUNDLE).gallery()) == 12
    BUNDLE.rename(".bundle.12ab34cd.old")
    export_bundle(BUNDLE)
    assert sorted(path.name for path in BUNDLE.parent.glob("*bundle*")) == ["bundle"]
