"""pixels: decode every photo once, cropped to its fluke if that is asked for, into one array per folder."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame, read_json, write_json
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import BOXES, CROP, LOCALISER, LOCALISER_RECORD, PHOTO_SIZE, PIXELS, RAW, VALIDATED
from flukeprint.data.cropping import Crop
from flukeprint.data.fluke_boxes import read_found
from flukeprint.data.pixels import Crops, write_pixels

KEYS = ("localize.confidence", "localize.crop")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    height, width = read_json(PHOTO_SIZE)["size"]
    crop = crop_of(params)
    for part in ("train", "test"):
        names = read_frame(VALIDATED / f"{part}.parquet", columns=["Image"])["Image"].tolist()
        crops = None if crop is None else Crops(crop, read_found(BOXES / f"{part}.parquet"))
        write_pixels(PIXELS / f"{part}.npy", RAW / part, names, (height, width), params.runtime.photo_workers, crops)
    write_json(CROP, None if crop is None else crop.model_dump())


def crop_of(params: Params) -> Crop | None:
    """Return how photos are cropped, by the localiser that there is; None where there is none."""
    record = read_json(LOCALISER / LOCALISER_RECORD)
    wanted = params.localize
    return record and Crop(**record, confidence=wanted.confidence, **wanted.crop.model_dump())


if __name__ == "__main__":
    exit_cleanly(main)
