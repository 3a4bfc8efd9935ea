"""The pipeline's stages beside the plain procedure of bench/notebook.py: same data, same epochs, ratios per stage.

    python -m bench.pipeline --folder PHOTOS --backbone resnet18 --weights random --image-size 96 --members 3 \
        --output result.json

Each of our stages is its own process, as under `dvc repro`, and is charged with all of it, imports included. Wall
seconds, CPU seconds (user and system, of all threads and child processes) and peak memory come from the kernel.
One of the notebook's members is run whole (they are independent of one another) and multiplied; `--notebook FILE`
takes the figures of an earlier run of bench/notebook.py on the same selection instead.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parent.parent
SHARED = ("fetch", "validate", "select", "backbone", "pixels", "train")
PER_MEMBER = ("finetune", "embed")
# What our stages took, kept in the run's folder.
USAGE = "usage.json"
LAST = ("baseline", "full_head", "ensemble", "calibrate", "evaluate", "submit")
# The notebook evaluates nothing: these are run and timed, but are no part of the comparison.
EVALUATION = ("baseline", "calibrate", "evaluate")


@dataclass
class Usage:
    """What one or more processes took: seconds, and MiB of the largest."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mib: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """Return both one after the other."""
        peak = max(self.peak_rss_mib, other.peak_rss_mib)
        return Usage(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, peak)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    arguments = _arguments(argv)
    work = arguments.work.resolve()
    if not arguments.compare_only:
        prepare(work, arguments)
        run_stages(work, [f"m{number}" for number in range(1, arguments.members + 1)])
    if arguments.stages_only:
        return
    stages = {name: Usage(**row) for name, row in json.loads((work / USAGE).read_text(encoding="utf-8")).items()}
    notebook = json.loads((arguments.notebook or run_notebook(work, arguments)).read_text(encoding="utf-8"))
    result = compare(stages, notebook, arguments.members, share_of_train_views(work))
    result["scores"] = {
        "pipeline": json.loads((work / "metrics/evaluation.json").read_text(encoding="utf-8")),
        "notebook_members": len(notebook["members"]),
        "notebook": notebook["scores"],
    }
    arguments.output.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(table(result) + "\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="photos in Kaggle's layout")
    parser.add_argument("--work", type=Path, default=Path(".work/bench"), help="folder for the run; emptied first")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--notebook", type=Path, help="figures of an earlier run of bench/notebook.py")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--stages-only", action="store_true", help="run our stages, compare later")
    parts.add_argument("--compare-only", action="store_true", help="compare with what --stages-only left")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--mean", type=float, nargs=3, default=[0.485, 0.456, 0.406])
    parser.add_argument("--std", type=float, nargs=3, default=[0.229, 0.224, 0.225])
    parser.add_argument("--frozen-batchnorm", action="store_true", help="for the notebook; the pipeline sees it itself")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=20, help="of each of the three trainings")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(argv)


def prepare(work: Path, arguments: argparse.Namespace) -> None:
    """Make an empty folder in which the stages run with the benchmark's params."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["profile"] = "folder"
    params["ensemble"]["members"] = [f"m{number}" for number in range(1, arguments.members + 1)]
    params["runtime"] |= {"threads": arguments.threads, "device": "cpu"}
    weights = arguments.weights if arguments.weights == "random" else str(Path(arguments.weights).resolve())
    params["profiles"]["folder"] = {
        "source": "folder",
        "path": str(arguments.folder.resolve()),
        "image_size": arguments.image_size,
        "backbone": {
            "name": arguments.backbone,
            "weights": weights,
            "mean": list(arguments.mean),
            "std": list(arguments.std),
            "batchnorm": "train",
        },
        "members": {},
        "epochs": dict.fromkeys(("train", "finetune", "full_head"), arguments.epochs),
    }
    (work / "data").mkdir()
    (work / "data/exclusions.csv").write_text("Image,reason\n", encoding="utf-8")
    (work / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def run_stages(work: Path, members: Sequence[str]) -> None:
    """Run every stage once (finetune and embed once per member) and write down what each took."""
    commands: list[tuple[str, list[str]]] = [(stage, []) for stage in SHARED]
    commands += [(stage, [member]) for member in members for stage in PER_MEMBER]
    commands += [(stage, []) for stage in LAST]
    usage: dict[str, Usage] = {}
    for stage, options in commands:
        taken = measure([sys.executable, "-m", f"stages.{stage}", *options], work)
        usage[stage] = usage.get(stage, Usage()) + taken
        sys.stderr.write(f"{stage} {' '.join(options)}: {taken.wall_s:.1f} s, {taken.cpu_s:.1f} CPU s\n")
    (work / USAGE).write_text(
        json.dumps({name: asdict(row) for name, row in usage.items()}, indent=2) + "\n", encoding="utf-8"
    )


def measure(command: Sequence[str], folder: Path) -> Usage:
    """Run a command to its end and return what the kernel charged it and its children with."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"error: {' '.join(command)} failed with exit code {process.returncode}")
    return Usage(time.monotonic() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def run_notebook(work: Path, arguments: argparse.Namespace) -> Path:
    """Run one member of the plain procedure on the pipeline's selection; return its JSON."""
    output = work / "notebook.json"
    command = [sys.executable, "-m", "bench.notebook", "--raw", str(work / "data/raw")]
    command += ["--selected", str(work / "data/selected"), "--output", str(output), "--members", "1"]
    command += ["--backbone", arguments.backbone, "--weights", arguments.weights]
    command += ["--image-size", str(arguments.image_size), "--threads", str(arguments.threads)]
    command += ["--mean", *map(str, arguments.mean), "--std", *map(str, arguments.std)]
    for stage in ("train", "finetune", "full-head"):
        command += [f"--epochs-{stage}", str(arguments.epochs)]
    lr = yaml.safe_load((work / "params.yaml").read_text(encoding="utf-8"))["finetune"]["lr"]
    command += ["--finetune-lr", str(lr), *(["--frozen-batchnorm"] if arguments.frozen_batchnorm else [])]
    # The same courtesy that our stages get: waiting threads do not spin.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return output


def compare(stages: dict[str, Usage], notebook: dict[str, Any], members: int, embed_train: float) -> dict[str, Any]:
    """Return the figures side by side; the notebook's for `members` members, from the mean of those it ran.

    `embed_train`: share of the embed stage that is charged to the big head.
    """
    ran = notebook["members"]

    def plain(*names: str) -> Usage:
        parts = [Usage(one[name]["wall_s"], one[name]["cpu_s"]) for one in ran for name in names if name in one]
        total = sum(parts, Usage())
        return Usage(total.wall_s * members / len(ran), total.cpu_s * members / len(ran))

    def ours(*names: str) -> Usage:
        return sum((stages[name] for name in names), Usage())

    embed = ours("embed")
    big_head = ours("full_head") + Usage(embed.wall_s * embed_train, embed.cpu_s * embed_train)
    pairs = {
        "head": (ours("train"), plain("head")),
        "finetune": (ours("finetune"), plain("finetune")),
        "big head, with embedding of train photos": (big_head, plain("full_head")),
        "whole run": (
            ours(*SHARED, *PER_MEMBER, *(name for name in LAST if name not in EVALUATION)),
            plain("head", "finetune", "full_head", "predict_query", "predict_test"),
        ),
    }
    return {
        "members": members,
        "notebook_members_run": len(ran),
        "notebook_peak_rss_mib": notebook["peak_rss_mib"],
        "stages": {name: asdict(usage) for name, usage in stages.items()},
        "pairs": {name: _ratios(mine, theirs) for name, (mine, theirs) in pairs.items()},
    }


def _ratios(mine: Usage, theirs: Usage) -> dict[str, Any]:
    return {
        "pipeline": asdict(mine),
        "notebook": {key: value for key, value in asdict(theirs).items() if key != "peak_rss_mib"},
        "wall_ratio": theirs.wall_s / mine.wall_s,
        "cpu_ratio": theirs.cpu_s / mine.cpu_s,
    }


def share_of_train_views(work: Path) -> float:
    """Return the share of embed's forward passes that are for train photos: those the big head is trained on."""
    shapes = {part: np.load(work / f"data/embeddings/m1/{part}.npy", mmap_mode="r").shape for part in ("train", "test")}
    views = {part: shape[0] * shape[1] for part, shape in shapes.items()}
    return float(views["train"] / (views["train"] + views["test"]))


def table(result: dict[str, Any]) -> str:
    """Return the comparison as text."""
    lines = [f"{'':44}{'pipeline s':>12}{'notebook s':>12}{'ratio':>8}{'CPU ratio':>11}"]
    for name, pair in result["pairs"].items():
        mine, theirs = pair["pipeline"]["wall_s"], pair["notebook"]["wall_s"]
        lines.append(f"{name:44}{mine:12.1f}{theirs:12.1f}{pair['wall_ratio']:8.1f}{pair['cpu_ratio']:11.1f}")
    lines.append("")
    lines += [
        f"{name:12}{row['wall_s']:9.1f} s{row['cpu_s']:9.1f} CPU s{row['peak_rss_mib']:8.0f} MiB"
        for name, row in result["stages"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
