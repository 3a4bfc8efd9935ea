"""What each stage takes at growing numbers of photos: CPU seconds, peak memory, disk, and how they grow.

    python -m bench.scaling --photos 2000 8000 --output photos.json
    python -m bench.scaling --tables --photos 2000 8000 24000 100000 --output tables.json
    python -m bench.scaling --tables --code OLD_TREE --photos 2000 8000 --output old.json
    python -m bench.scaling --show old.json tables.json

Photos are drawn noise of 64 x 128 px, a pattern for each individual and another for each photo; individuals have as
many photos as in the competition (half of them one), and a fifth as many photos again are to be labelled. The recipe is
`metric` with one member and one epoch, on a small network. With `--tables` there are no photos: tables and embeddings
(512 numbers, two views) are drawn, and only the stages after `embed` run. Every stage is a process of its own and is
charged with all of it, imports included. `--code` runs another tree's stages, with its params.yaml. An exponent is the
slope of a straight line through log(figure) over log(photos).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parent.parent
STAGES = (
    "fetch", "localize", "validate", "select", "backbone", "pixels", "baseline", "train", "start m1", "finetune m1",
    "embed m1", "full_head", "ensemble", "gallery", "calibrate", "evaluate", "submit",
)  # fmt: skip
TABLE_STAGES = ("select", "full_head", "ensemble", "gallery", "calibrate", "evaluate", "submit")
MEASURES = {"cpu_s": "CPU s", "peak_mib": "peak MiB", "disk_mib": "disk MiB"}
SIZE = (64, 128)  # px, height and width


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages at every size, or show what earlier runs wrote."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--stages", nargs="+", help='such as "finetune m1"; the others must have run')
    parser.add_argument("--tables", action="store_true", help="draw tables and embeddings instead of photos")
    parser.add_argument("--code", type=Path, default=ROOT, help="the tree whose stages run")
    parser.add_argument("--work", type=Path, default=Path(".work/scaling"), help="folder for the runs, one per size")
    parser.add_argument("--output", type=Path, help="JSON; figures of stages that are not run again stay")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="params, such as full_head.lr=0.1")
    parser.add_argument("--show", type=Path, nargs="+", help="print the figures of these files side by side")
    arguments = parser.parse_args(argv)
    if not arguments.show:
        run(arguments)
    for line in table(arguments.show or [arguments.output]):
        print(line)


def run(arguments: argparse.Namespace) -> None:
    """Run the stages at every size and write what each took as it ends."""
    output, code = arguments.output, arguments.code.resolve()
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    for number in arguments.photos:
        work = (arguments.work / str(number)).resolve()
        if not (work / "params.yaml").exists():
            # In a process of its own: a child starts with its parent's peak of memory.
            command = [sys.executable, "-m", "bench.scaling_inputs", str(work), str(number)]
            command += ["--tables"] if arguments.tables else []
            subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
        write_params(work, code, arguments.set)
        for stage in arguments.stages or (TABLE_STAGES if arguments.tables else STAGES):
            found.setdefault(stage, {})[str(number)] = took = measure(stage, work, code)
            print(number, stage, took, file=sys.stderr, flush=True)
            output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(stage: str, work: Path, code: Path) -> dict[str, float]:
    """Run a stage and return its CPU seconds, those of its processes included, peak MiB, and what it added to disk."""
    before, begin = disk_of(work), time.monotonic()
    command = [sys.executable, "-m", *f"stages.{stage}".split()]
    log = (work / "log.txt").open("a", encoding="utf-8")
    process = subprocess.Popen(command, cwd=work, env=os.environ | {"PYTHONPATH": str(code)}, stderr=log)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{stage} failed: {(work / 'log.txt').read_text(encoding='utf-8')[-2000:]}")
    return {
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "wall_s": round(time.monotonic() - begin, 2),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
        "disk_mib": round((disk_of(work) - before) / 2**20, 2),
    }


def disk_of(work: Path) -> int:
    """Return the bytes of all files of a run, its photos aside."""
    folders = (work / name for name in ("data", "models", "metrics", "reports"))
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def write_params(work: Path, code: Path, values: Sequence[str]) -> None:
    """Write the params of the tree that runs, changed to a small network, one member and one epoch."""
    params = yaml.safe_load((code / "params.yaml").read_text(encoding="utf-8"))
    profile = copy.deepcopy(params["profiles"]["sample"]) | {
        "source": "folder",
        "path": str(work / "photos"),
        "image_size": [*SIZE],
    }
    profile["backbone"]["weights"] = str(code / "flukeprint/weights/sample_backbone.safetensors")
    profile["epochs"] = dict.fromkeys(profile["epochs"], 1)
    params["profiles"]["folder"] = profile
    params |= {"profile": "folder", "recipe": "metric"}
    params["recipes"]["metric"]["finetune"] |= {"epochs": 1}
    params["evaluate"]["examples"] = 0
    params["full_head"]["lr"] = 1e-4  # one epoch at the usual rate comes apart
    params["ensemble"]["members"] = ["m1"]
    params["runtime"]["device"] = "cpu"
    for text in values:
        key, _, value = text.partition("=")
        *path, last = key.split(".")
        section = params
        for name in path:
            section = section[name]
        section[last] = yaml.safe_load(value)
    (work / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


# --- figures ---


def table(files: Sequence[Path]) -> list[str]:
    """Return Markdown: per stage and measure a column per size and the exponent, of every file."""
    runs = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    sizes = sorted({int(size) for found in runs.values() for row in found.values() for size in row})
    titles = ["stage", *(f"{name} {size:,}" for size in sizes for name in runs), *(f"{name} ^" for name in runs)]
    lines = []
    for key, title in MEASURES.items():
        lines += ["", f"| {title}: " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        for stage in STAGES:
            rows = {name: found.get(stage, {}) for name, found in runs.items()}
            cells = [_cell(row.get(str(size)), key) for size in sizes for row in rows.values()]
            lines.append(f"| {stage} | " + " | ".join([*cells, *(_exponent(row, key) for row in rows.values())]) + " |")
    return lines


def _cell(took: dict[str, float] | None, key: str) -> str:
    return "" if took is None else f"{took[key]:,.0f}" if took[key] >= 10 else f"{took[key]:.1f}"


def _exponent(row: dict[str, dict[str, float]], key: str) -> str:
    points = sorted((int(size), took[key]) for size, took in row.items() if took[key] > 0)
    if len(points) < 2:
        return ""
    sizes, values = np.log(np.array(points, float)).T
    return f"{np.polyfit(sizes, values, 1)[0]:.2f}"


if __name__ == "__main__":
    main()
