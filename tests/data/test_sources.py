import os
import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from quality_folder import Folder

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.sources import _unpack, fetch


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        (folder / part / f"{part}.jpg").write_bytes(b"photo")
    for table in ("train.csv", "sample_submission.csv"):
        (folder / table).write_text("Image,Id\n")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_a_folder_is_copied_and_old_photos_go(source, tmp_path):
    target = tmp_path / "raw"
    fetch("folder", target, str(source), 0)
    (source / "train/train.jpg").rename(source / "train/other.jpg")
    fetch("folder", target, str(source), 0)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == ["boxes.csv", "sample_submission.csv", "test/test.jpg", "train.csv", "train/other.jpg"]
    assert (target / "boxes.csv").read_text() == "Image,x0,y0,x1,y1\n"
    (target / "test/test.jpg").write_bytes(b"changed")
    assert (source / "test/test.jpg").read_bytes() == b"photo"


def test_marked_boxes_are_copied(source, tmp_path):
    (source / "boxes.csv").write_text("Image,x0,y0,x1,y1\ntrain.jpg,0,0,1,1\n")
    fetch("folder", tmp_path / "raw", str(source), 0)
    assert (tmp_path / "raw/boxes.csv").read_text() == "Image,x0,y0,x1,y1\ntrain.jpg,0,0,1,1\n"


@pytest.mark.parametrize("missing", ["train.csv", "sample_submission.csv", "train", "test"])
def test_an_incomplete_folder_is_refused_and_what_was_there_stays(source, tmp_path, missing):
    target = tmp_path / "raw"
    fetch("folder", target, str(source), 0)
    path = source / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FlukeprintError, match=rf"has no {missing}.*Kaggle's layout is"):
        fetch("folder", target, str(source), 0)
    assert (target / "train/train.jpg").exists()


@pytest.mark.parametrize(
    ("missing", "there"),
    [("train.csv", "Train.CSV"), ("train/", "Train"), ("sample_submission.csv", "Sample_Submission.csv")],
)
def test_what_is_there_under_nearly_that_name_is_said(source, tmp_path, missing, there):
    (source / missing).rename(source / there)
    with pytest.raises(FlukeprintError, match=rf"has no {missing} \(there is '{there}/?'\)"):
        fetch("folder", tmp_path / "raw", str(source), 0)


@pytest.mark.parametrize("kind", ["folder", "kaggle"])
def test_a_catalogue_with_nothing_to_label_is_whole(source, tmp_path, monkeypatch, kind):
    shutil.rmtree(source / "test")
    (source / "sample_submission.csv").unlink()
    monkeypatch.setattr("flukeprint.data.sources._require_credentials", lambda _: None)
    monkeypatch.setattr("flukeprint.data.sources._unpack", lambda *_: None)
    monkeypatch.setattr(
        "flukeprint.data.sources._download", lambda _, folder: shutil.copytree(source, folder, dirs_exist_ok=True)
    )
    fetch(kind, tmp_path / "raw", str(source), 0)
    assert list((tmp_path / "raw/test").iterdir()) == []
    assert (tmp_path / "raw/sample_submission.csv").read_text() == "Image,Id\n"
    assert (tmp_path / "raw/train/train.jpg").exists()


def test_a_file_in_the_place_of_test_is_no_catalogue_with_nothing_to_label(source, tmp_path):
    shutil.rmtree(source / "test")
    (source / "sample_submission.csv").unlink()
    (source / "test").write_text("")
    with pytest.raises(FlukeprintError, match=r"has no sample_submission.csv, test/"):
        fetch("folder", tmp_path / "raw", str(source), 0)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FlukeprintError, match=r"'nowhere', but there is no such folder"):
        fetch("folder", tmp_path / "raw", "nowhere", 0)


@pytest.mark.parametrize("source", ["folder", "catalogue", "kaggle"])
def test_a_source_that_needs_a_path_says_so(source, tmp_path):
    with pytest.raises(FlukeprintError, match=r"^profiles\.<profile>\.path is empty"):
        fetch(source, tmp_path / "raw", None, 0)
    assert not (tmp_path / "raw").exists()


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path):
    known = r"^profiles\.<profile>\.source is 'noaa', expected one of sample, folder, catalogue, kaggle"
    with pytest.raises(FlukeprintError, match=known):
        fetch("noaa", tmp_path / "raw", "photos", 0)
    assert not (tmp_path / "raw").exists()


def test_kaggle_without_credentials_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FlukeprintError) as error:
        fetch("kaggle", tmp_path / "raw", "whales", 0)
    for part in ("KAGGLE_API_TOKEN", "kaggle.json", "kaggle.com/settings", "whales/rules", "data/incoming"):
        assert part in str(error.value)
    assert not (tmp_path / "raw").exists()


def test_kaggle_without_client_or_network_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    monkeypatch.setitem(__import__("sys").modules, "kaggle.api.kaggle_api_extended", None)
    with pytest.raises(FlukeprintError, match=r"client is not installed.*Two ways out"):
        fetch("kaggle", tmp_path / "raw", "whales", 0)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(str(path))])
def test_a_pipe_or_a_socket_among_the_photos_is_named(tmp_path, monkeypatch, make):
    folder = Folder.make(tmp_path / "in").path
    monkeypatch.chdir(folder / "train")
    make(Path("odd.jpg"))
    with pytest.raises(FlukeprintError, match="train/odd.jpg' is no file"):
        fetch("folder", tmp_path / "raw", str(folder), 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def _zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)


def test_an_archive_that_would_fill_the_disk_is_not_unpacked(tmp_path):
    _zip(tmp_path / "a.zip", bytes(1 << 27))
    with pytest.raises(FlukeprintError, match="decompression bomb"):
        _unpack(tmp_path / "a.zip", tmp_path)
    # One that says of itself that it is small gives no more than that.
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace((1 << 27).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(FlukeprintError, match="not a readable zip file"):
        _unpack(tmp_path / "a.zip", tmp_path)
    assert not (tmp_path / "a.csv").exists() or (tmp_path / "a.csv").stat().st_size <= 1000


def test_an_archive_that_is_encrypted_or_broken_is_named(tmp_path):
    _zip(tmp_path / "a.zip", b"Image,Id\n" * 99)
    good = (tmp_path / "a.zip").read_bytes()
    encrypted = bytearray(good)
    encrypted[6] |= 1
    encrypted[good.index(b"PK\1\2") + 8] |= 1
    other = bytearray(good)  # another way of packing
    other[8] = other[good.index(b"PK\1\2") + 10] = 77
    spoiled = good[:40] + b"\xff" * 20 + good[60:]
    for content in (bytes(encrypted), bytes(other), spoiled, good[:50], b"PK"):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(FlukeprintError, match="a.zip is not a readable zip file"):
            _unpack(tmp_path / "a.zip", tmp_path)


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../escaped.txt", "out")
    with pytest.raises(FlukeprintError, match="leads out of its folder"):
        _unpack(tmp_path / "a.zip", tmp_path / "inside")
    assert not (tmp_path / "escaped.txt").exists()
