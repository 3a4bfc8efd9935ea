"""A kill before every call of the file system: the old state or the new one, and no litter after the next call."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gallery_folder import small_gallery
from killed_writers import SOME, Killed
from pixel_folder import checked
from quality_folder import Folder

from flukeprint.core import replacement
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import (
    read_frame,
    read_json,
    read_npy,
    read_safetensors,
    write_frame,
    write_json,
    write_npy,
    write_safetensors,
)
from flukeprint.core.replacement import recover, replacing, replacing_folder
from flukeprint.data import pixels
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.data.pixels import write_pixels
from flukeprint.data.sources import fetch
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery

OUT = Path("out")
# A writer of `value`, and a reader of it.
FILES = {
    "json": (lambda value: write_json(OUT, value), lambda: read_json(OUT)),
    "npy": (lambda value: write_npy(OUT, np.full(9, value)), lambda: int(read_npy(OUT)[8])),
    "parquet": (
        lambda value: write_frame(OUT, pd.DataFrame({"a": [value]})),
        lambda: read_frame(OUT)["a"].tolist()[0],
    ),
    "safetensors": (
        lambda value: write_safetensors(OUT, {"a": torch.tensor([value])}),
        lambda: int(read_safetensors(OUT)[0]["a"]),
    ),
}


def in_folder(folder: Path, monkeypatch) -> Path:
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("old", [None, 1])
def test_files(tmp_path, monkeypatch, kind, old):
    write, read = FILES[kind]
    start = in_folder(tmp_path / "start", monkeypatch)
    if old is not None:
        write(old)
    killed = Killed(start, lambda: write(2), lambda: read() if OUT.exists() else None)
    kills, found = killed.everywhere(tmp_path)
    assert kills >= 5
    assert {pair[0] for pair in found} == {old, 2}
    assert {pair[1] for pair in found} == {2}


def write_folder(value: int) -> None:
    with replacing_folder(OUT) as temporary:
        write_json(temporary / "a.json", value)
        (temporary / "inner").mkdir()
        (temporary / "inner" / "b.txt").write_text(str(value), encoding="utf-8")


def read_folder() -> tuple[int, int]:
    recover(OUT)
    return read_json(OUT / "a.json"), int((OUT / "inner" / "b.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
def test_folders(tmp_path, monkeypatch, exchange):
    start = in_folder(tmp_path / "start", monkeypatch)
    write_folder(1)
    if not exchange:
        monkeypatch.setattr(replacement, "_exchange", lambda *_: False)
    kills, found = Killed(start, lambda: write_folder(2), read_folder).everywhere(tmp_path)
    assert kills >= 15
    assert {pair[0] for pair in found} == {(1, 1), (2, 2)}
    assert {pair[1] for pair in found} == {(2, 2)}


def test_what_was_moved_aside_is_put_back_by_a_reader_or_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(1)
    aside = OUT.rename(".out.12ab34cd.old")
    with (
        replacement._locked(aside),
        pytest.raises(FlukeprintError, match=r"out is missing: .* rename \.out\.12ab34cd\.old"),
    ):
        recover(OUT)
    assert read_folder() == (1, 1)


def test_what_a_living_writer_holds_stays(tmp_path):
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_other_names_are_left_alone(tmp_path):
    names = [".a.tmp", ".a.xyz.tmp", ".ab.12ab.tmp", ".a.b.12ab.tmp", "a.12ab.tmp", ".a.12ab.lock"]
    for name in names:
        (tmp_path / name).write_text("")
    write_json(tmp_path / "a", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "a"])


def test_pixels_and_raw_photos(tmp_path, monkeypatch):
    start = in_folder(tmp_path / "start", monkeypatch)
    Folder.make(Path("incoming"))
    names = sorted(path.name for path in Path("incoming/train").iterdir())[:3]
    size = (4, 6)
    monkeypatch.setattr(pixels, "_MOST", 2)
    photos = checked(Path("incoming/train"), names)
    write_pixels(OUT, Path("incoming/train"), photos[:1], size, 1)
    writer = Killed(
        start,
        lambda: write_pixels(OUT, Path("incoming/train"), photos, size, 1),
        lambda: (PixelShards(OUT)[:].shape, len(list(OUT.iterdir()))),
    )
    kills, found = writer.everywhere(tmp_path)
    assert {pair[0][0] for pair in found} == {(1, 3, 4, 6), (3, 3, 4, 6)}
    assert {pair[1] for pair in found} == {((3, 3, 4, 6), 3)}
    fetch("folder", Path("raw"), "incoming", 0)
    Path("raw/train.csv").write_text("old", encoding="utf-8")
    fetched = Killed(
        start,
        lambda: fetch("folder", Path("raw"), "incoming", 0),
        lambda: (Path("raw/train.csv").stat().st_size, len(list(Path("raw").rglob("*")))),
    )
    more, found = fetched.everywhere(tmp_path, SOME)
    assert {pair[0][0] for pair in found} == {3, Path("incoming/train.csv").stat().st_size}
    assert len({pair[0][1] for pair in found}) == 1
    assert kills + more >= 20


@pytest.mark.parametrize("exact_up_to", [1000, 10], ids=["exact", "cells"])
def test_galleries(tmp_path, monkeypatch, exact_up_to):
    start = in_folder(tmp_path / "start", monkeypatch)
    save_gallery(small_gallery(60, exact_up_to=exact_up_to), Path("gallery"))
    new = small_gallery(63, exact_up_to=exact_up_to)

    def photos() -> int:
        recover(Path("gallery"))
        return len(load_gallery(Path("gallery")))

    kills, found = Killed(start, lambda: save_gallery(new, Path("gallery")), photos).everywhere(tmp_path, SOME)
    assert kills >= 24 // SOME
    assert {pair[0] for pair in found} == {60, 63}
    assert {pair[1] for pair in found} == {63}
