"""Photos per second of `identify` beside its networks' bare forward passes: `python -m bench.identify`.

The model is a bundle (onnxruntime) or, without one, the project in the current folder (torch). Both rates come from one
run, in alternating rounds: the networks on pixels that lie decoded in memory (the members, and a localiser where the
model has one), and `identify` from files to answers (decoding, hashing, cropping, near-duplicates, search,
calibration). CPU time of both stands beside them: on a busy machine it is what can be compared. With a bundle also
`catalogue import`, from files to photos saved (hashing, EXIF, decoding, the photo store, the database). `cold` starts a
new process for one photo, to its answer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from flukeprint.bundle.encoder import BATCH_SIZE
from flukeprint.bundle.model import Model
from flukeprint.bundle.opening import open_model
from flukeprint.catalogue.catalogues import create_catalogue
from flukeprint.catalogue.import_plan import planned
from flukeprint.catalogue.importing import Import
from flukeprint.catalogue.source_rows import Source, SourceRow
from flukeprint.catalogue.vector_cache import open_model_of, use_model
from flukeprint.data.photos import read_rgb
from flukeprint.data.reading import ahead, list_photos
from flukeprint.identify.answers import identify


def main() -> None:
    """Run the bench and print its figures as JSON."""
    arguments = given()
    photos = list_photos([arguments.folder])[: arguments.photos]
    model = open_model(arguments.bundle, None)
    pixels = np.stack([read_rgb(path.parent, path.name, model.encoder.size) for path in photos])
    cropper = model.encoder.cropper
    height, width = cropper.crop.size if cropper else (0, 0)
    seen = [read_rgb(path.parent, path.name, (height, width)) for path in photos] if cropper else []
    rounds = [
        (
            *timed(lambda: forward(model, pixels, seen)),
            *timed(lambda: identify(model, photos, 5)),
            import_rate(arguments.bundle, photos) if arguments.imports else math.nan,
        )
        for _ in range(arguments.rounds)
    ]
    bare, bare_cpu, whole, whole_cpu, imported = (median(rates) for rates in zip(*rounds, strict=True))
    figures = {
        "photos": len(photos),
        "size": list(model.encoder.size),
        "members": len(model.encoder.members),
        "views": model.encoder.views,
        "localiser": cropper is not None,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "forward_photos_per_s": round(len(photos) / bare, 1),
        "identify_photos_per_s": round(len(photos) / whole, 1),
        "ratio": round(median(one[0] / one[2] for one in rounds), 3),
        "forward_cpu_ms": round(1000 * bare_cpu / len(photos), 2),
        "identify_cpu_ms": round(1000 * whole_cpu / len(photos), 2),
        "cpu_ratio": round(median(one[1] / one[3] for one in rounds), 3),
        "import_photos_per_s": round(imported, 1),
        "import_ratio": round(median(one[4] * one[0] / len(photos) for one in rounds), 3),
        "cold_s": [round(cold_start(photos[0], arguments.bundle), 2) for _ in range(arguments.rounds)],
    }
    print(json.dumps(figures, indent=2))


def given() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of photos")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", action=argparse.BooleanOptionalAction, default=True, help="into a catalogue")
    return parser.parse_args()


def forward(model: Model, pixels: np.ndarray, seen: list[np.ndarray]) -> None:
    """Run the networks alone, with as many batches side by side as `identify` runs.

    The members see `pixels` (N x 3 x H x W), the localiser, one by one as `identify` asks it, N photos of its own size.
    """
    encoder, cropper = model.encoder, model.encoder.cropper

    def run(rows: slice) -> None:
        if cropper:
            for photo in seen[rows]:
                cropper.find(photo[None])
        encoder(pixels[rows])

    run(slice(0, BATCH_SIZE))
    batches = (slice(first, first + BATCH_SIZE) for first in range(0, len(pixels), BATCH_SIZE))
    with ThreadPoolExecutor(encoder.at_once) as pool:
        deque(ahead(pool, run, batches, encoder.at_once + 1), maxlen=0)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    start, before = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - before


def import_rate(bundle: Path | None, photos: list[Path]) -> float:
    """Return photos/s of an import into a new catalogue; not a number without a bundle."""
    if bundle is None:
        return math.nan
    source = Source("bench", [SourceRow(path.name, path) for path in photos], [])
    with tempfile.TemporaryDirectory() as place:
        catalogue = create_catalogue(f"{place}/catalogue")
        use_model(catalogue, bundle)
        model, number = open_model_of(catalogue)
        start = time.perf_counter()
        done = Import(catalogue, model, number, "bench").carry_out(planned(catalogue, source))
        return done.photos / (time.perf_counter() - start)


def cold_start(photo: Path, bundle: Path | None) -> float:
    """Return the seconds from starting a process to its answer for one photo."""
    options = ["--bundle", str(bundle)] if bundle else []
    command = [sys.executable, "-m", "flukeprint.cli", "identify", str(photo), *options]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
