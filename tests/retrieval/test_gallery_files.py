"""The gallery's folder: the same bytes, whole or not at all, nothing lost, and no trust in what is in it."""

import hashlib
import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_folder import PROVENANCE, add_photos, read_on, small_gallery, vectors_of

from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval import gallery_files
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery, update_gallery
from flukeprint.retrieval.search import Searcher


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=[1000, 10], ids=["exact", "ivf"])
def folder(request, tmp_path) -> Path:
    save_gallery(small_gallery(60, exact_up_to=request.param), tmp_path / "gallery")
    return tmp_path / "gallery"


def test_what_was_saved_is_loaded(folder):
    loaded = load_gallery(folder)
    built = small_gallery(60, loaded.exact_up_to)
    np.testing.assert_array_equal(loaded.vectors, built.vectors)
    assert loaded.photos == built.photos
    assert loaded.provenance == PROVENANCE
    assert list(loaded.provenance.weights) == ["m1", "m2"]
    queries = vectors_of(5, seed=1)
    one, other = (Searcher.of(gallery).search(queries, 4) for gallery in (loaded, built))
    assert one.individual.tolist() == other.individual.tolist()
    assert one.nearest.tolist() == other.nearest.tolist()
    assert (loaded.cells is None) == (built.cells is None)


def test_the_same_gallery_has_the_same_bytes(folder, tmp_path):
    save_gallery(load_gallery(folder), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_add_then_remove_gives_the_same_bytes(folder):
    before = contents(folder)
    update_gallery(folder, lambda gallery: gallery.add(vectors_of(1, seed=2), ["x.jpg"], ["w_x"]))
    changed = contents(folder)
    assert changed != before
    assert len(changed) == len(before)  # the old files are gone
    update_gallery(folder, lambda gallery: gallery.remove(ids=["w_x"]))
    assert contents(folder) == before


def test_an_empty_gallery(tmp_path):
    empty = small_gallery().remove(ids=["w_0", "w_1", "w_2", "w_3"])
    save_gallery(empty, tmp_path / "gallery")
    assert load_gallery(tmp_path / "gallery").vectors.shape == (0, 8)


def test_a_change_that_fails_changes_nothing(folder):
    before = contents(folder)
    with pytest.raises(FlukeprintError, match="no individual"):
        update_gallery(folder, lambda gallery: gallery.remove(ids=["w_none"]))
    assert contents(folder) == before


def test_a_write_that_breaks_off_leaves_the_old_gallery(folder, monkeypatch):
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    old = load_gallery(folder)
    monkeypatch.setattr(gallery_files, "write_manifest", full)
    with pytest.raises(OSError, match="No space"):
        update_gallery(folder, lambda gallery: gallery.remove(ids=["w_1"]))
    monkeypatch.undo()
    assert load_gallery(folder).photos == old.photos
    update_gallery(folder, lambda gallery: gallery)
    assert len(contents(folder)) == (3 if old.cells is None else 5)  # what it left behind is cleared away


# --- two writers, and readers meanwhile ---


def test_two_writers_lose_nothing_and_readers_see_whole_galleries(tmp_path):
    folder = tmp_path / "gallery"
    save_gallery(small_gallery(60), folder)
    context = multiprocessing.get_context("spawn")  # a fork would inherit OpenMP's threads
    ready, done, seen = context.Barrier(3), context.Event(), context.Queue()
    writers = [context.Process(target=add_photos, args=(folder, writer, 10, ready)) for writer in (100, 200)]
    reader = context.Process(target=read_on, args=(folder, ready, done, seen))
    for process in (reader, *writers):
        process.start()
    for process in writers:
        process.join(120)
        assert process.exitcode == 0
    done.set()
    sizes = seen.get(timeout=60)
    reader.join(60)
    assert reader.exitcode == 0
    names = {photo.image for photo in load_gallery(folder).photos}
    assert {f"{writer}-{n}.jpg" for writer in (100, 200) for n in range(10)} <= names
    assert len(names) == 80
    assert sizes == sorted(sizes)
    assert set(sizes) <= set(range(60, 81))
    assert len(set(sizes)) > 1


def test_a_reader_starts_again_when_a_writer_was_faster(folder, monkeypatch):
    """The writer replaces the files after the reader has read gallery.json."""
    read = gallery_files.read_manifest
    calls = []

    def slow(path):
        manifest = read(path)
        if not calls:
            calls.append(path)
            update_gallery(folder, lambda gallery: gallery.remove(ids=["w_1"]))
        return manifest

    monkeypatch.setattr(gallery_files, "read_manifest", slow)
    assert len(load_gallery(folder)) == 57


def test_a_writer_does_not_wait_for_ever(folder, monkeypatch):
    monkeypatch.setattr(gallery_files, "_PATIENCE", 0.1)
    with (
        gallery_files.locked(folder),
        pytest.raises(FlukeprintError, match=r"another program has been changing .*gallery"),
    ):
        update_gallery(folder, lambda gallery: gallery)


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
    old = Path(records[key]["name"])
    digest = hashlib.sha256(data).hexdigest()
    records[key] = {"name": f"{key}-{digest[:16]}{old.suffix}", "bytes": len(data), "sha256": digest}
    (folder / records[key]["name"]).write_bytes(data)
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
    replace_file(folder, "vectors", npy(vectors_of(60)))
    assert load_gallery(folder).photos[0].image == "00.jpg"


def test_other_manifests_are_refused(folder):
    path = folder / "gallery.json"
    whole = path.read_text()
    content = json.loads(whole)
    records = content["files"]
    outside = {**records, "photos": {**records["photos"], "name": "../../etc/passwd"}}
    other = {**records, "photos": {**records["photos"], "name": records["vectors"]["name"]}}
    provenance = {**content["provenance"], "views": 3}
    for changes in (
        {"files": outside}, {"files": other}, {"files": {}}, {"version": 1}, {"version": "2"}, {"photos": -1},
        {"photos": 10**12}, {"dimension": 4}, {"individuals": 3}, {"more": 1}, {"provenance": provenance},
        {"index": {**content["index"], "kind": "faiss"}},
    ):  # fmt: skip
        forge(folder, **changes)
        with pytest.raises(FlukeprintError, match="expected|is not a gallery's|has version|must list"):
            load_gallery(folder)
        path.write_text(whole)
    for text in ("[]", "[" * 100_000, '{"version": NaN', "\x00"):
        path.write_text(text)
        with pytest.raises(FlukeprintError, match=r"gallery\.json (is not valid JSON|holds a list)"):
            load_gallery(folder)


def test_cells_out_of_range_are_refused(tmp_path):
    folder = tmp_path / "gallery"
    save_gallery(small_gallery(60, exact_up_to=10), folder)
    replace_file(folder, "cells", npy(np.full(60, 10**6, np.int32)))
    with pytest.raises(FlukeprintError, match="names cells outside"):
        load_gallery(folder)


@pytest.mark.parametrize("probes", [0, 10**30])
def test_a_search_of_no_or_too_many_cells_is_refused(tmp_path, probes):
    folder = tmp_path / "gallery"
    save_gallery(small_gallery(60, exact_up_to=10), folder)
    content = json.loads((folder / "gallery.json").read_text())
    forge(folder, index={**content["index"], "probes": probes})
    with pytest.raises(FlukeprintError, match="cells cannot be searched"):
        load_gallery(folder)


def test_no_gallery(tmp_path):
    with pytest.raises(FlukeprintError, match=r"no gallery in .*gallery\.json is missing"):
        load_gallery(tmp_path / "none")


# --- the command ---


def test_the_command_changes_a_gallery(folder, tmp_path, capsys):
    where = ["--gallery", str(folder)]
    main(["gallery", "info", *where, "--json"])
    about = json.loads(capsys.readouterr().out)
    assert (about["photos"], about["individuals"], about["most_photos"]) == (60, 20, 3)
    save_gallery(small_gallery(60), tmp_path / "whole")
    main(["gallery", "remove", *where, "--id", "w_1", "--image", "0.jpg"])
    main(["gallery", "rename", *where, "w_2", "w_3"])
    assert "56 photos of 18 individuals" in capsys.readouterr().out
    main(["gallery", "rename", *where, "w_3", "w_2"])
    main(["gallery", "info", *where])
    assert "members.m1" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: .*is the same file as"):
        main(["gallery", "merge", str(tmp_path / "whole"), *where])
    with pytest.raises(SystemExit, match="error: nothing to remove"):
        main(["gallery", "remove", *where])


def test_the_command_merges(folder, tmp_path, capsys):
    save_gallery(small_gallery(60), tmp_path / "whole")
    main(["gallery", "remove", "--gallery", str(folder), "--id", "w_1"])
    main(["gallery", "merge", str(tmp_path / "whole"), "--gallery", str(folder)])
    assert capsys.readouterr().out.splitlines()[-1].endswith("60 photos of 20 individuals")
