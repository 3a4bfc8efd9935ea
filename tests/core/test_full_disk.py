"""A disk, or a file, without room: one message that names the file, nothing half-written, nothing temporary left."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gallery_folder import small_gallery
from PIL import Image
from pixel_folder import checked

from flukeprint.core import files
from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import (
    create_npy,
    read_npy,
    write_bytes,
    write_frame,
    write_json,
    write_npy,
    write_safetensors,
)
from flukeprint.core.replacement import replacing, replacing_folder
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.data.pixels import write_pixels
from flukeprint.data.sources import fetch
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery

LIMIT = 1 << 20  # bytes
NOISE = np.random.default_rng(0).integers(0, 256, 3 * LIMIT, dtype=np.uint8)


def write_in_place(path: Path) -> None:
    with replacing(path) as temporary:
        create_npy(temporary, np.uint8, NOISE.shape)[:] = NOISE


def write_csv(path: Path) -> None:
    with replacing(path) as temporary:
        pd.DataFrame({"a": NOISE}).to_csv(temporary)


def write_folder(path: Path) -> None:
    with replacing_folder(path) as temporary:
        (temporary / "index.html").write_text("x" * len(NOISE), encoding="utf-8")


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_bytes(path, NOISE.tobytes()),
    "json": lambda path: write_json(path, NOISE.tolist()),
    "npy": lambda path: write_npy(path, NOISE),
    "npy in place": write_in_place,
    "parquet": lambda path: write_frame(path, pd.DataFrame({"a": NOISE})),
    "safetensors": lambda path: write_safetensors(path, {"a": torch.from_numpy(NOISE)}),
    "csv": write_csv,
    "folder": write_folder,
    "raw photos": lambda path: fetch("folder", path, str(path.parents[1] / "photos"), 0),
}


@contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={LIMIT}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only who may mount can make a small disk")
    try:
        yield "no space left on the disk"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def small_files(_folder: Path) -> Iterator[str]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield "larger than a file may be here"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=[small_disk, small_files], ids=["disk", "ulimit"])
def full(request, tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder without room for NOISE, and what is said of that; beside it, photos that are as large."""
    for name in ("disk", "photos/train", "photos/test"):
        (tmp_path / name).mkdir(parents=True)
    Image.fromarray(NOISE[: 1200 * 900 * 2 : 2].reshape(900, 1200)).save(tmp_path / "photos/train/a.png")
    for name in ("train.csv", "sample_submission.csv"):
        (tmp_path / "photos" / name).write_text("Image,Id\na.png,w_a\n")
    (tmp_path / "photos/train/b.png").write_bytes(NOISE.tobytes())
    with request.param(tmp_path / "disk") as says:
        yield tmp_path / "disk", says


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(SystemExit) as end:
        exit_cleanly(lambda: action() and None)
    return str(end.value)


@pytest.mark.parametrize("name", WRITERS)
def test_writers(full, name):
    folder, says = full
    write_json(folder / "old", 1)
    for target in ("new", "old"):
        message = refused(lambda target=target: WRITERS[name](folder / target))
        assert says in message
        assert f"writing {folder / target}." in message or f"error: {folder / target} would" in message
        assert [path.name for path in folder.iterdir()] == ["old"]
        assert (folder / "old").read_text() == "1\n"


def test_a_gallery_stays_as_it_was(full):
    folder, says = full
    save_gallery(small_gallery(60), folder / "gallery")
    many = small_gallery(50_001, exact_up_to=100_000)
    assert says in refused(lambda: save_gallery(many, folder / "gallery"))
    assert len(load_gallery(folder / "gallery")) == 60
    assert [path.name for path in folder.iterdir()] == ["gallery"]


def test_pixels_stay_as_they_were(full):
    folder, says = full
    photos = checked(folder.parent / "photos/train", ["a.png"])
    write_pixels(folder / "train", folder.parent / "photos/train", photos, (10, 10), 1)
    kept = {path.name for path in folder.rglob("*")}
    assert says in refused(
        lambda: write_pixels(folder / "train", folder.parent / "photos/train", photos, (700, 700), 1)
    )
    assert PixelShards(folder / "train").shape == (1, 3, 10, 10)
    assert {path.name for path in folder.rglob("*")} == kept


def test_arrays_take_their_room_also_where_the_system_has_no_call_for_it(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(files, "_BLOCK", 1000)
    create_npy(tmp_path / "a.npy", np.int32, (3, 700))[1] = 7
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 3 * 700 * 4
    array = read_npy(tmp_path / "a.npy", np.int32, (3, 700))
    assert array.sum(axis=1).tolist() == [0, 4900, 0]
    write_npy(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    with small_files(tmp_path) as says:
        assert says in refused(lambda: write_in_place(tmp_path / "c.npy"))


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.arange(6).reshape(2, 3).T, np.zeros((0, 8))])
def test_arrays_have_the_bytes_that_numpy_gives_them(tmp_path, array):
    write_npy(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
