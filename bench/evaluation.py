"""Time the stage evaluate, report and all, on generated candidates: 2,000 queries against 4,000 individuals.

python -m bench.evaluation [--queries 2000] [--individuals 4000] [--members 9] [--cores 2] [--runs 3] [--work FOLDER]

Nothing is learned here: every scorer ranks the right individual well or badly by chance. Photos are as large as
the competition's. Prints seconds and peak memory of the whole process, imports included.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from flukeprint.core.files import write_frame, write_json, write_npy, write_safetensors
from flukeprint.core.paths import (
    DECISION,
    EMBEDDINGS,
    FINETUNED,
    METRICS,
    PREDICTIONS,
    PRETRAINED,
    RAW,
    SELECTED,
    VALIDATED,
)
from flukeprint.core.receipts import write_receipt
from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.provenance import MemberRecord, Provenance
from flukeprint.retrieval.search import DEPTH
from flukeprint.scoring.calibration import Calibration, write_calibration
from flukeprint.scoring.calibration_fitting import fit_scorers
from flukeprint.scoring.candidates import write_candidates
from flukeprint.scoring.choice import choose
from flukeprint.scoring.copies import agreement
from flukeprint.scoring.labelled_photos import ComparedQueries
from flukeprint.scoring.pairs import fit_verification, pairs_of
from flukeprint.scoring.registry import (
    CHOOSABLE,
    DUPLICATES,
    MOST_FREQUENT,
    PRETRAINED_KNN,
    scorer_names,
    scorer_of,
)
from flukeprint.scoring.small_galleries import FullGallery

_ROOT = Path(__file__).parent.parent
_SIZE = (1050, 500)  # px
_DIMENSION = 128  # of a member's embedding
_PICTURES = 40  # different ones; the photos are copies of them


def main() -> None:
    """Read the command line, print one line per run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--individuals", type=int, default=4000)
    parser.add_argument("--members", type=int, default=9)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep the generated project, and the report, in this folder")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        members = [f"m{number}" for number in range(1, arguments.members + 1)]
        generate(work, arguments.queries, arguments.individuals, members)
        print(f"{arguments.queries} queries, {arguments.individuals} individuals, {len(scorer_names(members))} scorers")
        for _ in range(arguments.runs):
            print(run(work))


def run(work: Path) -> str:
    """Run the stage once in a process of its own and describe what it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    subprocess.run([sys.executable, "-m", "stages.evaluate"], cwd=work, env=environment, check=True)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    page = (work / "reports/evaluation/index.html").stat().st_size
    return f"{took:.1f} s (CPU {cpu:.1f} s), peak {after.ru_maxrss / 1024:.0f} MiB, page {page / 1e6:.1f} MB"


def generate(work: Path, number: int, individuals: int, members: list[str]) -> None:
    """Write what evaluate reads into `work`: params, tables, photos, candidates, decisions, training curves."""
    generator = np.random.default_rng(0)
    params = yaml.safe_load((_ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ensemble"]["members"] = members
    work.mkdir(parents=True, exist_ok=True)
    (work / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    ids = np.array([f"w_{index:07x}" for index in range(individuals)])
    table = _labelled(generator, number, ids)
    table = table.assign(pixel=range(len(table)))
    _write_tables(work, table, generator)
    _write_photos(work / RAW / "train", table["Image"].tolist(), generator)
    queries = table[table["split"].isin(["query", "calibration"])]
    rows = pd.concat([_answered(generator, queries, ids, name) for name in scorer_names(members)], ignore_index=True)
    write_candidates(work / PREDICTIONS / "query.parquet", rows)
    embeddings = _embeddings(generator, table)
    for name in (PRETRAINED, *members):
        write_npy(work / EMBEDDINGS / name / "train.npy", embeddings)
    compared = ComparedQueries.of(table, [embeddings] * len(members), 1, "calibration")
    calibration, share = rows[rows["split"] == "calibration"], params["evaluate"]["new_share"]
    fitted = fit_scorers(calibration, share, scorer_names(members), FullGallery.of(compared))
    content = Calibration(
        share=share,
        **fitted._asdict(),
        provenance=_provenance(members),
        best=choose(calibration, share, CHOOSABLE),
        duplicates=agreement(table.assign(cluster=range(len(table)))),
        named_duplicates=agreement(table.assign(cluster=range(len(table)))),
        verification=fit_verification(pairs_of(compared)),
    )
    write_calibration(work / DECISION, content)
    _write_trainings(work / METRICS, members)
    for member in members:
        # Of the networks the stage reads no more than whom they were trained on: every other individual.
        write_safetensors(work / FINETUNED / f"{member}.safetensors", {"none": torch.zeros(1)}, {"labels": [*ids[::2]]})
    with chdir(work):
        for member in members:
            write_receipt(member, [FINETUNED / f"{member}.safetensors", EMBEDDINGS / member])


def _provenance(members: list[str]) -> Provenance:
    weights = [MemberRecord(name=member, sha256="0" * 64) for member in members]
    return Provenance(members=weights, size=[64, 64], mean=[0.5] * 3, std=[0.25] * 3, resize="none", views=1)


def _labelled(generator: np.random.Generator, number: int, ids: NDArray[np.str_]) -> pd.DataFrame:
    """Return the labelled photos: one or more of every individual, and `number` each to ask and to calibrate with.

    A third of the latter two are new whales, half of them of individuals without another photo.
    """
    gallery = np.concatenate([ids, generator.choice(ids, 2 * len(ids), p=_long_tail(len(ids)))])
    parts = [pd.DataFrame({"Id": gallery, "split": "train"})]
    for split in ("query", "calibration"):
        known = generator.choice(ids, number - number // 3)
        held_out = [f"w_{split}{index // 2}" for index in range(number // 6)]
        new = [NEW_WHALE] * (number // 3 - len(held_out))
        parts.append(pd.DataFrame({"Id": [*known, *held_out, *new], "split": split}))
    table = pd.concat(parts, ignore_index=True)
    trained = set(ids)
    truth = [label if label in trained else NEW_WHALE for label in table["Id"]]
    return table.assign(Image=[f"{row:08x}.jpg" for row in range(len(table))], truth=truth)


def _long_tail(number: int) -> NDArray[np.float64]:
    weights = 1.0 / np.arange(1, number + 1)
    return np.asarray(weights / weights.sum())


def _write_tables(work: Path, table: pd.DataFrame, generator: np.random.Generator) -> None:
    clusters = np.arange(len(table))
    again = generator.random(len(table)) < 0.1
    clusters[1:][again[1:]] = clusters[:-1][again[1:]]
    modes = np.where(generator.random(len(table)) < 0.2, "L", "RGB")
    photos = table[["Image", "Id"]].assign(width=_SIZE[0], height=_SIZE[1], mode=modes, cluster=clusters)
    write_frame(work / VALIDATED / "train.parquet", photos.assign(orientation=1))
    full = table[["Image", "Id", "split", "pixel"]].assign(cluster=clusters, together=clusters)
    write_frame(work / SELECTED / "full.parquet", full)


def _write_photos(folder: Path, names: list[str], generator: np.random.Generator) -> None:
    """Write copies of a few blurred patterns under all names."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        if place < _PICTURES:
            noise = Image.fromarray(generator.integers(0, 255, (12, 24, 3), dtype=np.uint8))
            noise.resize(_SIZE, Image.Resampling.BICUBIC).save(folder / name, quality=90)
        else:
            shutil.copyfile(folder / names[place % _PICTURES], folder / name)


def _answered(
    generator: np.random.Generator, queries: pd.DataFrame, ids: NDArray[np.str_], scorer: str
) -> pd.DataFrame:
    """Return a scorer's rows: the right individual scores higher than the others, on average."""
    number, depth = len(queries), min(DEPTH, len(ids))
    scores = np.sort(generator.gumbel(size=(number, depth)).astype(np.float32), axis=1)[:, ::-1]
    start = generator.integers(len(ids), size=(number, 1))
    candidates = ids[(start + np.arange(depth)) % len(ids)]
    is_new = (queries["truth"] == NEW_WHALE).to_numpy()
    for row, label in enumerate(queries["truth"]):
        if not is_new[row] and label not in candidates[row]:
            place = min(int(generator.geometric(0.5)), depth) - 1
            candidates[row, place] = label
    width = len(scorer_of(scorer).features)
    sure = np.where(is_new, 0.0, 2.0)[:, None].astype(np.float32)
    new_score = (generator.normal(size=number) + 2).astype(np.float32)
    # Every feature is the same score with other noise.
    features = [(np.repeat(row, width) + generator.normal(size=depth * width)) / 10 for row in scores + sure]
    missing = np.array([name == "none" for name in scorer_of(scorer).photo_features])
    return queries[["Image", "Id", "split", "truth"]].assign(
        scorer=scorer,
        candidates=candidates.tolist(),
        scores=list(scores + sure),
        new_score=np.nan if width or scorer in (MOST_FREQUENT, DUPLICATES, PRETRAINED_KNN) else new_score,
        features=pd.Series(features, index=queries.index, dtype=object),
        new_features=pd.Series(
            [np.where(missing, np.nan, one) for one in new_score], index=queries.index, dtype=object
        ),
    )


def _embeddings(generator: np.random.Generator, table: pd.DataFrame) -> NDArray[np.float32]:
    """Return an embedding of each photo, N x 1 x D: a direction of all, one of its individual, and noise."""
    of_individual = np.unique(table["Id"].to_numpy(dtype=str), return_inverse=True)[1]
    own = generator.normal(size=(int(of_individual.max()) + 1, _DIMENSION))[of_individual]
    noise = generator.normal(size=(len(table), _DIMENSION))
    return np.asarray(0.55 + 0.55 * own + 0.63 * noise, np.float32)[:, None]


def _write_trainings(folder: Path, members: list[str]) -> None:
    history = [
        {"epoch": n, "train_loss": 4 / n, "valid_loss": 2 + 2 / n, "train_accuracy": 1 - 1 / n, "valid_accuracy": 0.5}
        for n in range(1, 21)
    ]
    for stage in ("train", "finetune", "full_head"):
        for member in members:
            write_json(folder / stage / f"{member}.json", {"best_epoch": 20, "history": history})


if __name__ == "__main__":
    main()
