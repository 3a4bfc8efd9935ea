"""Shards of pixels: cut by names, kept while what they are made of stays, made anew where it does not."""

import hashlib
import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imports import ROOT, closure
from PIL import Image
from pixel_folder import checked

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, write_json
from flukeprint.data import pixel_shards, pixels
from flukeprint.data.cropping import Crop, Found
from flukeprint.data.photos import read_rgb
from flukeprint.data.pixel_shards import INDEX, PixelShards
from flukeprint.data.pixels import CheckedPhoto, cut, write_pixels

SIZE = (6, 8)
CROP = Crop(localiser="0" * 64, size=[32, 32], confidence=0.5, margin=0.0, shape="squashed", upright=False)
BOX = Found(0.25, 0.25, 0.75, 0.75, 0.9, 0.0)
NAMES = [f"{number:03}.png" for number in range(24)]


def draw(source: Path, name: str, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(source / name)


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A folder of photos, of which some four make a shard."""
    monkeypatch.setattr(pixels, "_MEAN", 4)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        draw(folder, name, number)
    return folder


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the photos that are decoded, as they are."""
    names: list[str] = []
    read = pixels._read
    monkeypatch.setattr(pixels, "_read", lambda *given: (names.append(given[1].name), read(*given))[1])
    return names


def write(source: Path, names: list[str], size: tuple[int, int] = SIZE, crop: Crop | None = None, **found) -> Path:
    """Write the pixels of photos; those with a box are named by their stems."""
    boxes = {f"{name}.png": box for name, box in found.items()}
    write_pixels(source.parent / "train", source, checked(source, names, boxes), size, 1, crop)
    return source.parent / "train"


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return what tells files that were left alone."""
    stats = {path: path.stat() for path in folder.glob("*.npy")}
    return {path.name: (path.read_bytes(), stat.st_mtime_ns, stat.st_ino) for path, stat in stats.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_of_shards(names: Iterable[str] = NAMES) -> list[list[str]]:
    return [[photo.name for photo in shard] for shard in cut(CheckedPhoto(name, "") for name in names)]


def shard_of(name: str) -> list[str]:
    """Return the names of the photos in the shard of one."""
    [found] = [names for names in names_of_shards() if name in names]
    return found


@given(st.sets(st.text("abc", max_size=6)), st.text("abc", max_size=6))
def test_a_photo_more_changes_one_shard_or_splits_it(names, added):
    """Whatever the names are, and in which order they come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixels, "_MEAN", 3)
        before, after = names_of_shards(names), names_of_shards(sorted(names | {added}, reverse=True))
    assert [*chain(*before)] == sorted(names)
    assert [*chain(*after)] == sorted(names | {added})
    assert len([shard for shard in before if shard not in after]) <= 1
    assert len([shard for shard in after if shard not in before]) <= 2


def test_shards_are_no_longer_than_the_most(monkeypatch):
    monkeypatch.setattr(pixels, "_MOST", 7)
    assert [len(shard) for shard in cut(CheckedPhoto(f"{n:03}", "") for n in range(20))] == [7, 7, 6]
    assert cut([]) == []


def test_rows_are_the_photos_in_the_given_order(source):
    names = [*NAMES[::-3], *NAMES[1::3], NAMES[5], NAMES[5]]
    read = PixelShards(write(source, names))
    expected = np.stack([read_rgb(source, name, SIZE) for name in names])
    assert (len(read), read.shape) == (len(names), expected.shape)
    some = np.array([3, 16, 16, 0, -1])
    for rows in (slice(None), slice(4, 9), slice(0, 0), some, some[:0]):
        np.testing.assert_array_equal(read[rows], expected[rows])
    assert [read.keys.index(key) for key in read.keys] == [names.index(name) for name in names]


def test_many_shards_do_not_need_many_descriptors(source, monkeypatch):
    monkeypatch.setattr(pixel_shards, "_MOST_MAPPED", 2)
    read = PixelShards(write(source, NAMES))
    np.testing.assert_array_equal(read[::-1], np.stack([read_rgb(source, name, SIZE) for name in NAMES[::-1]]))
    assert read._mapped.cache_info().misses == len(list((source.parent / "train").glob("*.npy"))) > 4
    assert read._mapped.cache_info().currsize == 2


def test_the_same_photos_are_not_decoded_again(source, decoded):
    """In another order too, as a changed label or a column more of the table leaves them."""
    folder = write(source, NAMES)
    assert sorted(decoded) == NAMES
    before, record = state(folder), read_json(folder.parent / "train_made.json")
    decoded.clear()
    write(source, NAMES[::-1])
    assert decoded == []
    assert state(folder) == before
    assert read_json(folder.parent / "train_made.json") == record
    np.testing.assert_array_equal(PixelShards(folder)[:1], read_rgb(source, NAMES[-1], SIZE)[None])


def test_a_photo_more_is_decoded_with_its_shard_alone(source, decoded):
    names = [name for name in NAMES if name != NAMES[17]]
    folder = write(source, names)
    before = state(folder)
    decoded.clear()
    write(source, NAMES)
    assert decoded == shard_of(NAMES[17])
    after = state(folder)
    assert len(after.keys() & before.keys()) == len(before) - 1
    assert all(after[name] == before[name] for name in after.keys() & before.keys())
    # It is what a new folder would have been, and without the photo what there was before.
    files = contents(folder)
    write(source, names)
    assert state(folder).keys() == before.keys()
    for path in folder.iterdir():
        path.unlink()
    write(source, NAMES)
    assert contents(folder) == files


def test_what_changes_pixels_makes_their_shards_anew(source, decoded, monkeypatch):
    boxes = dict.fromkeys((name[:3] for name in NAMES), BOX)
    folder = write(source, NAMES, SIZE, CROP, **boxes)

    def redone(*given, **found) -> list[str]:
        decoded.clear()
        write(source, NAMES, *given, **found)
        return sorted(decoded)

    assert redone(SIZE, CROP, **boxes) == []
    assert redone(SIZE, CROP, **boxes | {"009": BOX._replace(x0=0.3)}) == shard_of("009.png")
    draw(source, "019.png", 99)
    assert redone(SIZE, CROP, **boxes) == sorted({*shard_of("009.png"), *shard_of("019.png")})
    assert redone((8, 6), CROP, **boxes) == NAMES
    assert redone((8, 6), CROP.model_copy(update={"margin": 0.1}), **boxes) == NAMES
    assert redone((8, 6)) == NAMES
    names = sorted(path.name for path in folder.iterdir())
    for target, other in (("_code", lambda: "edited"), ("version", lambda _: "14.0")):
        monkeypatch.setattr(pixels, target, other)
        assert redone((8, 6)) == NAMES
    # The same came of it: nothing that reads the pixels runs again.
    assert sorted(path.name for path in folder.iterdir()) == names


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_shard_that_is_not_whole_is_made_again(source, decoded, damage):
    folder = write(source, NAMES)
    before = contents(folder)
    name, content = min(before.items())
    (folder / name).unlink()
    if damage != "gone":
        (folder / name).write_bytes(content[:-1] + bytes(damage == "changed"))
    decoded.clear()
    write(source, NAMES)
    assert 0 < len(decoded) < 20
    assert contents(folder) == before


def test_what_is_linked_to_is_never_written(source, tmp_path):
    """As DVC's cache is, whose files may be the workspace's own."""
    folder = write(source, NAMES)
    linked = tmp_path / "cache"
    linked.mkdir()
    for path in folder.iterdir():
        (linked / path.name).hardlink_to(path)
    before = contents(linked)
    for name in NAMES[::5]:
        draw(source, name, 1000)  # equal photos, which are shards of their own
    write(source, NAMES)
    assert len({PixelShards(folder).keys[row] for row in range(0, 24, 5)}) == 1
    assert contents(linked) == before


def test_what_else_lies_there_is_removed_and_its_neighbours_stay(source, decoded):
    folder = write(source, NAMES)
    write_json(folder.parent / "crop.json", None)
    (folder / ".0.npy.12ab34cd.tmp").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    (folder / "inner").mkdir()
    names = {INDEX, *state(folder)}
    write(source, NAMES)
    assert {path.name for path in folder.iterdir()} == names
    assert (folder.parent / "crop.json").read_text() == "null\n"


@pytest.mark.parametrize("record", [None, "{", "[1]", '{"a": 1}', '{"KEY": 1}', '{"KEY": "../train/NAME"}'])
def test_without_a_record_of_ours_all_is_decoded(source, decoded, record):
    folder = write(source, NAMES[:1])
    path = folder.parent / "train_made.json"
    [(key, name)] = read_json(path).items()
    path.unlink()
    if record:
        path.write_text(record.replace("KEY", key).replace("NAME", name))
    write(source, NAMES[:1])
    # A name that leads elsewhere is read in the folder.
    assert len(decoded) == (1 if record and "NAME" in record else 2)
    assert read_json(path) == {key: name}


def test_a_killed_run_goes_on_where_it_was(source, decoded, monkeypatch):
    read = pixels._read

    def fails(*given):
        if given[1].name == "013.png":
            raise FlukeprintError("killed")
        return read(*given)

    monkeypatch.setattr(pixels, "_read", fails)
    with pytest.raises(FlukeprintError, match="killed"):
        write(source, NAMES)
    done = {photo for photo in decoded if photo not in shard_of("013.png")}
    decoded.clear()
    monkeypatch.setattr(pixels, "_read", read)
    np.testing.assert_array_equal(
        PixelShards(write(source, NAMES))[:], np.stack([read_rgb(source, name, SIZE) for name in NAMES])
    )
    assert done
    assert sorted(decoded) == sorted(set(NAMES) - done)


def test_no_photos_leave_an_index_alone(source):
    folder = write(source, [])
    read = PixelShards(folder)
    assert (len(read), read.shape, read[:].shape, read.keys) == (0, (0, 3, *SIZE), (0, 3, *SIZE), [])
    assert [path.name for path in folder.iterdir()] == [INDEX]


def test_a_photo_that_is_not_the_one_that_was_checked_is_refused(source):
    photos = checked(source, NAMES[:3])
    draw(source, NAMES[1], 1000)
    with pytest.raises(FlukeprintError, match=r"001\.png is not the photo that stage validate checked"):
        write_pixels(source.parent / "train", source, photos, SIZE, 1)


def test_shards_and_indexes_that_are_not_ours_are_refused(source):
    folder = write(source, NAMES[:1])
    [shard] = folder.glob("*.npy")
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    read = PixelShards(folder)
    with pytest.raises(FlukeprintError, match=f"{shard.name} is not a plain .npy file"):
        read[:]
    (folder / INDEX).write_bytes(content)
    with pytest.raises(FlukeprintError, match="index.parquet is not a readable Parquet file"):
        PixelShards(folder)


def test_what_decides_on_pixels_is_all_of_the_package_that_is_imported_to_make_them():
    modules = {Path(name).name for name in closure(ROOT / "flukeprint/data/pixels.py") if "flukeprint/data/" in name}
    assert sorted(modules) == sorted(pixels.MODULES)
    digest = hashlib.sha256(b"".join((ROOT / "flukeprint/data" / name).read_bytes() for name in pixels.MODULES))
    assert pixels._code() == digest.hexdigest()
    assert json.dumps(pixels._PACKAGES) == '["pillow", "pillow-heif"]'
