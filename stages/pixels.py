"""pixels: decode every photo once, cropped to its fluke if that is asked for, into shards.

DVC leaves the last run's shards in place (`persist` in dvc.yaml): those of which no photo has changed stay.
"""

from pathlib import Path

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame, read_json, write_json
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import BOXES, CROP, LOCALISER, LOCALISER_RECORD, PHOTO_SIZE, PIXELS, RAW, VALIDATED
from flukeprint.data.cropping import Crop
from flukeprint.data.fluke_boxes import read_found
from flukeprint.data.pixels import CheckedPhoto, write_pixels

KEYS = ("localize.confidence", "localize.crop")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    height, width = read_json(PHOTO_SIZE)["size"]
    crop = crop_of(params)
    for part in ("train", "test"):
        photos = photos_of(Path(f"{part}.parquet"), cropped=crop is not None)
        write_pixels(PIXELS / part, RAW / part, photos, (height, width), params.runtime.photo_workers, crop)
    write_json(CROP, None if crop is None else crop.model_dump())


def crop_of(params: Params) -> Crop | None:
    """Return how photos are cropped, by the localiser that there is; None where there is none."""
    record = read_json(LOCALISER / LOCALISER_RECORD)
    wanted = params.localize
    return record and Crop(**record, confidence=wanted.confidence, **wanted.crop.model_dump())


def photos_of(table: Path, *, cropped: bool) -> list[CheckedPhoto]:
    """Return the photos of a validated table, with what was found in them where they are to be cropped."""
    validated = read_frame(VALIDATED / table, columns=["Image", "sha256"])
    found = read_found(BOXES / table) if cropped else {}
    return [CheckedPhoto(name, digest, found.get(name)) for name, digest in validated.itertuples(index=False)]


if __name__ == "__main__":
    exit_cleanly(main)
