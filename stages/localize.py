"""localize: a network that finds the fluke, trained on marked boxes, and its boxes of every photo.

With localize.use off there is nothing to find: the record says so, and the tables of boxes have no rows.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import MissingFileError
from flukeprint.core.files import REPAIR, sha256_of, write_figures, write_json, write_parquet
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import BOXES, LOCALISER, LOCALISER_RECORD, LOCALISER_WEIGHTS, METRICS, RAW
from flukeprint.core.replacement import replacing_folder
from flukeprint.data.fluke_boxes import found_table

KEYS = ("seed", "localize")
PARTS = ("train", "test")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    if not RAW.exists():
        raise MissingFileError(f"{RAW} is missing. {REPAIR}")
    figures: dict[str, Any] = {}
    found: dict[str, tuple[list[str], NDArray[np.float64]]] = {part: ([], np.zeros((0, 6))) for part in PARTS}
    with replacing_folder(LOCALISER) as folder:
        if params.localize.use == "off":
            write_json(folder / LOCALISER_RECORD, None)
        else:
            figures = train(params, folder)
            found = find(params, folder)
    for part, (names, answers) in found.items():
        write_parquet(BOXES / f"{part}.parquet", found_table(names, answers))
    write_figures(METRICS / "localize.json", figures)


def train(params: Params, folder: Path) -> dict[str, Any]:
    """Train the localiser, write it with its record, and return its figures on the boxes that were held out."""
    # Only now: where nothing is looked for, the stage takes a moment.
    from flukeprint.core.runtime import open_accelerator
    from flukeprint.learning.checkpoints import clear_checkpoints
    from flukeprint.learning.localiser import load_localiser, save_localiser
    from flukeprint.learning.localiser_training import STAGE, held_out_figures, starting_localiser, train_localiser
    from flukeprint.learning.localising import marked_photos

    wanted, accelerator = params.localize, open_accelerator(params.runtime)
    height, width = wanted.size
    marked = marked_photos(Path(wanted.boxes), RAW / "train", (height, width), params.runtime.photo_workers)
    held = marked.held_out(wanted.holdout, params.seed)
    localiser, record = starting_localiser(wanted, params.seed)
    photos, boxes = marked.pixels[~held], marked.boxes[~held]
    result = train_localiser(localiser, record, photos, boxes, wanted, params.seed, accelerator)
    weights = folder / LOCALISER_WEIGHTS
    save_localiser(weights, result.state, record)
    clear_checkpoints(STAGE)
    write_json(folder / LOCALISER_RECORD, {"localiser": sha256_of(weights), "size": [height, width]})
    network, _ = load_localiser(weights)
    figures = {"trained_on": len(boxes), "held_out": int(held.sum()), "epochs": wanted.epochs}
    if held.any():
        figures |= held_out_figures(network, marked.pixels[held], marked.boxes[held], wanted.confidence)
    return figures | {"runtime": result.runtime}


def find(params: Params, folder: Path) -> dict[str, tuple[list[str], NDArray[np.float64]]]:
    """Return the photos of each part and the localiser's answers."""
    from flukeprint.learning.localiser import load_localiser
    from flukeprint.learning.localising import find_in_folder

    network, record = load_localiser(folder / LOCALISER_WEIGHTS)
    return {part: find_in_folder(network, RAW / part, record.size, params.runtime.photo_workers) for part in PARTS}


if __name__ == "__main__":
    exit_cleanly(main)
