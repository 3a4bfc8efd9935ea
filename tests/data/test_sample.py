"""The drawn sample: its layout, its long tail, its duplicates, and that a seed fixes every byte."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flukeprint.core.errors import FlukeprintError
from flukeprint.data import drawn_flukes
from flukeprint.data.fluke_boxes import read_marked
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.sample import SHIP_PHOTO, SampleSpec, draw_sample, plan_sample

SMALL = SampleSpec(
    photos=(5, 4, 4, 3, 3, 1),
    new_whales=3,
    test_known=5,
    test_new=2,
    duplicates=1,
    conflicts=1,
    test_duplicates=2,
    width=64,
    height=32,
)


def _draw(folder: Path, seed: int, spec: SampleSpec) -> Path:
    folder.mkdir()
    draw_sample(folder, seed, spec)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _grey(path: Path) -> np.ndarray:
    """Return a photo's 24 x 16 px grey thumbnail with zero mean and unit norm."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L").resize((24, 16), Image.Resampling.BOX), np.float64)
    return (pixels - pixels.mean()) / np.linalg.norm(pixels - pixels.mean())


def _true_test_labels() -> dict[str, str]:
    return {photo.name: photo.label for photo in plan_sample(0)[1]}


def _planted_duplicates() -> list[tuple[str, str]]:
    """Return (copy, original) for every photo that was re-encoded from a train photo."""
    return [(photo.name, photo.copy_of) for part in plan_sample(0) for photo in part if photo.copy_of]


def _find(folder: Path, name: str) -> Path:
    return next(path for path in (folder / "train" / name, folder / "test" / name) if path.exists())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _draw(tmp_path_factory.mktemp("sample") / "full", 0, SampleSpec())


@pytest.fixture(scope="module")
def train(full: Path) -> pd.DataFrame:
    return pd.read_csv(full / "train.csv")


def test_a_seed_fixes_every_byte(tmp_path: Path) -> None:
    once, again = (_files(_draw(tmp_path / name, 7, SMALL)) for name in ("once", "again"))
    assert once == again


def test_another_seed_gives_other_names_labels_and_pictures(tmp_path: Path) -> None:
    first, second = (_draw(tmp_path / str(seed), seed, SMALL) for seed in (7, 8))
    tables = [pd.read_csv(folder / "train.csv") for folder in (first, second)]
    assert set(tables[0].Image) & set(tables[1].Image) == {SHIP_PHOTO}
    assert set(tables[0].Id) & set(tables[1].Id) == {NEW_WHALE}
    assert set(_files(first).values()).isdisjoint(_files(second).values())


def test_a_photo_does_not_depend_on_the_photos_around_it(tmp_path: Path) -> None:
    fewer = _files(_draw(tmp_path / "fewer", 7, replace(SMALL, test_new=0)))
    more = _files(_draw(tmp_path / "more", 7, SMALL))
    assert {name: data for name, data in more.items() if name.startswith("train/")}.items() <= fewer.items()


def test_train_is_the_long_tail(train: pd.DataFrame) -> None:
    counts = train.Id.value_counts()
    named = counts.drop(NEW_WHALE)
    assert (len(train), counts[NEW_WHALE]) == (1596, 54)
    assert sorted(named, reverse=True) == sorted(SampleSpec().photos, reverse=True)
    assert {n: (named == n).sum() for n in (16, 15, 2, 1)} == {16: 3, 15: 2, 2: 62, 1: 60}
    assert (named > 15).sum() == 18


def test_names_and_labels_are_of_the_competitions_form(train: pd.DataFrame) -> None:
    assert train.Image.is_unique
    assert all(re.fullmatch(r"[0-9a-f]{8}\.jpg", name) for name in train.Image)
    assert all(re.fullmatch(r"w_[0-9a-f]{7}|new_whale", label) for label in train.Id)
    # Neither sorted by label nor by name: the first 18 new_whale rows are a random draw.
    assert not train.Id.is_monotonic_increasing
    assert not train.Image.is_monotonic_increasing


def test_the_tables_name_exactly_the_files(full: Path, train: pd.DataFrame) -> None:
    submission = pd.read_csv(full / "sample_submission.csv")
    names = ["boxes.csv", "sample_submission.csv", "test", "train", "train.csv"]
    assert sorted(path.name for path in full.iterdir()) == names
    assert {path.name for path in (full / "train").iterdir()} == set(train.Image)
    assert {path.name for path in (full / "test").iterdir()} == set(submission.Image)
    assert set(train.Image).isdisjoint(submission.Image)
    guess = submission.Id.unique()
    assert len(submission) == 90
    assert len(guess) == 1
    assert guess[0].split()[0] == NEW_WHALE
    assert set(guess[0].split()[1:]) == set(train.Id.value_counts().drop(NEW_WHALE).index[:4])


def test_the_first_photos_have_a_box_around_their_fluke(full: Path, train: pd.DataFrame) -> None:
    names, boxes = read_marked(full / "boxes.csv", set(train.Image))
    assert names == train.Image[:400].tolist()
    flukes = boxes[~np.isnan(boxes[:, 0])]
    assert len(flukes) >= 399  # the ship may be among them
    width, height = np.median(flukes[:, 2:] - flukes[:, :2], axis=0)
    assert 0.8 < width < 0.95
    assert 0.4 < height < 0.95


def test_a_box_goes_with_what_the_archive_does_to_its_photo() -> None:
    """A white patch on black, as a fluke: whatever becomes of the photo, its box holds just the patch."""
    patch = np.zeros((60, 100, 3), np.float32)
    patch[10:40, 20:90] = 1
    seen = set()
    for number in range(60):
        image, box = drawn_flukes._archive(np.random.default_rng(number), patch, (20.0, 10.0, 90.0, 40.0))
        assert box is not None
        left, top, right, bottom = np.multiply(box, [*image.size, *image.size]).round().astype(int)
        grey = np.asarray(image.convert("L"), int)
        inside = grey[top + 2 : bottom - 2, left + 2 : right - 2]
        assert inside.mean() > 200  # a caption may be written over it
        assert grey[top:bottom, max(left - 2, 0)].mean() < 128 or left < 3
        assert (right - left, bottom - top) == (70, 30)
        seen.add((image.size, left, top))
    assert len(seen) > 5  # framed, captioned, turned and plain ones


def test_every_photo_decodes_to_its_size(full: Path) -> None:
    sizes, modes = [], Counter()
    for path in full.glob("*/*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert image.format == "JPEG"
            sizes.append(image.size)
            modes[image.mode] += 1
    widths, heights = zip(*sizes, strict=True)
    assert 90 <= min(widths) <= max(widths) <= 240
    assert 50 <= min(heights) <= max(heights) <= 150
    assert len(set(sizes)) > 200
    assert 0.1 < modes["L"] / len(sizes) < 0.35


def test_the_truth_of_test_photos_is_known_but_not_written(full: Path, train: pd.DataFrame) -> None:
    truth = _true_test_labels()
    assert set(truth) == {path.name for path in (full / "test").iterdir()}
    counts = train.Id.value_counts()
    known = [label for label in truth.values() if label != NEW_WHALE]
    assert len(known) == 60
    assert set(known) <= set(train.Id)
    assert {1, 2} <= {counts[label] for label in known}, "individuals with few train photos are among them too"


def test_the_ship_is_filed_under_an_individual_over_the_threshold(full: Path, train: pd.DataFrame) -> None:
    ship = train.loc[train.Image == SHIP_PHOTO, "Id"].item()
    assert ship != NEW_WHALE
    assert (train.Id == ship).sum() > 16, "over the threshold with and without the ship"
    with Image.open(full / "train" / SHIP_PHOTO) as image:
        assert image.width > image.height


def test_planted_duplicates_look_the_same(full: Path) -> None:
    pairs = _planted_duplicates()
    assert len(pairs) == 12 + 2 + 3
    for copy, original in pairs:
        a, b = _find(full, copy), _find(full, original)
        assert b.parent.name == "train"
        assert a.read_bytes() != b.read_bytes()
        assert (_grey(a) * _grey(b)).sum() > 0.95


def test_two_pairs_of_duplicates_have_conflicting_labels(train: pd.DataFrame) -> None:
    label = dict(zip(train.Image, train.Id, strict=True)) | _true_test_labels()
    conflicting = [pair for pair in _planted_duplicates() if label[pair[0]] != label[pair[1]]]
    assert len(conflicting) == 2
    assert NEW_WHALE not in {label[name] for pair in conflicting for name in pair}


def test_three_test_photos_copy_train_photos(train: pd.DataFrame) -> None:
    truth = _true_test_labels()
    label = dict(zip(train.Image, train.Id, strict=True))
    copied = [(copy, original) for copy, original in _planted_duplicates() if copy in truth]
    assert len(copied) == 3
    assert all(truth[copy] == label[original] for copy, original in copied)


def test_photos_that_are_no_copies_differ(full: Path) -> None:
    copies = {copy for copy, _ in _planted_duplicates()}
    photos = np.stack([_grey(path).ravel() for path in sorted(full.glob("*/*.jpg")) if path.name not in copies])
    likeness = photos @ photos.T
    np.fill_diagonal(likeness, 0)
    # A mean squared difference of standardised thumbnails of validate.duplicates.mse, 0.07, is a correlation of 0.965.
    assert likeness.max() < 1 - 0.07 / 2


def test_photos_of_one_individual_are_more_alike_than_of_two(full: Path, train: pd.DataFrame) -> None:
    """With one other photo of each individual, raw pixels find the right one far more often than chance, but rarely."""
    copies = {copy for copy, _ in _planted_duplicates()} | {SHIP_PHOTO}
    rows = train[(train.Id != NEW_WHALE) & ~train.Image.isin(copies)].groupby("Id").head(2)
    rows = rows[rows.Id.duplicated(keep=False)]
    photos = np.stack([_grey(full / "train" / name).ravel() for name in rows.Image])
    first = ~rows.Id.duplicated().to_numpy()
    likeness, labels = photos[~first] @ photos[first].T, rows.Id.to_numpy()
    score = (labels[first][likeness.argmax(1)] == labels[~first]).mean()
    assert 20 / first.sum() < score < 0.5


def test_individuals_differ_in_their_trailing_edge() -> None:
    edges = [drawn_flukes._lobes(np.random.default_rng([0, number]))[0].trailing_edge() for number in range(10)]
    gaps = [np.abs(a - b)[:, 1].max() for i, a in enumerate(edges) for b in edges[:i]]
    assert min(gaps) > 0.03


def test_only_an_empty_folder_is_drawn_into(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FlukeprintError, match="empty"):
        draw_sample(tmp_path, 0, SMALL)
    with pytest.raises(FlukeprintError, match="empty"):
        draw_sample(tmp_path / "absent", 0, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duplicates": 9}, "9 duplicates"),
        ({"photos": (3, 0)}, "one or more"),
        ({"photos": ()}, "one or more"),
        ({"photos": (1, 1), "duplicates": 0, "conflicts": 0}, "ship"),
        ({"width": 8}, "too small"),
    ],
)
def test_an_impossible_spec_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(FlukeprintError, match=message):
        draw_sample(tmp_path, 0, replace(SMALL, **change))


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlukeprintError, match="seed is -1"):
        draw_sample(tmp_path, -1, SMALL)
