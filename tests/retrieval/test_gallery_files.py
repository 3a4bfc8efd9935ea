"""The gallery's folder: the same bytes, whole or not at all, and no trust in what is in it."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_folder import PROVENANCE, small_gallery, vectors_of

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.manifests import FileRecord
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery
from flukeprint.retrieval.gallery_manifest import GalleryManifest, data_file_name
from flukeprint.retrieval.search import Searcher


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=[1000, 10], ids=["exact", "codes"])
def folder(request, tmp_path) -> Path:
    save_gallery(small_gallery(60, exact_up_to=request.param), tmp_path / "gallery")
    return tmp_path / "gallery"


def test_what_was_saved_is_loaded(folder):
    loaded = load_gallery(folder)
    built = small_gallery(60, loaded.exact_up_to)
    np.testing.assert_array_equal(loaded.vectors, built.vectors)
    assert loaded.vectors.dtype == built.vectors.dtype
    assert loaded.photos == built.photos
    assert loaded.provenance == PROVENANCE
    assert list(loaded.provenance.weights) == ["m1", "m2"]
    queries = vectors_of(5, seed=1)
    one, other = (Searcher.of(gallery).search(queries, 4) for gallery in (loaded, built))
    assert one.individual.tolist() == other.individual.tolist()
    assert one.nearest.tolist() == other.nearest.tolist()
    assert (loaded.codes is None) == (built.codes is None)


def test_the_same_gallery_has_the_same_bytes(folder, tmp_path):
    save_gallery(load_gallery(folder), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_a_gallery_takes_the_place_of_the_one_that_was_there(folder, tmp_path):
    save_gallery(small_gallery(12), folder)
    save_gallery(small_gallery(12), tmp_path / "again")
    assert contents(folder) == contents(tmp_path / "again")


def test_an_empty_gallery(tmp_path):
    save_gallery(build_gallery(vectors_of(0), [], [], PROVENANCE), tmp_path / "gallery")
    assert load_gallery(tmp_path / "gallery").vectors.shape == (0, 8)


def test_a_write_that_breaks_off_leaves_the_old_gallery(folder, monkeypatch):
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    before = contents(folder)
    monkeypatch.setattr(GalleryManifest, "write", full)
    with pytest.raises(OSError, match="No space"):
        save_gallery(small_gallery(12), folder)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["gallery"]


def test_a_reader_starts_again_when_a_writer_was_faster(folder, monkeypatch):
    """The writer replaces the files after the reader has read gallery.json."""
    read = GalleryManifest.read
    calls = []

    def slow(path):
        manifest = read(path)
        if not calls:
            calls.append(path)
            save_gallery(small_gallery(57), folder)
        return manifest

    monkeypatch.setattr(GalleryManifest, "read", slow)
    assert len(load_gallery(folder)) == 57


# --- what others may have done to the files ---


def test_any_changed_byte_is_noticed(folder):
    rng = np.random.default_rng(0)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for place in [0, len(whole) - 2, *rng.integers(0, len(whole), 6).tolist()]:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(FlukeprintError, match=path.name):
                load_gallery(folder)
        path.write_bytes(whole)
    load_gallery(folder)


def test_any_truncated_or_missing_file_is_noticed(folder):
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for length in (0, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:length])
            with pytest.raises(FlukeprintError, match=path.name):
                load_gallery(folder)
        path.unlink()
        with pytest.raises(FlukeprintError, match=rf"{path.name}.* is missing"):
            load_gallery(folder)
        path.write_bytes(whole)
    load_gallery(folder)


def test_a_fifo_is_refused_and_not_waited_for(folder):
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(FlukeprintError, match=rf"{path.name} .*no regular file"):
            load_gallery(folder)
        path.unlink()
        path.write_bytes(whole)


def test_a_manifest_that_is_far_too_long_is_not_read_whole(folder):
    (folder / "gallery.json").write_text(" " * (1 << 21))
    with pytest.raises(FlukeprintError, match=r"gallery\.json is not valid JSON \(more than"):
        load_gallery(folder)


def signed(content: dict) -> dict:
    """Give gallery.json the checksum that belongs to it, as an attacker can."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def forge(folder: Path, **changes) -> None:
    path = folder / "gallery.json"
    path.write_text(json.dumps(signed({**json.loads(path.read_text()), **changes})))


def replace_file(folder: Path, key: str, data: bytes) -> None:
    """Replace a data file by another one, with name and checksums to match."""
    records = json.loads((folder / "gallery.json").read_text())["files"]
    records[key] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / data_file_name(key, FileRecord(**records[key]))).write_bytes(data)
    forge(folder, files=records)


class Bomb:
    """Leaves a file where it was unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def test_pickles_are_refused_and_not_run(folder, tmp_path):
    mark = tmp_path / "run"
    for data in (
        pickle.dumps(Bomb(mark)),
        npy(np.array([Bomb(mark)], object), allow_pickle=True),
        npy(np.full((60, 8), Bomb(mark), object), allow_pickle=True),
    ):
        replace_file(folder, "vectors", data)
        with pytest.raises(FlukeprintError, match=r"vectors-.*\.npy is not a plain \.npy file"):
            load_gallery(folder)
    replace_file(folder, "photos", pickle.dumps(Bomb(mark)))
    with pytest.raises(FlukeprintError, match=r"photos-.*\.parquet is not a readable Parquet file"):
        load_gallery(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "array",
    [
        vectors_of(60).astype(np.float64),
        vectors_of(60).astype(">f4"),
        vectors_of(59),
        np.asfortranarray(vectors_of(60)),
        np.full((60, 8), np.nan, np.float32),
        2 * vectors_of(60),
    ],
    ids=["float64", "big-endian", "rows", "order", "nan", "length"],
)
def test_other_arrays_are_refused(folder, array):
    replace_file(folder, "vectors", npy(array))
    with pytest.raises(FlukeprintError, match=r"vectors-.*\.npy (holds|has a vector)"):
        load_gallery(folder)


def forged_table(**columns) -> bytes:
    whole = {"Image": [f"{n:02}.jpg" for n in range(60)], "Id": [f"w_{n // 3:02}" for n in range(60)]}
    sink = pa.BufferOutputStream()
    columns = {
        name: pa.array(values, pa.string()) for name, values in {**whole, "sha256": [None] * 60, **columns}.items()
    }
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "columns",
    [
        {"Id": ["../../x", *(f"w_{n // 3:02}" for n in range(1, 60))]},
        {"Id": ["\x1b]0;x\x07", *(f"w_{n // 3:02}" for n in range(1, 60))]},
        {"Id": ["new_whale"] * 60},
        {"Id": [None] * 60},
        {"Image": ["../x.jpg"] * 60},
        {"Image": ["x.jpg"] * 60},
        {"Image": [f"{n:02}.jpg" for n in reversed(range(60))]},
        {"sha256": ["../x"] * 60},
        {"more": ["x"] * 60},
    ],
    ids=["path", "control", "new_whale", "null", "image path", "repeated", "unsorted", "hash", "column"],
)
def test_other_tables_are_refused(folder, columns):
    replace_file(folder, "photos", forged_table(**columns))
    with pytest.raises(FlukeprintError, match=r"photos-.*\.parquet"):
        load_gallery(folder)


def test_a_forged_table_that_is_in_order_is_read(folder):
    """The forger's tools themselves: without a fault, nothing is refused."""
    replace_file(folder, "photos", forged_table())
    replace_file(folder, "vectors", npy(vectors_of(60).astype(load_gallery(folder).vectors.dtype)))
    assert load_gallery(folder).photos[0].image == "00.jpg"


def test_other_manifests_are_refused(folder):
    path = folder / "gallery.json"
    whole = path.read_text()
    content = json.loads(whole)
    records = content["files"]
    outside = {**records, "../../etc/passwd": records["photos"]}
    named = {**records, "photos": {**records["photos"], "name": "../../etc/passwd"}}
    provenance = {**content["provenance"], "views": 3}
    for changes in (
        {"files": outside}, {"files": named}, {"files": {}}, {"version": 1}, {"version": "2"}, {"photos": -1},
        {"photos": 10**12}, {"dimension": 4}, {"individuals": 3}, {"more": 1}, {"provenance": provenance},
        {"codes": {"axes": 3, "fetched": 1}}, {"codes": {"axes": 4, "fetched": 1, "kind": "faiss"}},
        {"exact_up_to": "10"},
    ):  # fmt: skip
        forge(folder, **changes)
        with pytest.raises(FlukeprintError, match="expected|is not what it should be|has version|must list"):
            load_gallery(folder)
        path.write_text(whole)
    for text in ("[]", "[" * 100_000, '{"version": NaN', "\x00"):
        path.write_text(text)
        with pytest.raises(FlukeprintError, match=r"gallery\.json (is not valid JSON|holds a list)"):
            load_gallery(folder)


@pytest.fixture
def coded(tmp_path) -> Path:
    save_gallery(small_gallery(60, exact_up_to=10), tmp_path / "gallery")
    return tmp_path / "gallery"


@pytest.mark.parametrize(
    ("part", "array", "message"),
    [
        ("axes", np.full((16, 9), np.nan, np.float32), "values that are no numbers"),
        ("axes", np.zeros((64, 9), np.float32), r"expected float32 \(16, 9\)"),
        ("codes", np.zeros((60, 7), np.uint8), r"expected uint8 \(60, 8\)"),
    ],
)
def test_other_codes_are_refused(coded, part, array, message):
    replace_file(coded, part, npy(array))
    with pytest.raises(FlukeprintError, match=message):
        load_gallery(coded)


def test_forged_codes_change_who_is_found_and_nothing_that_is_said_of_them(coded):
    """Any codes can be searched: what comes out is scored by the vectors."""
    gallery, query = load_gallery(coded), vectors_of(1, seed=1)
    exact = Searcher(gallery.vectors.astype(np.float32), gallery.individual).search(query, 20)
    rng = np.random.default_rng(0)
    replace_file(coded, "codes", npy(rng.integers(0, 256, (60, 8), np.uint8)))
    replace_file(coded, "axes", npy(rng.normal(size=(16, 9)).astype(np.float32) * 1e30))
    forge(coded, codes={"axes": 16, "fetched": 30})
    found = Searcher.of(load_gallery(coded)).search(query, 3)
    similarity = dict(zip(exact.individual[0].tolist(), exact.nearest[0].tolist(), strict=True))
    for place, nearest in zip(found.individual[0], found.nearest[0], strict=True):
        assert place < 0 or similarity[place] == nearest


@pytest.mark.parametrize("fetched", [0, 61, 10**30, None])
def test_a_search_of_no_or_too_many_codes_is_refused(coded, fetched):
    forge(coded, codes={"axes": 16, "fetched": fetched} if fetched is not None else None)
    with pytest.raises(FlukeprintError, match=r"codes cannot be fetched|fetched: |files are \["):
        load_gallery(coded)


def test_a_gallery_of_the_version_before_is_refused(folder):
    forge(folder, version=2)
    with pytest.raises(FlukeprintError, match=r"gallery\.json has version 2, this program reads 3\. .*dvc repro"):
        load_gallery(folder)


def test_no_gallery(tmp_path):
    with pytest.raises(FlukeprintError, match=r"no gallery in .*gallery\.json is missing"):
        load_gallery(tmp_path / "none")
