"""The sample data set: drawn flukes in Kaggle's layout, from a seed, offline, in seconds.

An individual is a trailing edge, an outline and a pigmentation; a photo is one view of it. All randomness
comes from generators seeded by (seed, individual, photo), so a photo does not depend on those drawn before it.

Fluke coordinates: x runs across the span (tips at about -1 and 1), y points up, the median notch is near (0, 0).
Images are float arrays [height, width, 3] in 0..1 until they are encoded.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE

Array = NDArray[np.floating]
Point = tuple[float, float]

# The competition's photo of a ship, filed under an individual's id; the pipeline drops it by this name.
SHIP_PHOTO = "496b52ff.jpg"

# The skin is a texture of fluke coordinates: these bounds at this many px per unit.
_X_MAX, _Y_MIN, _Y_MAX, _PX = 1.25, -1.15, 0.85, 96
_SUPERSAMPLE = 3
# Test photos are further photos of an individual: numbered from here, never met by its train photos.
_TEST_SHOTS = 100_000


@dataclass(frozen=True)
class SampleSpec:
    """What to draw. The defaults are the competition's long tail in small."""

    # Train photos of each named individual: over, at and under the pipeline's threshold of 15, down to one.
    photos: tuple[int, ...] = (
        *(24, 23, 22, 21, 20, 19, 16, 15, 10, 9, 8, 8, 7, 7, 6, 6, 6),
        *([5] * 4 + [4] * 5 + [3] * 8 + [2] * 24 + [1] * 26),
    )
    new_whales: int = 32  # train photos labelled new_whale, each of another individual
    test_known: int = 60  # test photos of named individuals
    test_new: int = 30  # test photos of individuals that are not in train
    duplicates: int = 6  # train photos that copy another one of the same label
    conflicts: int = 1  # train photos that copy one of another label
    test_duplicates: int = 3  # test photos that copy a train photo
    ship: bool = True  # file the ship under an individual with many photos
    width: int = 160  # px; a photo's width is 0.75 to 1.25 of it
    height: int = 80  # px, likewise


@dataclass(frozen=True)
class _Photo:
    """One file: which picture it shows, under which label; `copy_of` names the file it was re-encoded from."""

    name: str
    label: str
    individual: int
    shot: int
    copy_of: str | None = None


@dataclass(frozen=True)
class _Plan:
    train: list[_Photo]
    test: list[_Photo]


def draw_sample(folder: Path, seed: int, spec: SampleSpec = SampleSpec()) -> None:
    """Write train.csv, sample_submission.csv, train/*.jpg and test/*.jpg into the empty folder `folder`."""
    if not folder.is_dir() or any(folder.iterdir()):
        raise FlukeprintError(f"{folder}: the sample is drawn into an existing, empty folder. Make it or empty it.")
    plan = _plan(seed, spec)
    _write_csv(folder / "train.csv", ((photo.name, photo.label) for photo in plan.train))
    guess = " ".join(_commonest_labels(plan.train))
    _write_csv(folder / "sample_submission.csv", ((photo.name, guess) for photo in plan.test))
    for part, photos in (("train", plan.train), ("test", plan.test)):
        (folder / part).mkdir()
        _draw_photos(folder / part, photos, seed, spec)


def true_test_labels(seed: int, spec: SampleSpec = SampleSpec()) -> dict[str, str]:
    """Return {test photo: label}, new_whale for individuals that train does not hold. Draws nothing."""
    return {photo.name: photo.label for photo in _plan(seed, spec).test}


def planted_duplicates(seed: int, spec: SampleSpec = SampleSpec()) -> list[tuple[str, str]]:
    """Return (copy, original) for every photo, of train or test, that was re-encoded from a train photo."""
    plan = _plan(seed, spec)
    return [(photo.name, photo.copy_of) for photo in plan.train + plan.test if photo.copy_of]


def _write_csv(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("Image", "Id"))
        writer.writerows(rows)


def _commonest_labels(photos: list[_Photo]) -> list[str]:
    """Return new_whale and the four commonest ids, which Kaggle's sample submission says of every photo."""
    counts = Counter(sorted(photo.label for photo in photos if photo.label != NEW_WHALE))
    return [NEW_WHALE, *(label for label, _ in counts.most_common(4))]


# --- The plan: which photos there are, under which names and labels ---


def _plan(seed: int, spec: SampleSpec) -> _Plan:
    """Return every photo of the sample; individuals are numbered named first, then new whales of train, of test."""
    _check(seed, spec)
    rng = np.random.default_rng([seed])
    names = _distinct_hex(rng, 8, "{}.jpg", {SHIP_PHOTO})
    train = _plan_named(rng, names, spec)
    named = len(spec.photos)
    train += [_Photo(next(names), NEW_WHALE, named + number, 1) for number in range(spec.new_whales)]
    test = _plan_known_test(rng, names, train, spec)
    unseen = named + spec.new_whales
    test += [_Photo(next(names), NEW_WHALE, unseen + number, _TEST_SHOTS) for number in range(spec.test_new)]
    order = rng.permutation(len(train))
    return _Plan([train[index] for index in order], sorted(test, key=lambda photo: photo.name))


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
    """Yield random hex numbers in `form`, none twice and none of `taken`."""
    seen = set(taken)
    while True:
        name = form.format(f"{int(rng.integers(16**digits)):0{digits}x}")
        if name not in seen:
            seen.add(name)
            yield name


def _plan_named(rng: np.random.Generator, names: Iterator[str], spec: SampleSpec) -> list[_Photo]:
    """Return the train photos of the named individuals, copies and the ship among them."""
    labels = _distinct_hex(rng, 7, "w_{}", set())
    rows = [
        [_Photo(next(names), label, individual, shot + 1) for shot in range(count)]
        for individual, (count, label) in enumerate(zip(spec.photos, labels, strict=False))
    ]
    if spec.ship:
        captain = min(range(len(rows)), key=lambda row: (-len(rows[row]), row))
        rows[captain][-1] = replace(rows[captain][-1], name=SHIP_PHOTO)
    _plan_copies(rng, [row for row in rows if len(row) > 2 and row[-1].name != SHIP_PHOTO], spec)
    return [photo for row in rows for photo in row]


def _plan_copies(rng: np.random.Generator, rows: list[list[_Photo]], spec: SampleSpec) -> None:
    """Turn the last photo of some individuals into a copy of their own first photo, or of another's."""
    needed = spec.duplicates + 2 * spec.conflicts
    if needed > len(rows):
        raise FlukeprintError(
            f"the sample's spec asks for {spec.duplicates} duplicates and {spec.conflicts} conflicts, which needs "
            f"{needed} individuals with three photos or more beside the ship's; it has {len(rows)}."
        )
    chosen = [rows[index] for index in rng.permutation(len(rows))[:needed]]
    for row in chosen[: spec.duplicates]:
        row[-1] = _copy(row[-1], row[0])
    conflicting = chosen[spec.duplicates :]
    for row, other in zip(conflicting[::2], conflicting[1::2], strict=True):
        row[-1] = _copy(row[-1], other[0])


def _copy(photo: _Photo, original: _Photo) -> _Photo:
    """Return `photo`, with its name and label, showing the picture of `original`."""
    return replace(photo, individual=original.individual, shot=original.shot, copy_of=original.name)


def _plan_known_test(
    rng: np.random.Generator, names: Iterator[str], train: list[_Photo], spec: SampleSpec
) -> list[_Photo]:
    """Return test photos of named individuals: more of those with many train photos, but of single-photo ones too."""
    if spec.test_known == 0:
        return []
    share = np.sqrt(spec.photos)
    first = {photo.individual: photo for photo in reversed(train) if not photo.copy_of and photo.name != SHIP_PHOTO}
    test = []
    for number, individual in enumerate(rng.choice(len(share), spec.test_known, p=share / share.sum()).tolist()):
        photo = _Photo(next(names), first[individual].label, individual, _TEST_SHOTS + number)
        test.append(_copy(photo, first[individual]) if number < spec.test_duplicates else photo)
    return test


# --- Photos: draw, encode ---


def _draw_photos(folder: Path, photos: list[_Photo], seed: int, spec: SampleSpec) -> None:
    """Draw and encode photos, individual by individual so that each skin is made once."""
    skin, owner = np.zeros((0, 0, 2), np.float32), -1
    for photo in sorted(photos, key=lambda photo: (photo.individual, photo.shot, photo.copy_of or "")):
        if photo.individual != owner:
            skin, owner = _skin(np.random.default_rng([seed, 1 + photo.individual])), photo.individual
        rng = np.random.default_rng([seed, 1 + photo.individual, photo.shot])
        image = _picture(rng, None if photo.name == SHIP_PHOTO else skin, spec)
        quality = int(rng.integers(45, 93))
        if photo.copy_of:
            image, quality = _recode(image, photo.name), 60
        image.save(folder / photo.name, quality=quality)


def _recode(image: Image.Image, name: str) -> Image.Image:
    """Return a copy as data bases hold them: only compressed again, scaled as well, or with a number burnt in."""
    form = int(name[:8], 16) % 3
    if form == 1:
        return image.resize((round(image.width * 0.8), round(image.height * 0.8)), Image.Resampling.LANCZOS)
    if form == 2:
        ImageDraw.Draw(image).text((image.width - 22, 1), name[:2].upper(), fill="white", font=_font())
    return image


def _picture(rng: np.random.Generator, skin: Array | None, spec: SampleSpec) -> Image.Image:
    """Return one photo of the individual with this skin, or of a ship, with all that a photographer adds."""
    height = round(spec.height * rng.uniform(0.85, 1.25))
    width = round(spec.width * rng.uniform(0.75, 1.25))
    scene = _ship_scene(rng, height, width) if skin is None else _fluke_scene(rng, skin, height, width)
    return _archive(rng, _expose(rng, scene))


def _smooth_noise(rng: np.random.Generator, height: int, width: int, rows: float, columns: float) -> Array:
    """Return [height, width] noise of about unit variance with about rows x columns cells."""
    grid = rng.standard_normal((max(2, round(rows)), max(2, round(columns))), dtype=np.float32)
    return np.array(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _sigmoid(values: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return result


# --- The individual: outline, trailing edge, pigmentation ---


@dataclass(frozen=True)
class _Lobe:
    """The shape of one lobe, in fluke coordinates, as of the right one."""

    tip: Point
    sag: float  # how far the trailing edge bulges up between notch and tip
    bend: float  # exponent of its rise to the tip
    notch: Point  # depth and width of the median notch
    hook: float  # how far the tip turns up
    serration: Array  # [k, 3]: amplitude, waves per lobe, phase
    nicks: Array  # [n, 3]: place along the edge, depth, width
    control: Point  # of the leading edge, a quadratic Bezier curve
    stem: Point  # where the leading edge meets the stem

    def trailing_edge(self, points: int = 110) -> Array:
        """Return [points, 2] from the median notch to the tip."""
        t = np.linspace(0, 1, points, dtype=np.float32)
        y = self.tip[1] * t**self.bend + self.sag * np.sin(math.pi * t) + self.hook * t**12
        y -= self.notch[0] * np.exp(-t / self.notch[1])
        amplitude, waves, phase = self.serration.T[:, :, None]
        fade = np.clip(np.minimum(t, 1 - t) / 0.12, 0, 1)
        y += fade * (amplitude * np.sin(2 * math.pi * waves * t + phase)).sum(0)
        place, depth, wide = self.nicks.T[:, :, None]
        y -= (depth * np.exp(-(((t - place) / wide) ** 2))).sum(0)
        return np.stack([self.tip[0] * t, y], axis=1).astype(np.float32)

    def outline(self) -> Array:
        """Return the lobe's closed outline with half the stem, [n, 2]."""
        edge = self.trailing_edge()
        t = np.linspace(0, 1, 30, dtype=np.float32)[:, None]
        tip, control, stem = edge[-1], np.asarray(self.control), np.asarray(self.stem)
        leading = (1 - t) ** 2 * tip + 2 * t * (1 - t) * control + t**2 * stem
        root = np.asarray([[self.stem[0] * 1.9, _Y_MIN], [-0.02, _Y_MIN], [-0.02, edge[0, 1]]])
        return np.concatenate([edge, leading, root]).astype(np.float32)


def _lobes(rng: np.random.Generator) -> tuple[_Lobe, _Lobe]:
    """Return the individual's right and left lobe: alike in outline, each with its own edge."""
    tip_y, sag, bend = rng.uniform(0.12, 0.48), rng.uniform(-0.05, 0.16), rng.uniform(0.85, 1.7)
    notch = (rng.uniform(0.04, 0.2), rng.uniform(0.03, 0.09))
    control = (rng.uniform(0.5, 0.85), rng.uniform(-0.3, -0.08))
    stem = (rng.uniform(0.075, 0.13), rng.uniform(-0.58, -0.42))
    ragged, hook = rng.uniform(0.3, 1.5), rng.uniform(-0.1, 0.1)

    def lobe() -> _Lobe:
        return _Lobe(
            tip=(rng.uniform(0.93, 1.03), tip_y + rng.normal(0, 0.025)),
            sag=sag + rng.normal(0, 0.012),
            bend=bend,
            notch=notch,
            hook=hook + rng.normal(0, 0.03),
            serration=_serration(rng, ragged),
            nicks=_nicks(rng),
            control=control,
            stem=stem,
        )

    return lobe(), lobe()


def _serration(rng: np.random.Generator, ragged: float) -> Array:
    """Return [6, 3] harmonics of a trailing edge: amplitude, waves per lobe, phase."""
    waves = rng.uniform(1.5, 17, 6)
    amplitude = ragged * rng.uniform(0.2, 1, 6) * 0.045 / np.sqrt(waves)
    return np.stack([amplitude, waves, rng.uniform(0, 2 * math.pi, 6)], axis=1).astype(np.float32)


def _nicks(rng: np.random.Generator) -> Array:
    """Return [n, 3] bites out of a trailing edge: place, depth, width. One in six is a large one."""
    count = int(rng.integers(0, 5))
    large = 1 + 1.5 * (rng.random(count) < 1 / 6)
    depth, wide = large * rng.uniform(0.02, 0.075, count), large * rng.uniform(0.008, 0.022, count)
    return np.stack([rng.uniform(0.12, 0.97, count), depth, wide], axis=1).astype(np.float32)


def _skin(rng: np.random.Generator) -> Array:
    """Return the individual's texture over fluke coordinates, [rows, columns, 2]: coverage and albedo, 0..1."""
    coverage = _coverage(_lobes(rng))
    rows, columns = coverage.shape
    x, y = np.meshgrid(np.linspace(-_X_MAX, _X_MAX, columns), np.linspace(_Y_MAX, _Y_MIN, rows))
    white = _white_patches(rng, coverage, x.astype(np.float32), y.astype(np.float32))
    mottle = 0.03 * _smooth_noise(rng, rows, columns, rows / 3, columns / 3)
    dark, pale = rng.uniform(0.05, 0.17), rng.uniform(0.6, 0.92)
    albedo = dark + (pale - dark) * white + mottle * (0.4 + white)
    albedo = _scarred(rng, albedo)
    return np.stack([coverage, np.clip(albedo, 0, 1)], axis=2).astype(np.float32)


def _coverage(lobes: tuple[_Lobe, _Lobe]) -> Array:
    """Return [rows, columns] in 0..1: how much of each texel the fluke covers."""
    scale = _PX * _SUPERSAMPLE
    size = (round(2 * _X_MAX * scale), round((_Y_MAX - _Y_MIN) * scale))
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    for side, lobe in zip((1, -1), lobes, strict=True):
        outline = (lobe.outline() * (side, -1) + (_X_MAX, _Y_MAX)) * scale
        draw.polygon([(float(x), float(y)) for x, y in outline], fill=255)
    return np.asarray(mask.reduce(_SUPERSAMPLE), np.float32) / 255


def _white_patches(rng: np.random.Generator, coverage: Array, x: Array, y: Array) -> Array:
    """Return [rows, columns] in 0..1: white pigmentation, roughly mirrored, dark along the edges and the keel."""
    rows, columns = coverage.shape
    half = _smooth_noise(rng, rows, columns // 2, 6, 5)
    field = 0.8 * np.concatenate([half[:, ::-1], half], axis=1)
    field += 0.5 * _smooth_noise(rng, rows, columns, 9, 14) + 0.22 * _smooth_noise(rng, rows, columns, 40, 50)
    along, high = rng.uniform(0.35, 0.75), rng.uniform(-0.2, 0.15)
    lobe = np.exp(-(((np.abs(x) - along) / 0.33) ** 2) - ((y - high) / 0.3) ** 2)
    field = field + 2.2 * lobe - rng.uniform(0.2, 3.0)
    blurred = Image.fromarray((coverage * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(2, 5)))
    inside = _sigmoid((np.asarray(blurred, np.float32) / 255 - rng.uniform(0.72, 0.9)) * 22)
    keel = 1 - np.exp(-((x / rng.uniform(0.05, 0.2)) ** 2))
    result: Array = _sigmoid(field * rng.uniform(2, 6)) * inside * keel
    return result


def _scarred(rng: np.random.Generator, albedo: Array) -> Array:
    """Return the albedo with the individual's scratches, rake marks (parallel scratches) and round scars."""
    rows, columns = albedo.shape
    scale = 2
    marks = Image.new("L", (columns * scale, rows * scale))
    draw = ImageDraw.Draw(marks)
    for _ in range(int(rng.integers(0, 8))):
        start = rng.uniform((-0.9, -0.4), (0.9, 0.45))
        angle, length = rng.uniform(0, math.pi), rng.uniform(0.08, 0.45)
        step = np.asarray([math.cos(angle), math.sin(angle)]) * length
        for rake in range(int(rng.choice([1, 1, 1, 4]))):
            shifted = start + rake * 0.045 * np.asarray([-step[1], step[0]]) / length
            line = _texels(np.stack([shifted, shifted + step]), scale)
            draw.line(line, fill=int(rng.integers(120, 230)), width=int(rng.integers(2, 5)))
    for _ in range(int(rng.integers(0, 14))):
        (cx, cy), radius = _texels(rng.uniform((-0.9, -0.4), (0.9, 0.45))[None], scale)[0], rng.uniform(1, 6)
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=int(rng.integers(90, 230)))
    mark = np.asarray(marks.reduce(scale), np.float32) / 255
    # Scars are white on dark skin and dark on white skin.
    result: Array = albedo + mark * (0.62 - albedo) * np.where(albedo > 0.45, 1.1, 0.9)
    return result


def _texels(points: NDArray[np.float64], scale: int) -> list[Point]:
    """Return fluke coordinates [n, 2] as places in a texture drawn `scale` times as large."""
    places = (points * (1, -1) + (_X_MAX, _Y_MAX)) * _PX * scale
    return [(float(x), float(y)) for x, y in places]


# --- The scene: sea, fluke in a pose, splash ---


@dataclass(frozen=True)
class _Pose:
    """How the whale holds its fluke and where the camera is. Angles in radians, places in px."""

    center: Point
    unit: float  # px per fluke unit
    roll: float
    yaw: float
    pitch: float  # vertical foreshortening, 1 = none
    lift: Point  # how far the right and left lobe are raised per unit of span
    curl: Point  # the same, growing with the square

    def fluke_coordinates(self, height: int, width: int) -> tuple[Array, Array]:
        """Return x and y of every pixel, [height, width] each, in fluke coordinates."""
        row, column = np.mgrid[:height, :width].astype(np.float32)
        across, up = (column - self.center[0]) / self.unit, (self.center[1] - row) / self.unit
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        across, up = across * cos + up * sin, up * cos - across * sin
        # Perspective of a plane turned by yaw, seen from four units away: the far lobe is smaller.
        depth = np.maximum(math.cos(self.yaw) - across * math.sin(self.yaw) / 4, 0.15)
        x = across / depth
        y = up * (1 + x * math.sin(self.yaw) / 4)
        bent = np.sqrt(x * x + 0.004) - 0.063
        right = x > 0
        y -= np.where(right, self.lift[0], self.lift[1]) * bent + np.where(right, *self.curl) * bent**2
        return x, (y / self.pitch).astype(np.float32)


def _random_pose(rng: np.random.Generator, height: int, width: int) -> _Pose:
    unit = min(width * rng.uniform(0.38, 0.5), height * rng.uniform(0.85, 1.15))
    lift, curl = rng.normal(0.06, 0.1), rng.normal(0, 0.05)
    return _Pose(
        center=(width * rng.normal(0.5, 0.035), height * rng.normal(0.5, 0.05)),
        unit=unit,
        roll=rng.normal(0, 0.1),
        yaw=rng.normal(0, 0.28),
        pitch=rng.uniform(0.78, 1.12),
        lift=(lift + rng.normal(0, 0.05), lift + rng.normal(0, 0.05)),
        curl=(curl + rng.normal(0, 0.03), curl + rng.normal(0, 0.03)),
    )


def _sample_skin(skin: Array, x: Array, y: Array) -> Array:
    """Return the texture at fluke coordinates x and y, bilinear, [*x.shape, 2]; nothing outside its bounds."""
    rows, columns = skin.shape[:2]
    column = np.clip((x + _X_MAX) * _PX - 0.5, 0, columns - 1.001)
    row = np.clip((_Y_MAX - y) * _PX - 0.5, 0, rows - 1.001)
    left, top = column.astype(np.int32), row.astype(np.int32)
    right, down = (column - left)[..., None], (row - top)[..., None]
    flat, index = skin.reshape(-1, 2), top * columns + left
    upper = flat[index] * (1 - right) + flat[index + 1] * right
    lower = flat[index + columns] * (1 - right) + flat[index + columns + 1] * right
    result: Array = upper * (1 - down) + lower * down
    return result


def _fluke_scene(rng: np.random.Generator, skin: Array, height: int, width: int) -> Array:
    """Return the sea with the fluke of this skin in a random pose."""
    pose = _random_pose(rng, height, width)
    x, y = pose.fluke_coordinates(height, width)
    texture = _sample_skin(skin, x, y)
    coverage, fluke = texture[..., :1], _lit(rng, texture[..., 1], x, y)
    scene, water = _sea(rng, height, width, pose.roll)
    scene += coverage * (fluke - scene)
    return _splashed(rng, scene, water, x, y)


def _lit(rng: np.random.Generator, albedo: Array, x: Array, y: Array) -> Array:
    """Return the fluke's colour under sunlight from one side, with the sheen of wet skin."""
    height, width = albedo.shape
    light = 1 + rng.normal(0, 0.2) * np.tanh(4 * x) + rng.normal(0, 0.3) * x + rng.normal(0, 0.35) * y
    sheen = np.clip(_smooth_noise(rng, height, width, 5, 8) - rng.uniform(0.6, 2), 0, 1) * rng.uniform(0, 0.35)
    grey = albedo * np.clip(light, 0.35, 1.8) + sheen + rng.uniform(0, 0.08)
    tint = 1 + rng.normal(0, 0.05, 3).astype(np.float32)
    result: Array = grey[..., None].astype(np.float32) * tint
    return result


def _sea(rng: np.random.Generator, height: int, width: int, roll: float) -> tuple[Array, Array]:
    """Return the background and the water alone (without sky), [height, width, 3] each."""
    level = rng.uniform(0.3, 0.75)
    hue = np.asarray([rng.uniform(0.68, 1.0), rng.uniform(0.88, 1.0), rng.uniform(1.0, 1.18)], np.float32)
    waves = _smooth_noise(rng, height, width, height / 9, width / 26)
    waves += 0.8 * _smooth_noise(rng, height, width, height / 3, width / 9)
    waves += 0.4 * _smooth_noise(rng, height, width, height / 1.5, width / 3)
    row, column = np.mgrid[:height, :width].astype(np.float32)
    above = row / height - rng.normal(0, 0.2) * (column / width - 0.5)
    grey = level * (1 + rng.uniform(0.05, 0.24) * waves) * (1.12 - 0.3 * above)
    water: Array = np.clip(grey, 0.02, 1)[..., None] * hue
    if rng.random() > 0.4:
        return water.copy(), water
    horizon = height * rng.uniform(0.08, 0.5) + math.tan(roll) * (column - width / 2)
    coast = np.clip(_smooth_noise(rng, 1, width, 2, 7), 0, 2) * height * 0.06 * (rng.random() < 0.4)
    sky_colour = np.asarray([0.85, 0.92, 1.0], np.float32) * rng.uniform(0.6, 1.05)
    sky = sky_colour * (1 - 0.15 * (row / height)[..., None])
    land = _sigmoid((row - horizon + coast) * 2)[..., None]
    scene = sky + land * (0.6 * level * hue + 0.1 - sky)
    scene = scene + _sigmoid((row - horizon) * 2)[..., None] * (water - scene)
    return scene.astype(np.float32), water


def _splashed(rng: np.random.Generator, scene: Array, water: Array, x: Array, y: Array) -> Array:
    """Return the scene with the stem sunk in water and white spray around it."""
    height, width = x.shape
    ragged = _smooth_noise(rng, height, width, 12, 20)
    line = rng.uniform(-0.8, -0.42) + 0.05 * ragged + rng.normal(0, 0.06) * x
    sunk = _sigmoid((line - y) * 28)[..., None]
    scene = scene + sunk * (water - scene)
    reach, tall = rng.uniform(0.15, 0.9), rng.uniform(0.03, 0.15)
    mist = np.exp(-((x / reach) ** 2) - ((y - line) / tall) ** 2) * rng.uniform(0.2, 1.6)
    drops = _smooth_noise(rng, height, width, height / 5, width / 5)
    drops += _smooth_noise(rng, height, width, height / 2, width / 2)
    spray = _sigmoid(4 * (mist * (1 + 0.6 * drops) - 0.55)) * (mist > 0.02)
    result: Array = scene + (spray * rng.uniform(0.6, 1))[..., None] * (0.95 - scene)
    return result


def _ship_scene(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return a ship at sea: white superstructure, red hull, a funnel and a mast; no fluke."""
    scene, water = _sea(rng, height, width, 0.0)
    image = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)

    def place(*points: Point) -> list[Point]:
        return [(x * width, y * height) for x, y in points]

    draw.line(place((0.42, 0.12), (0.42, 0.5)), fill=(60, 50, 40), width=2)
    draw.polygon(place((0.54, 0.24), (0.62, 0.24), (0.62, 0.5), (0.54, 0.5)), fill=(200, 150, 30))
    draw.polygon(place((0.34, 0.36), (0.7, 0.36), (0.74, 0.58), (0.3, 0.58)), fill=(240, 240, 235))
    for window in range(7):
        left = 0.36 + 0.047 * window
        draw.rectangle(place((left, 0.43), (left + 0.022, 0.48)), fill=(50, 60, 80))
    draw.polygon(place((0.08, 0.54), (0.94, 0.56), (0.86, 0.8), (0.16, 0.8)), fill=(150, 30, 25))
    drawn = np.asarray(image, np.float32) / 255
    below = _sigmoid((np.arange(height, dtype=np.float32) - 0.78 * height) * 0.8)[:, None, None]
    result: Array = drawn + below * (water - drawn)
    return result


# --- The camera and the archive ---


def _expose(rng: np.random.Generator, scene: Array) -> Array:
    """Return the scene as a camera records it: gamma, contrast, uneven light, colour cast, haze, noise."""
    height, width = scene.shape[:2]
    row, column = np.mgrid[:height, :width].astype(np.float32)
    fall = 1 + rng.normal(0, 0.2) * (column / width - 0.5) + rng.normal(0, 0.2) * (row / height - 0.5)
    gain = np.exp(rng.normal(0.03, 0.16)) * (1 + rng.normal(0, 0.04, 3))
    exposed = np.clip(scene * fall[..., None] * gain, 0, 1) ** np.exp(rng.normal(-0.1, 0.2))
    haze = rng.uniform(0, 0.3) * (rng.random() < 0.3)
    contrast = np.exp(rng.normal(0.1, 0.16))
    exposed = 0.45 + (exposed * (1 - haze) + 0.8 * haze - 0.45) * contrast
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(0, 0.04)
    result: Array = np.clip(exposed + noise, 0, 1)
    return result


def _archive(rng: np.random.Generator, photo: Array) -> Image.Image:
    """Return the photo as a catalogue keeps it: soft, grey, captioned, framed or upside down, sometimes."""
    image = Image.fromarray((photo * 255 + 0.5).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    grey, store, turn, frame = rng.random(4)
    if turn < 0.025:
        image = image.transpose(Image.Transpose.ROTATE_180)
    if grey < 0.3:
        image = image.convert("L")
    if frame < 0.06:
        image = _captioned(rng, image)
    elif frame < 0.12:
        image = _framed(rng, image)
    # A third of the grey photos are stored as colour ones.
    return image.convert("RGB") if store < 1 / 3 else image


def _captioned(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return the image with a catalogue number burnt in, on a white strip below or over the photo itself."""
    text = f"{rng.choice(['HWC', 'NA', 'CRC'])} #{int(rng.integers(100, 9999))}"
    strip = 15 if rng.random() < 0.6 else 0
    sheet = Image.new(image.mode, (image.width, image.height + strip), "white")
    sheet.paste(image, (0, 0))
    ImageDraw.Draw(sheet).text((5, sheet.height - 14), text, fill="black" if strip else "white", font=_font())
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(11)


def _framed(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return the image on a white or black sheet that leaves a border of its own on every side."""
    left, top, right, bottom = (int(side) for side in rng.integers(2, 14, 4))
    size = (image.width + left + right, image.height + top + bottom)
    sheet = Image.new(image.mode, size, "white" if rng.random() < 0.6 else "black")
    sheet.paste(image, (left, top))
    return sheet
