"""The sample data set: drawn flukes in Kaggle's layout, from a seed, offline, in seconds.

All randomness comes from generators seeded by (seed, individual, photo), so a photo does not depend on those drawn
before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.drawn_flukes import Box, draw_photo, draw_skin, recoded
from flukeprint.data.labels import MARKED, NEW_WHALE

# The competition's photo of a ship, filed under an individual's id; the pipeline drops it by this name.
SHIP_PHOTO = "496b52ff.jpg"
# Test photos are further photos of an individual: numbered from here, never met by its train photos.
_TEST_SHOTS = 100_000


@dataclass(frozen=True)
class SampleSpec:
    """What to draw. The defaults are the competition's long tail in small.

    There are enough individuals with two photos or more that `select.holdout` leaves a hundred queries.
    """

    # Train photos of each named individual: over, at and under the pipeline's threshold of 15, down to one.
    photos: tuple[int, ...] = (
        *(30, 28, 26, 24, 23, 22, 21, 20, 20, 19, 19, 18, 18, 17, 17, 16, 16, 16, 15, 15),
        *([12] * 6 + [10] * 8 + [8] * 10 + [7] * 10 + [6] * 16),
        *([5] * 30 + [4] * 50 + [3] * 70 + [2] * 62 + [1] * 60),
    )
    new_whales: int = 54  # train photos labelled new_whale, each of another individual
    test_known: int = 60  # test photos of named individuals
    test_new: int = 30  # test photos of individuals that are not in train
    duplicates: int = 12  # train photos that copy another one of the same label
    conflicts: int = 2  # train photos that copy one of another label
    test_duplicates: int = 3  # test photos that copy a train photo
    ship: bool = True  # file the ship under an individual with many photos
    marked: int = 400  # train photos, the first of the table, whose flukes have a box in boxes.csv
    width: int = 160  # px; a photo's width is 0.85 to 1.15 of it
    height: int = 80  # px, likewise


@dataclass(frozen=True)
class SamplePhoto:
    """One file: which picture it shows, under which label; `copy_of` names the file it was re-encoded from."""

    name: str
    label: str
    individual: int
    shot: int
    copy_of: str | None = None

    def copying(self, original: SamplePhoto) -> SamplePhoto:
        """Return this photo, with its name and label, showing the picture of another."""
        return replace(self, individual=original.individual, shot=original.shot, copy_of=original.name)


def draw_sample(folder: Path, seed: int, spec: SampleSpec = SampleSpec()) -> None:
    """Write train.csv, sample_submission.csv, boxes.csv, train/*.jpg and test/*.jpg into the empty folder `folder`."""
    if not folder.is_dir() or any(folder.iterdir()):
        raise FlukeprintError(f"{folder}: the sample is drawn into an existing, empty folder. Make it or empty it.")
    train, test = plan_sample(seed, spec)
    # What Kaggle's sample submission says of every photo: new_whale and the commonest ids.
    common = Counter(sorted(photo.label for photo in train if photo.label != NEW_WHALE)).most_common(4)
    guess = " ".join([NEW_WHALE, *(label for label, _ in common)])
    _write_csv(folder / "train.csv", [("Image", "Id"), *((photo.name, photo.label) for photo in train)])
    _write_csv(folder / "sample_submission.csv", [("Image", "Id"), *((photo.name, guess) for photo in test)])
    boxes: dict[str, Box | None] = {}
    for part, photos in (("train", train), ("test", test)):
        (folder / part).mkdir()
        boxes |= _draw_photos(folder / part, photos, seed, spec)
    marked = ((photo.name, *_cells(boxes[photo.name])) for photo in train[: spec.marked])
    _write_csv(folder / "boxes.csv", [MARKED, *marked])


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8", newline="\n")


def _cells(box: Box | None) -> list[str]:
    """Return a box as a table has it; empty cells of a photo without a fluke."""
    return [""] * 4 if box is None else [f"{side:.4f}" for side in box]


def _draw_photos(folder: Path, photos: list[SamplePhoto], seed: int, spec: SampleSpec) -> dict[str, Box | None]:
    """Draw and encode photos, individual by individual so that each skin is made once; return their boxes by name."""
    owner = -1
    boxes: dict[str, Box | None] = {}
    for photo in sorted(photos, key=lambda photo: (photo.individual, photo.shot, photo.copy_of or "")):
        if photo.individual != owner:
            skin, owner = draw_skin(np.random.default_rng([seed, 1 + photo.individual])), photo.individual
        rng = np.random.default_rng([seed, 1 + photo.individual, photo.shot])
        image, boxes[photo.name] = draw_photo(rng, None if photo.name == SHIP_PHOTO else skin, spec.width, spec.height)
        quality = int(rng.integers(45, 93))
        if photo.copy_of:
            image, quality = recoded(image, photo.name), 60
        image.save(folder / photo.name, quality=quality)
    return boxes


def plan_sample(seed: int, spec: SampleSpec = SampleSpec()) -> tuple[list[SamplePhoto], list[SamplePhoto]]:
    """Return every photo of train and of test; test labels are the right ones, which no file tells.

    Individuals are numbered: named ones first, then new whales of train, then those of test.
    """
    _check(seed, spec)
    rng = np.random.default_rng([seed])
    names = _distinct_hex(rng, 8, "{}.jpg", {SHIP_PHOTO})
    train = _plan_named(rng, names, spec)
    named = len(spec.photos)
    train += [SamplePhoto(next(names), NEW_WHALE, named + number, 1) for number in range(spec.new_whales)]
    test = _plan_known_test(rng, names, train, spec)
    unseen = named + spec.new_whales
    test += [SamplePhoto(next(names), NEW_WHALE, unseen + number, _TEST_SHOTS) for number in range(spec.test_new)]
    order = rng.permutation(len(train))
    return [train[index] for index in order], sorted(test, key=lambda photo: photo.name)


def _check(seed: int, spec: SampleSpec) -> None:
    """Refuse what cannot be drawn."""
    if seed < 0:
        raise FlukeprintError(f"the sample's seed is {seed}; expected 0 or more.")
    if not spec.photos or min(spec.photos) < 1:
        raise FlukeprintError(f"the sample's photos are {spec.photos}; expected one or more for each individual.")
    if spec.ship and max(spec.photos) < 2:
        raise FlukeprintError("the sample's ship takes the place of a photo: one individual needs two photos or more.")
    if min(spec.width, spec.height) < 32:
        raise FlukeprintError(
            f"the sample's photos of {spec.width} x {spec.height} px are too small; expected 32 or more."
        )


def _distinct_hex(rng: np.random.Generator, digits: int, form: str, taken: set[str]) -> Iterator[str]:
    """Yield random hex numbers in `form`, none twice and none of `taken`, to which they are added."""
    while True:
        name = form.format(f"{int(rng.integers(16**digits)):0{digits}x}")
        if name not in taken:
            taken.add(name)
            yield name


def _plan_named(rng: np.random.Generator, names: Iterator[str], spec: SampleSpec) -> list[SamplePhoto]:
    """Return the train photos of the named individuals, copies and the ship among them."""
    labels = _distinct_hex(rng, 7, "w_{}", set())
    rows = [
        [SamplePhoto(next(names), label, individual, shot + 1) for shot in range(count)]
        for individual, (count, label) in enumerate(zip(spec.photos, labels, strict=False))
    ]
    if spec.ship:
        captain = min(range(len(rows)), key=lambda row: (-len(rows[row]), row))
        rows[captain][-1] = replace(rows[captain][-1], name=SHIP_PHOTO)
    _plan_copies(rng, [row for row in rows if len(row) > 2 and row[-1].name != SHIP_PHOTO], spec)
    return [photo for row in rows for photo in row]


def _plan_copies(rng: np.random.Generator, rows: list[list[SamplePhoto]], spec: SampleSpec) -> None:
    """Turn the last photo of some individuals into a copy of their own first photo, or of another's."""
    needed = spec.duplicates + 2 * spec.conflicts
    if needed > len(rows):
        raise FlukeprintError(
            f"the sample's spec asks for {spec.duplicates} duplicates and {spec.conflicts} conflicts, which needs "
            f"{needed} individuals with three photos or more beside the ship's; it has {len(rows)}."
        )
    chosen = [rows[index] for index in rng.permutation(len(rows))[:needed]]
    for row in chosen[: spec.duplicates]:
        row[-1] = row[-1].copying(row[0])
    conflicting = chosen[spec.duplicates :]
    for row, other in zip(conflicting[::2], conflicting[1::2], strict=True):
        row[-1] = row[-1].copying(other[0])


def _plan_known_test(
    rng: np.random.Generator, names: Iterator[str], train: list[SamplePhoto], spec: SampleSpec
) -> list[SamplePhoto]:
    """Return test photos of named individuals: more of those with many train photos, but of single-photo ones too."""
    if spec.test_known == 0:
        return []
    share = np.sqrt(spec.photos)
    first = {photo.individual: photo for photo in reversed(train) if not photo.copy_of and photo.name != SHIP_PHOTO}
    test = []
    for number, individual in enumerate(rng.choice(len(share), spec.test_known, p=share / share.sum()).tolist()):
        photo = SamplePhoto(next(names), first[individual].label, individual, _TEST_SHOTS + number)
        test.append(photo.copying(first[individual]) if number < spec.test_duplicates else photo)
    return test
