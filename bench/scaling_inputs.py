"""Drawn inputs of bench/scaling.py: photos, or tables and embeddings, with individuals as in the competition.

python -m bench.scaling_inputs FOLDER NUMBER [--tables]
"""

from __future__ import annotations

import argparse
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.gallery import SHAPES, deviations
from flukeprint.core.files import create_npy, write_frame, write_json, write_safetensors
from flukeprint.core.paths import CROP, EMBEDDINGS, FINETUNED, METRICS, PRETRAINED, RAW, VALIDATED
from flukeprint.core.receipts import write_receipt
from flukeprint.data.labels import NEW_WHALE

SIZE = (64, 128)  # px, height and width
DIMENSION = 512  # of an embedding
# Of the competition's 9,850 photos: the share of new_whale, and of its individuals those with 1, 2 and 3 photos. The
# others have 6.5 on average.
NEW_WHALE_SHARE, WITH_FEW, MEAN_OF_MANY = 810 / 9850, (0.522, 0.243, 0.116), 6.5
TEST_SHARE, COPIES = 0.2, 0.02


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    (generate_tables if arguments.tables else generate)(arguments.folder, arguments.number)


def empty_project(work: Path) -> Path:
    """Make a folder with what is in git."""
    shutil.rmtree(work, ignore_errors=True)
    (work / "data/kept").mkdir(parents=True)
    (work / "data/exclusions.csv").write_text("Image,reason\n", encoding="utf-8")
    (work / "data/kept/.gitignore").touch()
    (work / "params.yaml").touch()
    return work


def generate(folder: Path, number: int) -> None:
    """Write photos in the competition's layout, and an empty project around them."""
    work, generator = empty_project(folder), np.random.default_rng(number)
    labels = drawn_labels(generator, number)
    for part, own in (("train", labels), ("test", generator.choice(labels, round(TEST_SHARE * number)))):
        write_photos(work / "photos" / part, own, generator)
        names = [f"{part}{row:07d}.jpg" for row in range(len(own))]
        ids = names_of(own if part == "train" else np.full(len(own), -1))
        rows = "".join(f"{name},{label}\n" for name, label in zip(names, ids, strict=True))
        title = "train.csv" if part == "train" else "sample_submission.csv"
        (work / "photos" / title).write_text(f"Image,Id\n{rows}", encoding="utf-8")


def names_of(labels: NDArray[np.int64]) -> list[str]:
    """Return the names of individuals."""
    return [f"w_{label:07x}" if label >= 0 else NEW_WHALE for label in labels]


def generate_tables(folder: Path, number: int) -> None:
    """Write what stages leave up to `embed`, drawn: tables, embeddings, and files that name a network."""
    work, generator = empty_project(folder), np.random.default_rng(number)
    labels = drawn_labels(generator, number)
    asked = generator.choice(labels, round(TEST_SHARE * number))
    clusters = np.arange(number + len(asked))
    for part, own, cluster in (("train", labels, clusters[:number]), ("test", asked, clusters[number:])):
        images = [f"{part}{row:07d}.jpg" for row in range(len(own))]
        table = pd.DataFrame({"Image": images, "Id": names_of(own), "cluster": cluster, "mode": "RGB"})
        table = table.assign(width=SIZE[1], height=SIZE[0], orientation=1)
        write_frame(work / VALIDATED / f"{part}.parquet", table.assign(sha256=[f"{one:064x}" for one in cluster]))
        for name, views in (("m1", 2), (PRETRAINED, 1)):
            (work / EMBEDDINGS / name).mkdir(parents=True, exist_ok=True)
            draw_embeddings(work / EMBEDDINGS / name / f"{part}.npy", own, views)
    rows = "".join(f"{one}," + NEW_WHALE + "\n" for one in images)
    (work / RAW).mkdir(parents=True)
    (work / RAW / "sample_submission.csv").write_text(f"Image,Id\n{rows}", encoding="utf-8")
    write_json(work / CROP, None)
    backbone = {"size": list(SIZE), "mean": [0.5] * 3, "std": [0.25] * 3}
    metadata = {"labels": [NEW_WHALE], "backbone": backbone}
    write_safetensors(work / FINETUNED / "m1.safetensors", {"none": torch.zeros(1)}, metadata)
    history = [{"epoch": 1, "train_loss": 1.0, "valid_loss": 1.0, "train_accuracy": 0.5, "valid_accuracy": 0.5}]
    for stage in ("train", "finetune"):
        write_json(work / METRICS / stage / "m1.json", {"best_epoch": 1, "history": history})
    with chdir(work):
        write_receipt("m1", [FINETUNED / "m1.safetensors", EMBEDDINGS / "m1"])


def draw_embeddings(path: Path, labels: NDArray[np.int64], views: int) -> None:
    """Write embeddings, N x views x DIMENSION, with the structure of the recipe `metric`'s (bench/gallery.py)."""
    shape = SHAPES["metric"]
    between, within = (deviations(knots, DIMENSION) for knots in (shape.between, shape.within))
    array = create_npy(path, np.float32, (len(labels), views, DIMENSION))
    for row, label in enumerate(labels):
        noise = np.random.default_rng([1, row])
        own = np.random.default_rng([2, int(label)]) if label >= 0 else noise
        centre = between * own.standard_normal((views, DIMENSION), np.float32) + shape.mean / np.sqrt(DIMENSION)
        array[row] = centre + within * noise.standard_normal((views, DIMENSION), np.float32)
    array.flush()


def drawn_labels(generator: np.random.Generator, number: int) -> NDArray[np.int64]:
    """Return the individual of each photo, -1 for new_whale, in random order."""
    sizes = 1 + generator.choice(4, number, p=[*WITH_FEW, 1 - sum(WITH_FEW)])
    sizes = np.where(sizes == 4, 3 + generator.geometric(1 / (MEAN_OF_MANY - 3), number), sizes)
    labels = np.repeat(np.arange(number), sizes)[: number - round(NEW_WHALE_SHARE * number)]
    return generator.permutation(np.append(labels, np.full(number - len(labels), -1)))


def write_photos(folder: Path, labels: NDArray[np.int64], generator: np.random.Generator) -> None:
    """Write a JPEG for each label; a few are the photo before them once more."""
    folder.mkdir(parents=True)
    for row, label in enumerate(labels):
        path = folder / f"{folder.name}{row:07d}.jpg"
        if row and generator.random() < COPIES and label == labels[row - 1]:
            shutil.copyfile(folder / f"{folder.name}{row - 1:07d}.jpg", path)
            continue
        own = np.random.default_rng(int(label)) if label >= 0 else generator
        coarse = own.normal(128, 50, (6, 12, 3)) + generator.normal(0, 35, (6, 12, 3))
        small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
        small.resize(SIZE[::-1], Image.Resampling.BILINEAR).save(path, quality=80)


if __name__ == "__main__":
    main()
