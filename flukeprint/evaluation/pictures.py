"""Thumbnails of the report's photos, on contact sheets within the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup
from PIL import Image

from flukeprint.data.photos import MAX_PIXELS, plain_file_name
from flukeprint.pages.thumbnails import PhotoToDraw, Sheets, draw_sheets

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

_CELL = (240, 120)  # px; a fluke is about twice as wide as high. Twice what is seen on paper, for sharpness


@dataclass(frozen=True)
class Pictures:
    """Thumbnails by file name. They scale with their box: places on a sheet are in percent."""

    sheets: Sheets

    @classmethod
    def of(cls, folder: Path, photos: pd.DataFrame, names: Iterable[str], workers: int) -> Pictures:
        """Draw photos.

        Args:
            folder: where they are. A name that is not a plain file name is not opened.
            photos: Image, width, height (px, as stored) and, where known, orientation (EXIF), of every photo.
            names: which to draw.
            workers: processes that decode.

        """
        wanted = photos.set_index("Image").loc[list(dict.fromkeys(names))]
        turned = wanted["orientation"] >= 5 if "orientation" in wanted else wanted["width"] < 0
        sizes = zip(wanted["width"].tolist(), wanted["height"].tolist(), turned.tolist(), strict=True)
        upright = [(height, width) if turn else (width, height) for width, height, turn in sizes]
        drawn = [
            PhotoToDraw(name, size) for name, size in zip(wanted.index, upright, strict=True) if plain_file_name(name)
        ]
        return cls(draw_sheets(folder, drawn, _CELL, workers, MAX_PIXELS))

    def css(self) -> Markup:
        """Return the rules that give each sheet's thumbnails their picture."""
        width, height = self.sheets.cell
        lines = [f".t{{aspect-ratio:{width}/{height}}}"]
        for number, (image, (columns, rows)) in enumerate(zip(self.sheets.images, self._shapes, strict=True)):
            size = f"background-size:{100 * columns}% {100 * rows}%"
            lines.append(f".t{number}{{background-image:url({image});{size}}}")
        return Markup("\n".join(lines))  # noqa: S704 - numbers and base64 only

    def tag(self, name: str) -> Markup:
        """Return the HTML of one thumbnail; an empty box says that there is none."""
        place = self.sheets.places.get(name)
        if place is None:
            return Markup('<i class="t none">no photo</i>')
        columns, rows = self._shapes[place.sheet]
        width, height = self.sheets.cell
        # A picture's place in percent is where the first and the last one lie at 0 and 100.
        across = 100 * (place.x // width) / max(columns - 1, 1)
        down = 100 * (place.y // height) / max(rows - 1, 1)
        style = f"background-position:{across:.4f}% {down:.4f}%"
        return Markup('<i class="t t{}" style="{}" role="img" aria-label="{}"></i>').format(place.sheet, style, name)

    @cached_property
    def _shapes(self) -> list[tuple[int, int]]:
        """(columns, rows) of each sheet."""
        width, height = self.sheets.cell
        sheets = (io.BytesIO(base64.b64decode(image.partition(",")[2])) for image in self.sheets.images)
        sizes = [Image.open(sheet, formats=["JPEG"]).size for sheet in sheets]
        return [(size[0] // width, size[1] // height) for size in sizes]
