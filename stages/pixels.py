"""pixels: decode every photo once, into one array per folder."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame, read_json
from flukeprint.core.params import load_params
from flukeprint.core.paths import PHOTO_SIZE, PIXELS, RAW, VALIDATED
from flukeprint.data.pixels import write_pixels

KEYS = ()


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    height, width = read_json(PHOTO_SIZE)["size"]
    for part in ("train", "test"):
        names = read_frame(VALIDATED / f"{part}.parquet", columns=["Image"])["Image"].tolist()
        write_pixels(PIXELS / f"{part}.npy", RAW / part, names, (height, width), params.runtime.workers)


if __name__ == "__main__":
    exit_cleanly(main)
