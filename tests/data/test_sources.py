import shutil
import zipfile
from pathlib import Path

import pytest

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
    assert files == ["sample_submission.csv", "test/test.jpg", "train.csv", "train/other.jpg"]
    (target / "test/test.jpg").write_bytes(b"changed")
    assert (source / "test/test.jpg").read_bytes() == b"photo"


@pytest.mark.parametrize("missing", ["train.csv", "sample_submission.csv", "train", "test"])
def test_an_incomplete_folder_is_refused_and_what_was_there_stays(source, tmp_path, missing):
    target = tmp_path / "raw"
    fetch("folder", target, str(source), 0)
    path = source / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(FlukeprintError, match=rf"has no {missing}.*Kaggle's layout is"):
        fetch("folder", target, str(source), 0)
    assert (target / "train/train.jpg").exists()


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


@pytest.mark.parametrize("source", ["folder", "kaggle"])
def test_a_source_that_needs_a_path_says_so(source, tmp_path):
    with pytest.raises(FlukeprintError, match=r"^profiles\.<profile>\.path is empty"):
        fetch(source, tmp_path / "raw", None, 0)
    assert not (tmp_path / "raw").exists()


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path):
    known = r"^profiles\.<profile>\.source is 'noaa', expected one of sample, folder, kaggle"
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


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../escaped.txt", "out")
    with pytest.raises(FlukeprintError, match="leads out of its folder"):
        _unpack(tmp_path / "a.zip", tmp_path / "inside")
    assert not (tmp_path / "escaped.txt").exists()
