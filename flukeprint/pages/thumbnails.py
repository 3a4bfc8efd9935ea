"""Thumbnails on contact sheets: a report with thousands of small pictures loads a few dozen files, not thousands."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from markupsafe import Markup
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
class PhotoToDraw:
    """A photo to draw."""

    path: str
    size: Size  # (width, height) in px, upright
    recorded: bytes | None = None  # grey thumbnail, THUMBNAIL_SIDE squared: spares decoding the photo once more


@dataclass(frozen=True)
class Sheets:
    """Contact sheets of cells of one size, as parts of a page: they scale with the box that the page gives them."""

    name: str  # the CSS class of these thumbnails
    cell: Size  # (width, height) in px
    images: tuple[str, ...]  # JPEG, as data URIs
    places: dict[str, int]  # of the photos by their paths, from 0

    def css(self) -> Markup:
        """Return the rules that give each sheet's thumbnails their picture."""
        lines = [f".{self.name}{{aspect-ratio:{self.cell[0]}/{self.cell[1]}}}"]
        for sheet, image in enumerate(self.images):
            size = f"{100 * _COLUMNS}% {100 * _rows(len(self.places), sheet)}%"
            lines.append(f".{self.name}{sheet}{{background-image:url({image});background-size:{size}}}")
        return Markup("\n".join(lines))  # noqa: S704 - numbers and base64 only

    def tag(self, path: str) -> Markup:
        """Return the HTML of one thumbnail; an empty box says that there is none."""
        if path not in self.places:
            return Markup('<i class="t none {}" role="img" aria-label="{}">no picture</i>').format(self.name, path)
        sheet, within = divmod(self.places[path], _PER_SHEET)
        row, column = divmod(within, _COLUMNS)
        # A place in percent is 0 for the first picture and 100 for the last.
        down = 100 * row / max(_rows(len(self.places), sheet) - 1, 1)
        style = f"background-position:{100 * column / (_COLUMNS - 1):.4f}% {down:.4f}%"
        return Markup('<i class="t {0} {0}{1}" style="{2}" role="img" aria-label="{3}"></i>').format(
            self.name, sheet, style, path
        )


def upright(width: int, height: int, orientation: int) -> Size:
    """Return the size of a photo, stored as width x height, as its EXIF orientation has it looked at."""
    return (height, width) if orientation >= 5 else (width, height)


def draw_sheets(
    name: str, folder: Path, photos: Sequence[PhotoToDraw], cell: Size, workers: int, max_pixels: int
) -> Sheets:
    """Draw photos into cells, as large as fits, in the order given; those of more than `max_pixels` are left out."""
    chunks = [photos[start : start + _PER_SHEET] for start in range(0, len(photos), _PER_SHEET)]
    # Threads: Pillow does its work without Python's lock, and processes would take seconds to start. Warnings are
    # silenced here because `read_rgb` silences them for all threads at once, and brings back what it found.
    with quiet(), ThreadPoolExecutor(max(1, workers)) as pool:
        images = tuple(pool.map(partial(_draw_sheet, folder, cell, max_pixels), chunks))
    return Sheets(name, cell, images, {photo.path: place for place, photo in enumerate(photos)})


def _rows(photos: int, sheet: int) -> int:
    """Return how many rows a sheet has."""
    return -(-min(photos - sheet * _PER_SHEET, _PER_SHEET) // _COLUMNS)


def _draw_sheet(folder: Path, cell: Size, max_pixels: int, photos: Sequence[PhotoToDraw]) -> str:
    """Return one sheet as a data URI. The photos are drawn anew: none of their own bytes gets into the page."""
    sheet = Image.new("RGB", (_COLUMNS * cell[0], _rows(len(photos), 0) * cell[1]), _BACKGROUND)
    for place, photo in enumerate(photos):
        row, column = divmod(place, _COLUMNS)
        picture = _thumbnail(folder, photo, cell, max_pixels)
        if picture is not None:
            left, top = (cell[0] - picture.width) // 2, (cell[1] - picture.height) // 2
            sheet.paste(picture, (column * cell[0] + left, row * cell[1] + top))
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
