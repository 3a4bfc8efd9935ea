"""Inputs of every kind, mutated from good ones and read as users would: `make fuzz MINUTES=60`.

Every input is told by its kind, the seed and its number, so `python tests/fuzz.py --seed 1 --kind photo --number 77`
makes it again, in .work/fuzz. Prints counts by kind as JSON; exits with 1 where one of them ended otherwise than
accepted or refused, in time and memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # noqa: F401 - imported once, before the processes are forked
import pandas as pd  # noqa: F401
import pyarrow.parquet  # noqa: F401
import torch  # noqa: F401
import yaml
from good_files import make_good
from watched import watched, watched_each

from flukeprint.bundle.album import read_album
from flukeprint.bundle.bundle_manifest import write_manifest
from flukeprint.bundle.opening import open_bundle
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_frame, read_json, read_npy, read_safetensors, sha256_of
from flukeprint.core.manifests import FileRecord, _checksum
from flukeprint.core.params import load_params
from flukeprint.data.inspection import read_photos
from flukeprint.data.submission import read_submission
from flukeprint.data.tables import require_table
from flukeprint.identify.answers import identify
from flukeprint.identify.formats import as_csv, as_json, as_table
from flukeprint.identify.gallery_duplicates import near_duplicates_of  # noqa: F401
from flukeprint.learning.pretrained_weights import read_state
from flukeprint.retrieval.gallery_description import as_text, describe
from flukeprint.retrieval.gallery_files import load_gallery
from flukeprint.retrieval.gallery_manifest import data_file_name
from flukeprint.scoring.calibration import read_calibration

Rng = np.random.Generator

_LARGEST = 1 << 20  # bytes
_TOGETHER = 20  # inputs that one process reads
_KEPT = Path(".work/fuzz")
_NASTY: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), "",
    "x" * 5000, "\ud800", "\x1b[2J", "../../x", "=1+1", "w\u0000", [], {}, [[]], [None] * 2000, "1e400", "2001-99-99",
]  # fmt: skip
_TOKENS = [
    b"\xff\xfe", b"\xef\xbb\xbf", b"\0" * 8, b"\xff" * 8, b"\r", b"\r\n", b'"', b",", b"[" * 3000, b'{"a":' * 500,
    b"1e999", b"NaN", b"&a [*a, *a]", b"!!python/object/apply:os.system [id]", b"<<: *a", b"!!timestamp 2001-99-99",
    b"- " * 400, b"? ", b"\t", b"9" * 5000, b"PAR1", b"PK\3\4", b"\xff\xd8\xff", b"\xff\xda", b"IDAT", b"acTL", b"zTXt",
    b"II*\0", b"=cmd|' /C calc'!A0", "\u202e".encode(), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
]  # fmt: skip


# --- mutations --------------------------------------------------------------------------------------------


def mutated_bytes(rng: Rng, content: bytes) -> bytes:
    """Return the content with one to six changes: bytes, numbers, tokens, cuts, copies."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 7)):
        at, length = int(rng.integers(0, len(changed) + 1)), int(rng.integers(1, 1 + min(len(changed) + 1, 64)))
        match int(rng.integers(0, 7)):
            case 0:
                changed[at : at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                changed[at : at + 1] = bytes([(changed[at] if at < len(changed) else 0) ^ 1 << int(rng.integers(0, 8))])
            case 2:
                changed[at : at + 4] = int(rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 65_535, 2**24])).to_bytes(
                    4, "little"
                )
            case 3:
                changed[at:at] = _TOKENS[rng.integers(0, len(_TOKENS))]
            case 4:
                del changed[at : at + length]
            case 5:
                changed[at:at] = changed[at : at + length] * int(rng.integers(1, 50))
            case _:
                del changed[at if rng.random() < 0.3 else len(changed) :]
    return bytes(changed[:_LARGEST])


def mutated_tree(rng: Rng, value: Any) -> Any:
    """Return a JSON-able value with one to three of its parts replaced, removed, renamed or nested."""
    changed = copy.deepcopy(value)
    for _ in range(rng.integers(1, 4)):
        holder, key = _part(rng, changed)
        if holder is None:
            return changed
        match int(rng.integers(0, 5)):
            case 0 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case 1:
                del holder[key]
            case 2:
                for _ in range(int(rng.choice([1, 5, 70, 250]))):
                    holder[key] = [holder[key]]
            case _:
                holder[key] = copy.deepcopy(_NASTY[rng.integers(0, len(_NASTY))])
    return changed


def _part(rng: Rng, value: Any) -> tuple[Any, Any]:
    """Return a random part of a tree: what holds it, and its key."""
    holder, key = None, None
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        holder, key = value, keys[rng.integers(0, len(keys))]
        value = value[key]
        if rng.random() < 0.25:
            break
    return holder, key


def _mutate_file(rng: Rng, path: Path) -> None:
    """Change a file in place: JSON and YAML half the time by their structure."""
    content = path.read_bytes()
    if path.suffix in (".json", ".yaml") and rng.random() < 0.6:
        tree = mutated_tree(rng, yaml.safe_load(content) if path.suffix == ".yaml" else json.loads(content))
        path.write_text(json.dumps(tree))  # which is YAML, too
    elif path.suffix == ".yaml" and rng.random() < 0.1:
        path.write_bytes(content.decode().encode("utf-16"))
    else:
        path.write_bytes(mutated_bytes(rng, content))


def _sign(folder: Path, name: str, content: Any) -> None:
    """Write a manifest with the checksum that fits, as whoever changes files on purpose does."""
    content.pop("sha256", None)
    (folder / name).write_text(json.dumps({**content, "sha256": _checksum(content)}))


def _mutate_gallery(rng: Rng, folder: Path) -> None:
    content = read_json(folder / "gallery.json")
    if rng.random() < 0.4:
        changed = mutated_tree(rng, content)
        _sign(folder, "gallery.json", changed if isinstance(changed, dict) else {})
        return
    part = str(rng.choice(list(content["files"])))
    path = folder / data_file_name(part, FileRecord(**content["files"][part]))
    _mutate_file(rng, path)
    record = FileRecord.of(path)
    path.rename(folder / data_file_name(part, record))
    content["files"][part] = record.model_dump()
    _sign(folder, "gallery.json", content)


def _mutate_album(rng: Rng, path: Path) -> None:
    payload = mutated_bytes(rng, path.read_bytes().partition(b"\n")[2])
    path.write_bytes(payload)
    path.write_bytes(sha256_of(path).encode() + b"\n" + payload)


def _mutate_bundle(rng: Rng, folder: Path) -> None:
    names = [
        "preprocessing.json",
        "decision.json",
        "members/m1.onnx",
        "members/m1.safetensors",
        "manifest.json",
        "",
        "a",
    ]
    match str(rng.choice(names, p=[0.25, 0.3, 0.1, 0.1, 0.05, 0.1, 0.1])):
        case "":
            _mutate_gallery(rng, folder / "gallery")
        case "a":
            _mutate_album(rng, folder / "gallery.album")
        case "manifest.json":
            _sign(folder, "manifest.json", mutated_tree(rng, read_json(folder / "manifest.json")))
        case name:
            _mutate_file(rng, folder / name)
            (folder / "manifest.json").unlink()
            write_manifest(folder)


# --- kinds ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """How inputs of a kind are spoiled, and how they are read; good ones are in good/<of>."""

    read: Callable[[Path], object]
    spoil: Callable[[Rng, Path], None] = _mutate_file
    of: str = ""  # another kind's good input, or a part of one
    weight: float = 1


def _answers(folder: Path) -> str:
    found = identify(open_bundle(folder), [folder.parent / "q.jpg"], 5)
    return as_table(found) + as_json(found) + as_csv(found)


def _read_photo(path: Path) -> None:
    [(record, _)] = read_photos([path], (32, 48))
    if record.fault:
        raise FlukeprintError(record.fault)


KINDS: Mapping[str, Kind] = {
    "photo": Kind(_read_photo, weight=4),
    "table": Kind(require_table),
    "submission": Kind(read_submission),
    "params": Kind(lambda path: load_params(["seed"], path), weight=2),
    "decision": Kind(read_calibration),
    "parquet": Kind(read_frame, weight=2),
    "npy": Kind(read_npy),
    "tensors": Kind(read_safetensors),
    "weights": Kind(read_state),
    "gallery": Kind(lambda path: as_text(describe(load_gallery(path))), _mutate_gallery, "bundle/bundle/gallery", 2),
    "album": Kind(lambda path: read_album(path).table.to_pylist(), _mutate_album, "bundle/bundle/gallery.album"),
    "bundle": Kind(_answers, _mutate_bundle, "bundle/bundle"),
}


def hostile(good: Path, name: str, seed: int, number: int, work: Path) -> Path:
    """Make an input in `work`; return where it is."""
    rng = np.random.default_rng([seed, number, *name.encode()])
    source = good / (KINDS[name].of or name)
    if not KINDS[name].of:
        files = sorted(source.iterdir())
        source = files[rng.integers(0, len(files))]
    target = work / source.name
    if source.is_dir():
        shutil.copytree(source, target)
        shutil.copyfile(good / "photo/0.jpg", work / "q.jpg")
    else:
        shutil.copyfile(source, target)
    KINDS[name].spoil(rng, target)
    return target


def try_one(good: Path, name: str, seed: int, number: int) -> None:
    """Make an input and read it."""
    with tempfile.TemporaryDirectory() as work:
        KINDS[name].read(hostile(good, name, seed, number, Path(work)))


# --- the loop ---------------------------------------------------------------------------------------------


def main() -> None:
    """Try inputs of all kinds, or one, until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--tries", type=int, default=10**9, help="most inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(KINDS))
    parser.add_argument("--number", type=int, help="make this one input, keep it and say how it ends")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder) / "good"
        made = watched(lambda: make_good(good), 300, 1 << 20)
        if made.outcome != "accepted":
            sys.exit(made.says)
        if asked.number is not None:
            shutil.rmtree(_KEPT, ignore_errors=True)
            _KEPT.mkdir(parents=True)
            sys.stdout.write(f"{hostile(good, asked.kind, asked.seed, asked.number, _KEPT)}\n")
            sys.exit("\n".join(map(str, watched(partial(try_one, good, asked.kind, asked.seed, asked.number)))))
        faults = _loop(good, [asked.kind] if asked.kind else [*KINDS], asked.seed, asked.minutes, asked.tries)
    sys.exit(bool(faults))


def _loop(good: Path, names: list[str], seed: int, minutes: float, tries: int) -> int:
    """Try inputs for so long, or so many; print the counts, and what went wrong; return how many did."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    most: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    faults, end = 0, time.monotonic() + 60 * minutes
    weights = np.array([KINDS[name].weight for name in names])
    rng = np.random.default_rng(seed)
    while time.monotonic() < end and sum(count.total() for count in counts.values()) < tries:
        name = str(rng.choice(names, p=weights / weights.sum()))
        numbers = range(counts[name].total(), counts[name].total() + _TOGETHER)
        reads = [partial(try_one, good, name, seed, number) for number in numbers]
        for number, found in zip(numbers, watched_each(reads), strict=True):
            counts[name][found.outcome] += 1
            most[name] = [max(most[name][0], found.megabytes), max(most[name][1], found.seconds)]
            if found.outcome not in ("accepted", "refused"):
                faults += 1
                sys.stderr.write(f"--kind {name} --seed {seed} --number {number}: {found.outcome}\n{found.says}\n")
    lines = {name: {**counts[name], "MB": round(most[name][0]), "s": round(most[name][1], 1)} for name in names}
    sys.stdout.write(
        json.dumps({"seed": seed, "tried": sum(count.total() for count in counts.values()), **lines}) + "\n"
    )
    return faults


if __name__ == "__main__":
    main()
