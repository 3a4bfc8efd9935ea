"""Draw the boxes that a localiser found into photos, as a contact sheet: least confident photos first.

python docs/box_sheet.py data/raw/test data/boxes/test.parquet sheet.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from flukeprint.data.cropping import Found
from flukeprint.data.fluke_boxes import read_found
from flukeprint.data.photos import MAX_PIXELS, as_seen, open_photo

MARGIN, LABEL = 3, 12  # px around a photo, and for the line below it


def main() -> None:
    """Read the command line, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the photos")
    parser.add_argument("boxes", type=Path, help="the table of their boxes")
    parser.add_argument("output", type=Path, help="a PNG")
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--width", type=int, default=240, help="px of a photo")
    args = parser.parse_args()
    found = sorted(read_found(args.boxes).items(), key=lambda one: one[1].confidence)[: args.photos]
    cells = [boxed(args.folder / name, one, args.width) for name, one in found]
    sheet(cells, args.columns).save(args.output, optimize=True)


def boxed(path: Path, found: Found, width: int) -> Image.Image:
    """Return a photo, `width` px wide, with its box, and the two probabilities below."""
    with path.open("rb") as stream, open_photo(stream, MAX_PIXELS) as image:
        seen = as_seen(image).convert("RGB")
    height = max(1, round(seen.height * width / seen.width))
    cell = Image.new("RGB", (width, height + LABEL), "white")
    cell.paste(seen.resize((width, height)), (0, 0))
    draw = ImageDraw.Draw(cell)
    corners = [side * length for side, length in zip(found[:4], (width, height) * 2, strict=True)]
    draw.rectangle(corners, outline="red" if found.upside_down > 0.5 else "yellow", width=2)
    said = f"{path.stem} fluke {found.confidence:.2f}, upside down {found.upside_down:.2f}"
    draw.text((1, height), said, fill="black", font=ImageFont.load_default(9))
    return cell


def sheet(cells: list[Image.Image], columns: int) -> Image.Image:
    """Return pictures side by side, in rows as high as their highest."""
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + MARGIN for row in rows]
    whole = Image.new("RGB", (columns * (cells[0].width + MARGIN), sum(heights)), "white")
    for number, row in enumerate(rows):
        for place, cell in enumerate(row):
            whole.paste(cell, (place * (cell.width + MARGIN), sum(heights[:number])))
    return whole


if __name__ == "__main__":
    main()
