"""pixels: decode every photo once, into one array per folder."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame
from flukeprint.core.params import load_params
from flukeprint.core.paths import PIXELS, RAW, VALIDATED
from flukeprint.data.pixels import write_pixels

KEYS = ("profiles.*.image_size",)


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    for part in ("train", "test"):
        names = read_frame(VALIDATED / f"{part}.parquet", columns=["Image"])["Image"].tolist()
        write_pixels(PIXELS / f"{part}.npy", RAW / part, names, params.active.size, params.runtime.workers)


if __name__ == "__main__":
    exit_cleanly(main)
