"""Thumbnails on contact sheets: a report with thousands of small pictures loads a few dozen files, not thousands."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.inspection import THUMBNAIL_SIDE
from flukeprint.data.photos import quiet, read_rgb

Size = tuple[int, int]

_COLUMNS = 16
_PER_SHEET = 256
_BACKGROUND = (238, 240, 242)
_QUALITY = 70


@dataclass(frozen=True)
class Place:
    """Where a thumbnail is."""

    sheet: int
    x: int  # px
    y: int  # px


@dataclass(frozen=True)
class Sheets:
    """Contact sheets of cells of one size."""

    cell: Size  # (width, height) in px
    images: tuple[str, ...]  # JPEG, as data URIs
    places: Mapping[str, Place]


@dataclass(frozen=True)
class PhotoToDraw:
    """A photo to draw."""

    path: str
    size: Size  # (width, height) in px, upright
    recorded: bytes | None = None  # grey thumbnail, THUMBNAIL_SIDE squared: spares decoding the photo once more


def draw_sheets(folder: Path, photos: Sequence[PhotoToDraw], cell: Size, workers: int, max_pixels: int) -> Sheets:
    """Draw photos into cells, as large as fits, in the order given.

    Args:
        folder: where the paths start.
        photos: what to draw.
        cell: (width, height) of a thumbnail in px.
        workers: threads that draw.
        max_pixels: larger photos are left out.

    """
    chunks = [photos[start : start + _PER_SHEET] for start in range(0, len(photos), _PER_SHEET)]
    draw = partial(_draw_sheet, folder, cell, max_pixels)
    # Threads: Pillow does its work without Python's lock, and processes would take seconds to start. Warnings are
    # silenced here because `read_rgb` silences them for all threads at once, and brings back what it found.
    with quiet(), ThreadPoolExecutor(max(1, workers)) as pool:
        images = list(pool.map(draw, chunks))
    return Sheets(cell, tuple(images), {photo.path: _place(index, cell) for index, photo in enumerate(photos)})


def _place(index: int, cell: Size) -> Place:
    sheet, within = divmod(index, _PER_SHEET)
    row, column = divmod(within, _COLUMNS)
    return Place(sheet, column * cell[0], row * cell[1])


def _draw_sheet(folder: Path, cell: Size, max_pixels: int, photos: Sequence[PhotoToDraw]) -> str:
    """Return one sheet as a data URI. The photos are drawn anew: none of their own bytes gets into the page."""
    rows = -(-len(photos) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * cell[0], rows * cell[1]), _BACKGROUND)
    for index, photo in enumerate(photos):
        place = _place(index, cell)
        picture = _thumbnail(folder, photo, cell, max_pixels)
        if picture is not None:
            left, top = (cell[0] - picture.width) // 2, (cell[1] - picture.height) // 2
            sheet.paste(picture, (place.x + left, place.y + top))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _thumbnail(folder: Path, photo: PhotoToDraw, cell: Size, max_pixels: int) -> Image.Image | None:
    scale = min(cell[0] / photo.size[0], cell[1] / photo.size[1])
    width, height = (max(1, round(side * scale)) for side in photo.size)
    if photo.recorded is not None:
        grey = Image.frombytes("L", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), photo.recorded)
        return grey.resize((width, height), Image.Resampling.BICUBIC)
    path = folder / photo.path
    try:
        return Image.fromarray(read_rgb(path.parent, path.name, (height, width), max_pixels).transpose(1, 2, 0))
    except FlukeprintError:
        return None
