"""Pictures of the sample: drawn flukes, a ship, the sea, and what a camera and a catalogue make of them.

An individual is a trailing edge, an outline and a pigmentation, all in its skin; a photo is one view of it. Poses and
light vary as much as lets a small network learn whales in minutes on a CPU: the nearest photo by raw pixels is the
right whale's for three in ten.

Fluke coordinates: x runs across the span (tips at about -1 and 1), y points up, the median notch is near (0, 0).
Images are float arrays [height, width, 3] in 0..1 until they are encoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Array = NDArray[np.floating]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

# The skin is a texture of fluke coordinates: these bounds at this many px per unit.
_X_MAX, _Y_MIN, _Y_MAX, _PX = 1.25, -1.15, 0.85, 96
_SUPERSAMPLE = 3
_FONT = ImageFont.load_default(11)


def draw_photo(rng: np.random.Generator, skin: Array | None, width: int, height: int) -> tuple[Image.Image, Box | None]:
    """Return one photo of the individual with this skin, or of a ship, of about width x height px.

    With it comes the box around what is seen of the fluke, as shares of the photo; None of a ship.
    """
    rows, columns = round(height * rng.uniform(0.9, 1.15)), round(width * rng.uniform(0.85, 1.15))
    if skin is None:
        return _archive(rng, _expose(rng, _ship_scene(rng, rows, columns)), None)
    scene, seen = _fluke_scene(rng, skin, rows, columns)
    return _archive(rng, _expose(rng, scene), _box_around(seen))


def recoded(image: Image.Image, name: str) -> Image.Image:
    """Return a copy as data bases hold them: only compressed again, scaled as well, or with a number burnt in."""
    form = int(name[:8], 16) % 3
    if form == 1:
        return image.resize((round(image.width * 0.8), round(image.height * 0.8)), Image.Resampling.LANCZOS)
    if form == 2:
        ImageDraw.Draw(image).text((image.width - 22, 1), name[:2].upper(), fill="white", font=_FONT)
    return image


def _smooth_noise(rng: np.random.Generator, height: int, width: int, rows: float, columns: float) -> Array:
    """Return [height, width] noise of about unit variance with about rows x columns cells."""
    grid = rng.standard_normal((max(2, round(rows)), max(2, round(columns))), dtype=np.float32)
    return np.array(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))


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
    """Return [n, 3] bites out of a trailing edge: place, depth, width. One in four is a large one."""
    count = int(rng.integers(0, 6))
    large = 1 + (rng.random(count) < 1 / 4)
    depth, wide = large * rng.uniform(0.03, 0.11, count), large * rng.uniform(0.012, 0.028, count)
    return np.stack([rng.uniform(0.12, 0.97, count), depth, wide], axis=1).astype(np.float32)


def draw_skin(rng: np.random.Generator) -> Array:
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
    field = 1.2 * np.concatenate([half[:, ::-1], half], axis=1)
    field += 1.0 * _smooth_noise(rng, rows, columns, 6, 9) + 0.22 * _smooth_noise(rng, rows, columns, 40, 50)
    along, high = rng.uniform(0.35, 0.75), rng.uniform(-0.2, 0.15)
    lobe = np.exp(-(((np.abs(x) - along) / 0.33) ** 2) - ((y - high) / 0.3) ** 2)
    field = field + 2.2 * lobe - rng.uniform(0.0, 2.4)
    blurred = Image.fromarray((coverage * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(2, 5)))
    inside = _sigmoid((np.asarray(blurred, np.float32) / 255 - rng.uniform(0.72, 0.9)) * 22)
    keel = 1 - np.exp(-((x / rng.uniform(0.05, 0.2)) ** 2))
    return np.asarray(_sigmoid(field * rng.uniform(2, 6)) * inside * keel)


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
    return np.asarray(albedo + mark * (0.62 - albedo) * np.where(albedo > 0.45, 1.1, 0.9))


def _texels(points: NDArray[np.float64], scale: int) -> list[Point]:
    """Return fluke coordinates [n, 2] as places in a texture drawn `scale` times as large."""
    places = (points * (1, -1) + (_X_MAX, _Y_MAX)) * _PX * scale
    return [(float(x), float(y)) for x, y in places]


# --- The scene: sea, fluke in a pose, splash ---


def _random_pose(rng: np.random.Generator, height: int, width: int) -> tuple[Array, Array, float]:
    """Hold the fluke somehow before the camera; return x and y of every pixel in fluke coordinates, and the roll."""
    unit = min(width * rng.uniform(0.44, 0.48), height * rng.uniform(1.02, 1.1))  # px per fluke unit
    raised, curled = rng.normal(0.06, 0.025), rng.normal(0, 0.015)
    center = (width * rng.normal(0.5, 0.015), height * rng.normal(0.5, 0.02))
    roll, yaw = rng.normal(0, 0.03), rng.normal(0, 0.1)
    foreshortening = rng.uniform(0.94, 1.05)  # vertical, 1: none
    # How far the right and left lobe are raised per unit of span; the same, growing with the square.
    lift = (raised + rng.normal(0, 0.012), raised + rng.normal(0, 0.012))
    curl = (curled + rng.normal(0, 0.01), curled + rng.normal(0, 0.01))
    row, column = np.mgrid[:height, :width].astype(np.float32)
    across, up = (column - center[0]) / unit, (center[1] - row) / unit
    cos, sin = math.cos(roll), math.sin(roll)
    across, up = across * cos + up * sin, up * cos - across * sin
    # Perspective of a plane turned by yaw, seen from four units away: the far lobe is smaller.
    x = across / np.maximum(math.cos(yaw) - across * math.sin(yaw) / 4, 0.15)
    y = up * (1 + x * math.sin(yaw) / 4)
    bent = np.sqrt(x * x + 0.004) - 0.063
    y -= np.where(x > 0, *lift) * bent + np.where(x > 0, *curl) * bent**2
    return x, (y / foreshortening).astype(np.float32), roll


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
    return np.asarray(upper * (1 - down) + lower * down)


def _fluke_scene(rng: np.random.Generator, skin: Array, height: int, width: int) -> tuple[Array, NDArray[np.bool_]]:
    """Return the sea with the fluke of this skin in a random pose, and where the fluke is seen, [height, width]."""
    x, y, roll = _random_pose(rng, height, width)
    texture = _sample_skin(skin, x, y)
    coverage, fluke = texture[..., :1], _lit(rng, texture[..., 1], x, y)
    scene, water = _sea(rng, height, width, roll)
    scene += coverage * (fluke - scene)
    scene, sunk = _splashed(rng, scene, water, x, y)
    return scene, (coverage * (1 - sunk))[..., 0] > 0.5


def _box_around(seen: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box around what is true, in px; None around nothing."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _lit(rng: np.random.Generator, albedo: Array, x: Array, y: Array) -> Array:
    """Return the fluke's colour under sunlight from one side, with the sheen of wet skin."""
    height, width = albedo.shape
    light = 1 + rng.normal(0, 0.05) * np.tanh(4 * x) + rng.normal(0, 0.1) * x + rng.normal(0, 0.12) * y
    sheen = np.clip(_smooth_noise(rng, height, width, 5, 8) - rng.uniform(0.6, 2), 0, 1) * rng.uniform(0, 0.35)
    grey = albedo * np.clip(light, 0.35, 1.8) + sheen + rng.uniform(0, 0.08)
    tint = 1 + rng.normal(0, 0.05, 3).astype(np.float32)
    return np.asarray(grey[..., None].astype(np.float32) * tint)


def _sea(rng: np.random.Generator, height: int, width: int, roll: float) -> tuple[Array, Array]:
    """Return the background and the water alone (without sky), [height, width, 3] each."""
    level = rng.uniform(0.38, 0.55)
    hue = np.asarray([rng.uniform(0.68, 1.0), rng.uniform(0.88, 1.0), rng.uniform(1.0, 1.18)], np.float32)
    waves = _smooth_noise(rng, height, width, height / 9, width / 26)
    waves += 0.8 * _smooth_noise(rng, height, width, height / 3, width / 9)
    waves += 0.4 * _smooth_noise(rng, height, width, height / 1.5, width / 3)
    row, column = np.mgrid[:height, :width].astype(np.float32)
    above = row / height - rng.normal(0, 0.2) * (column / width - 0.5)
    grey = level * (1 + rng.uniform(0.05, 0.16) * waves) * (1.12 - 0.3 * above)
    water: Array = np.clip(grey, 0.02, 1)[..., None] * hue
    if rng.random() > 0.3:
        return water.copy(), water
    horizon = height * rng.uniform(0.08, 0.5) + math.tan(roll) * (column - width / 2)
    coast = np.clip(_smooth_noise(rng, 1, width, 2, 7), 0, 2) * height * 0.06 * (rng.random() < 0.4)
    sky_colour = np.asarray([0.85, 0.92, 1.0], np.float32) * rng.uniform(0.6, 1.05)
    sky = sky_colour * (1 - 0.15 * (row / height)[..., None])
    land = _sigmoid((row - horizon + coast) * 2)[..., None]
    scene = sky + land * (0.6 * level * hue + 0.1 - sky)
    scene = scene + _sigmoid((row - horizon) * 2)[..., None] * (water - scene)
    return scene.astype(np.float32), water


def _splashed(rng: np.random.Generator, scene: Array, water: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the scene with the stem sunk in water and white spray around it, and how far each pixel is sunk, 0..1."""
    height, width = x.shape
    ragged = _smooth_noise(rng, height, width, 12, 20)
    line = rng.uniform(-0.8, -0.42) + 0.05 * ragged + rng.normal(0, 0.06) * x
    sunk = _sigmoid((line - y) * 28)[..., None]
    scene = scene + sunk * (water - scene)
    reach, tall = rng.uniform(0.15, 0.7), rng.uniform(0.03, 0.1)
    mist = np.exp(-((x / reach) ** 2) - ((y - line) / tall) ** 2) * rng.uniform(0.2, 1.6)
    drops = _smooth_noise(rng, height, width, height / 5, width / 5)
    drops += _smooth_noise(rng, height, width, height / 2, width / 2)
    spray = _sigmoid(4 * (mist * (1 + 0.6 * drops) - 0.55)) * (mist > 0.02)
    return np.asarray(scene + (spray * rng.uniform(0.6, 1))[..., None] * (0.95 - scene)), sunk


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
    return np.asarray(drawn + below * (water - drawn))


# --- The camera and the archive ---


def _expose(rng: np.random.Generator, scene: Array) -> Array:
    """Return the scene as a camera records it: gamma, contrast, uneven light, colour cast, haze, noise."""
    height, width = scene.shape[:2]
    row, column = np.mgrid[:height, :width].astype(np.float32)
    fall = 1 + rng.normal(0, 0.12) * (column / width - 0.5) + rng.normal(0, 0.12) * (row / height - 0.5)
    gain = np.exp(rng.normal(0.03, 0.1)) * (1 + rng.normal(0, 0.04, 3))
    exposed = np.clip(scene * fall[..., None] * gain, 0, 1) ** np.exp(rng.normal(-0.1, 0.12))
    haze = rng.uniform(0, 0.3) * (rng.random() < 0.3)
    contrast = np.exp(rng.normal(0.1, 0.16))
    exposed = 0.45 + (exposed * (1 - haze) + 0.8 * haze - 0.45) * contrast
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(0, 0.04)
    return np.asarray(np.clip(exposed + noise, 0, 1))


def _archive(rng: np.random.Generator, photo: Array, box: Box | None) -> tuple[Image.Image, Box | None]:
    """Return the photo as a catalogue keeps it: soft, grey, captioned, framed or upside down, sometimes.

    The box goes with it: it is given in px, and returned as shares of what the photo has become.
    """
    image = Image.fromarray((photo * 255 + 0.5).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    grey, store, turn, frame = rng.random(4)
    left = top = 0
    if turn < 0.025:
        image = image.transpose(Image.Transpose.ROTATE_180)
        box = box and (image.width - box[2], image.height - box[3], image.width - box[0], image.height - box[1])
    if grey < 0.3:
        image = image.convert("L")
    if frame < 0.06:
        image = _captioned(rng, image)
    elif frame < 0.12:
        image, left, top = _framed(rng, image)
    if box:
        wide, high = image.size
        box = (box[0] + left) / wide, (box[1] + top) / high, (box[2] + left) / wide, (box[3] + top) / high
    # A third of the grey photos are stored as colour ones.
    return (image.convert("RGB") if store < 1 / 3 else image), box


def _captioned(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Return the image with a catalogue number burnt in, on a white strip below or over the photo itself."""
    text = f"{rng.choice(['HWC', 'NA', 'CRC'])} #{int(rng.integers(100, 9999))}"
    strip = 15 if rng.random() < 0.6 else 0
    sheet = Image.new(image.mode, (image.width, image.height + strip), "white")
    sheet.paste(image, (0, 0))
    ImageDraw.Draw(sheet).text((5, sheet.height - 14), text, fill="black" if strip else "white", font=_FONT)
    return sheet


def _framed(rng: np.random.Generator, image: Image.Image) -> tuple[Image.Image, int, int]:
    """Return the image on a white or black sheet with a border on every side, and the left and the upper border, px."""
    left, top, right, bottom = (int(side) for side in rng.integers(2, 14, 4))
    size = (image.width + left + right, image.height + top + bottom)
    sheet = Image.new(image.mode, size, "white" if rng.random() < 0.6 else "black")
    sheet.paste(image, (left, top))
    return sheet, left, top
