"""A model that is quick and tells drawn whales apart: a photo's vector is the photo, made small. And such photos."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from calibrations import calibration_of, open_set
from gallery_folder import PROVENANCE
from PIL import Image
from quality_folder import texture

from flukeprint.bundle.album import Albums
from flukeprint.bundle.encoder import Encoder
from flukeprint.bundle.model import Model
from flukeprint.catalogue.catalogues import BUNDLE, MODEL, Catalogue, set_setting
from flukeprint.catalogue.import_plan import planned, read_source
from flukeprint.catalogue.importing import Import, Imported
from flukeprint.catalogue.vector_cache import fingerprint_of, known_model
from flukeprint.quality.flags import Limits
from flukeprint.scoring.calibration import Calibration, ScoreFusion, Verification

SIZE = (12, 16)


def _embeddings(pixels: np.ndarray, views: int) -> np.ndarray:
    small = pixels.astype(np.float32).reshape(len(pixels), 3, 6, 2, 8, 2).mean(axis=(3, 5)).reshape(len(pixels), -1)
    return np.repeat((small - small.mean(axis=1, keepdims=True))[:, None], views, axis=1)


def calibration() -> Calibration:
    """Answers of which the right one is nearly always far ahead."""
    fusion = ScoreFusion(features={"nearest": 0.75, "centre": 0.25}, new_features={})
    verification = Verification(
        queries=5, individuals=5, same_pairs=10, different_pairs=50, thresholds={}, slope=20.0, intercept=-12.0
    )
    return calibration_of(
        scorers={"gallery": open_set(20.0, 4.0, 14.0, None)}, fusions={"gallery": fusion}, verification=verification
    )


def fake_model(fitted: Calibration | None = None) -> Model:
    return Model(
        "a model of tests",
        lambda: Encoder([_embeddings], SIZE, 1),
        PROVENANCE,
        Path("none"),
        fitted,
        Limits(),
        2,
        Albums(),
    )


def whale(seed: int, number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return a photo of a whale: those of one seed are alike, and no two are nearly the same picture."""
    own = np.asarray(texture(seed, size), np.float32)
    other = np.asarray(texture(1000 + 50 * seed + number, size), np.float32)
    return Image.fromarray((0.65 * own + 0.35 * other).astype(np.uint8))


def save_whales(folder: Path, photos: Mapping[str, tuple[int, int]]) -> Path:
    """Write photos: path in the folder -> the whale's seed, and the number of its photo."""
    for name, (seed, number) in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        whale(seed, number).save(folder / name, quality=95)
    return folder


def import_folder(
    catalogue: Catalogue, source: Path, layout: str = "individuals", *, model: Model | None = None, who: str = "ann",
    **options: object,
) -> Imported:  # fmt: skip
    """Do what the command does, with the model of tests."""
    model = model or fake_model(calibration())
    number = known_model(catalogue, model)
    with catalogue.database.writing() as connection:
        set_setting(connection, BUNDLE, "none")
        set_setting(connection, MODEL, fingerprint_of(model))
    plan = planned(catalogue, read_source(source, layout, **options))
    return Import(catalogue, model, number, who).carry_out(plan)


def everything(place: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, bytes]]:
    """Return all rows of a catalogue's tables, but for when they were written, and the bytes of its photos."""
    with closing(sqlite3.connect(place / "catalogue.db")) as connection:
        connection.row_factory = sqlite3.Row
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names}
    for row in (row for table in rows.values() for row in table):
        row.pop("at", None)
    photos = {str(path.relative_to(place)): path.read_bytes() for path in place.glob("photos/*/*")}
    return rows, photos


def seeds(names: Sequence[str], photos: int) -> dict[str, tuple[int, int]]:
    """Return a folder per individual with so many photos, for `save_whales`."""
    return {f"{name}/{name}_{n}.jpg": (seed, n) for seed, name in enumerate(names) for n in range(photos)}
