"""Precision and recall of near-duplicates on altered copies of real photos: `python -m bench.alterations FOLDER`.

FOLDER is in Kaggle's layout. Each individual gives one photo, and each photo a copy per alteration, written as a JPEG
file and read back like any photo. Recall, by alteration: copies in the cluster of their original when compared with it.
Precision: of all pairs that the rule accepts among all these files, those that show the same original. Two originals
that are near-duplicates already (one picture under two ids) would count against it wrongly: the second is left out.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from flukeprint.data.inspection import PhotoRecord, inspect_photos
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.near_duplicates import MAX_BITS, MAX_MSE, Pairs, columns_of, duplicate_pairs

Alter = Callable[[Image.Image], Image.Image]

_QUALITY = 90
# name: (change of the pixels, quality of the JPEG file)
ALTERATIONS: dict[str, tuple[Alter, int]] = {
    "resized to 50 %": (lambda photo: _resized(photo, 0.5), _QUALITY),
    "resized to 75 %": (lambda photo: _resized(photo, 0.75), _QUALITY),
    "resized to 200 %": (lambda photo: _resized(photo, 2), _QUALITY),
    "recompressed, quality 75": (lambda photo: photo, 75),
    "recompressed, quality 50": (lambda photo: photo, 50),
    "recompressed, quality 25": (lambda photo: photo, 25),
    "grey": (lambda photo: photo.convert("L"), _QUALITY),
    "grey, resized to 50 %": (lambda photo: _resized(photo.convert("L"), 0.5), _QUALITY),
    "brightness x 0.8": (lambda photo: ImageEnhance.Brightness(photo).enhance(0.8), _QUALITY),
    "brightness x 1.2": (lambda photo: ImageEnhance.Brightness(photo).enhance(1.2), _QUALITY),
    "contrast x 1.3": (lambda photo: ImageEnhance.Contrast(photo).enhance(1.3), _QUALITY),
    "cropped by 1 % a side": (lambda photo: _cropped(photo, 0.01), _QUALITY),
    "cropped by 2 % a side": (lambda photo: _cropped(photo, 0.02), _QUALITY),
    "cropped by 4 % a side": (lambda photo: _cropped(photo, 0.04), _QUALITY),
}


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=1500, help="individuals")
    parser.add_argument("--bits", type=int, default=MAX_BITS)
    parser.add_argument("--mse", type=float, default=MAX_MSE)
    parser.add_argument("--same-size", action="store_true", help="use the stricter rule")
    arguments = parser.parse_args()
    rule = {"max_bits": arguments.bits, "max_mse": arguments.mse, "same_size": arguments.same_size}
    print(json.dumps(measured(arguments.folder, arguments.photos, rule), indent=2))


def measured(folder: Path, photos: int, rule: dict[str, float], workers: int = 2) -> dict[str, object]:
    """Return recall by alteration, precision and the counts behind them."""
    paths = one_photo_per_label(folder, photos)
    with tempfile.TemporaryDirectory() as temporary:
        copies = Path(temporary)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda item: write_copies(item[1], copies, item[0]), enumerate(paths)))
        names = [file_name(number, variant) for number in range(len(paths)) for variant in ("original", *ALTERATIONS)]
        records = inspect_photos({copies: names}, workers)[copies]
    original = np.repeat(np.arange(len(paths)), 1 + len(ALTERATIONS))
    variant = np.tile(np.arange(1 + len(ALTERATIONS)), len(paths))
    return figures(found_pairs(records, rule), original, variant)


def one_photo_per_label(folder: Path, most: int) -> list[Path]:
    """Return the first photo of each individual, in the order of train.csv."""
    first: dict[str, Path] = {}
    with (folder / "train.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["Id"] != NEW_WHALE:
                first.setdefault(row["Id"], folder / "train" / row["Image"])
    return list(first.values())[:most]


def write_copies(path: Path, folder: Path, number: int) -> None:
    """Write the original, byte by byte, and its altered copies."""
    (folder / file_name(number, "original")).write_bytes(path.read_bytes())
    with Image.open(path) as image:
        photo = image if image.mode == "L" else image.convert("RGB")
        for name, (alter, quality) in ALTERATIONS.items():
            alter(photo).save(folder / file_name(number, name), "JPEG", quality=quality)


def file_name(number: int, variant: str) -> str:
    """Return the file name of an altered copy."""
    return f"{number:05} {variant}.jpg"


def found_pairs(records: Sequence[PhotoRecord], rule: dict[str, float]) -> Pairs:
    """Return the pairs that the rule calls duplicates."""
    columns = columns_of(records, same_size=bool(rule["same_size"]))
    return duplicate_pairs(**columns, max_bits=int(rule["max_bits"]), max_mse=rule["max_mse"])


def figures(pairs: Pairs, original: NDArray[np.int64], variant: NDArray[np.int64]) -> dict[str, object]:
    """Count pairs of files, given each file's original (N) and alteration (N; 0: none)."""
    a, b = original[pairs.i], original[pairs.j]
    known = (variant[pairs.i] == 0) & (variant[pairs.j] == 0)
    left_out = np.unique(b[known])
    kept = ~np.isin(a, left_out) & ~np.isin(b, left_out)
    right = kept & (a == b)
    with_original = variant[pairs.j[right & (variant[pairs.i] == 0)]]
    used = len(np.unique(original)) - len(left_out)
    recall = {name: np.sum(with_original == place) / used for place, name in enumerate(ALTERATIONS, 1)}
    return {
        "individuals": used,
        "left_out": len(left_out),
        "recall": {name: round(float(share), 4) for name, share in recall.items()},
        "mean_recall": round(float(np.mean(list(recall.values()))), 4),
        "accepted_pairs": int(kept.sum()),
        "false_pairs": int((kept & (a != b)).sum()),
        "precision": round(float(right.sum() / max(kept.sum(), 1)), 6),
        "pairs_of_different_originals": used * (used - 1) // 2 * (1 + len(ALTERATIONS)) ** 2,
    }


def _resized(photo: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(photo.width * factor)), max(1, round(photo.height * factor)))
    return photo.resize(size, Image.Resampling.BICUBIC)


def _cropped(photo: Image.Image, share: float) -> Image.Image:
    x, y = photo.width * share, photo.height * share
    box = (round(x), round(y), round(photo.width - x), round(photo.height - y))
    return photo.crop(box)


if __name__ == "__main__":
    main()
