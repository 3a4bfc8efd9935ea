"""The reference procedure as a plain PyTorch notebook does it, with its times: `python -m bench.notebook --help`.

The baseline that the pipeline is compared with, so it shares no code with it. Every epoch opens and decodes every JPEG
again and runs the whole network again, in float32 and in one process. Each member: (1) a new head for the small set,
on the frozen backbone; (2) fine-tuning of all layers from step 1's best state; (3) a new head for all classes, on the
frozen backbone; (4) logits of the query and test photos, summed over the members.

Two flaws of the original do not slow it down but blur a comparison, so they are put right: the scheduler is stepped
after the optimizer, and validation, query and test photos are not flipped at random (`--random-test-flip` flips query
and test photos as the original does). Another one is kept: layers that are frozen stay in train mode, so the statistics
of their BatchNorm drift (`--frozen-batchnorm` is for weights with BatchNorm folded in, which do not survive that).

Members draw their own random split among the photos whose `split` is train or valid. They are scored on the queries of
full.parquet; an individual without any such photo is a new whale there.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.models import get_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NEW_WHALE = "new_whale"
HEAD_LR = 0.01
STEP_SIZE, GAMMA = 3, 0.1
SMALL_VALID_SHARE, FULL_VALID_SHARE = 0.25, 0.2
TOP = 5
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Report = dict[str, Any]


class Photos(Dataset[tuple[Tensor, int]]):
    """Photos of one folder with their class numbers; each access decodes the file."""

    def __init__(
        self, folder: Path, names: Sequence[str], targets: Sequence[int], transform: Callable[[Image.Image], Tensor]
    ) -> None:
        self.folder, self.names, self.targets, self.transform = folder, list(names), list(targets), transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.folder / self.names[index]) as photo:
            return self.transform(photo.convert("RGB")), self.targets[index]


@dataclass(frozen=True)
class Tables:
    """What is trained on (small, full: Image, Id), the queries (Image, truth), and the test photos."""

    small: pd.DataFrame
    full: pd.DataFrame
    queries: pd.DataFrame
    test: list[str]

    @property
    def classes(self) -> list[str]:
        """All labels of the full set, sorted."""
        return sorted(self.full["Id"].unique())


@dataclass
class Clock:
    """Wall and CPU seconds since it was made, with all threads and all data loading processes that have ended."""

    wall: float
    cpu: float

    @classmethod
    def started(cls) -> Clock:
        """Return a clock that starts now."""
        return cls(time.perf_counter(), cpu_seconds())

    def read(self) -> Report:
        """Return the seconds so far."""
        return {"wall_s": time.perf_counter() - self.wall, "cpu_s": cpu_seconds() - self.cpu}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the procedure and write its times and scores."""
    arguments = parsed(argv)
    clock = Clock.started()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tables = read_tables(arguments.raw, arguments.selected)
    classes = tables.classes
    logits = {"query": torch.zeros(len(tables.queries), len(classes))}
    if arguments.predict_test:
        logits["test"] = torch.zeros(len(tables.test), len(classes))
    members = [run_member(number, tables, logits, arguments) for number in range(arguments.members)]
    labels = {kind: top_labels(total, classes) for kind, total in logits.items()}
    if arguments.predict_test:
        write_submission(arguments.output.with_suffix(".csv"), tables.test, labels["test"])
    report = {
        "config": config(arguments),
        "data": sizes(tables),
        "members": members,
        "scores": scores(tables.queries["truth"].tolist(), labels["query"], arguments.new_share),
        "total": clock.read(),
        "peak_rss_mib": peak_mib(resource.RUSAGE_SELF),
        "peak_rss_of_a_worker_mib": peak_mib(resource.RUSAGE_CHILDREN) if arguments.workers else 0.0,
    }
    write_text(arguments.output, json.dumps(report, indent=2, sort_keys=True) + "\n")


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--raw", type=Path, required=True, help="folder with train/, test/ and sample_submission.csv")
    add("--selected", type=Path, required=True, help="folder with small.parquet and full.parquet")
    add("--output", type=Path, required=True, help="JSON; the submission goes beside it, as .csv")
    add("--backbone", default="resnet18", help="any torchvision classifier")
    add("--weights", default="random", help="random, or a state dict with torchvision's key names")
    add("--frozen-batchnorm", action="store_true", help="BatchNorm always in eval mode")
    add("--image-size", type=positive, nargs="+", default=[224], help="px: one side, or height and width")
    add("--mean", type=float, nargs=3, default=[0.485, 0.456, 0.406])
    add("--std", type=float, nargs=3, default=[0.229, 0.224, 0.225])
    add("--epochs-train", type=positive, default=20)
    add("--epochs-finetune", type=positive, default=20)
    add("--epochs-full-head", type=positive, default=20)
    add("--finetune-lr", type=float, default=0.001)
    add("--batch-size", type=positive, default=64)
    add("--members", type=positive, default=1, help="how many to run and sum")
    add("--seed", type=int, default=0, help="of the first member; the next ones count up")
    add("--threads", type=int, default=0, help="CPU threads; 0: PyTorch's default")
    add("--workers", type=int, default=0, help="data loading processes")
    add("--device", default="cpu")
    add("--predict-test", action=argparse.BooleanOptionalAction, default=True)
    add("--random-test-flip", action="store_true", help="flip query and test photos at random, a flaw of the original")
    add("--new-share", type=float, default=0.325, help="share of new whales that map5 is weighted to")
    arguments = parser.parse_args(argv)
    if len(arguments.image_size) > 2:
        parser.error("--image-size takes one number, or height and width")
    return arguments


def positive(text: str) -> int:
    """Return the number, at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def config(arguments: argparse.Namespace) -> Report:
    """Return the arguments that figures depend on; of a weights file only its name."""
    places = ("raw", "selected", "output")
    settings = {name: value for name, value in vars(arguments).items() if name not in places}
    return settings | {
        "weights": Path(arguments.weights).name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def read_tables(raw: Path, selected: Path) -> Tables:
    """Read the photos to train on, the queries and the test photos."""
    small, full = (pd.read_parquet(selected / name).astype({"Id": str}) for name in ("small.parquet", "full.parquet"))
    small, trained = (table[table["split"].isin(["train", "valid"])] for table in (small, full))
    queries = full[full["split"] == "query"]
    truth = queries["Id"].where(queries["Id"].isin(trained["Id"]), NEW_WHALE)
    test = pd.read_csv(raw / "sample_submission.csv", usecols=["Image"], dtype=str)
    return Tables(small, trained, queries.assign(truth=truth), test["Image"].tolist())


def sizes(tables: Tables) -> Report:
    """Return the numbers of photos and classes."""
    return {
        "small_photos": len(tables.small),
        "small_classes": tables.small["Id"].nunique(),
        "full_photos": len(tables.full),
        "full_classes": len(tables.classes),
        "queries": len(tables.queries),
        "new_queries": int((tables.queries["truth"] == NEW_WHALE).sum()),
        "test_photos": len(tables.test),
    }


def run_member(number: int, tables: Tables, logits: dict[str, Tensor], arguments: argparse.Namespace) -> Report:
    """Run all steps of one member, add its logits to `logits`, and return its times and curves."""
    seed = arguments.seed + number
    torch.manual_seed(seed)
    network = pretrained(arguments.backbone, arguments.weights)
    report: Report = {"seed": seed}

    def fitted(stage: str, table: pd.DataFrame, valid_share: float, epochs: int, lr: float) -> Report:
        clock = Clock.started()
        progress = f"member {number + 1}, {stage}"
        curves = fit(network, loaders(table, valid_share, seed, arguments), epochs, lr, progress, arguments)
        return timed(clock, curves)

    replace_head(network, tables.small["Id"].nunique())
    freeze_backbone(network)
    report["head"] = fitted("head", tables.small, SMALL_VALID_SHARE, arguments.epochs_train, HEAD_LR)
    network.requires_grad_(True)
    epochs, lr = arguments.epochs_finetune, arguments.finetune_lr
    report["finetune"] = fitted("finetune", tables.small, SMALL_VALID_SHARE, epochs, lr)
    replace_head(network, len(tables.classes))
    freeze_backbone(network)
    report["full_head"] = fitted("full_head", tables.full, FULL_VALID_SHARE, arguments.epochs_full_head, HEAD_LR)
    names = {"query": (arguments.raw / "train", tables.queries["Image"].tolist())}
    names["test"] = (arguments.raw / "test", tables.test)
    for kind, total in logits.items():
        clock = Clock.started()
        folder, photos = names[kind]
        add_logits(network, folder, photos, total, arguments)
        report[f"predict_{kind}"] = timed(clock, {"photos": len(photos)})
        print(f"member {number + 1}, predict {kind}: {len(photos)} photos", file=sys.stderr)
    return report


def timed(clock: Clock, report: Report) -> Report:
    """Return the figures with the clock's seconds and photos per second."""
    seconds = clock.read()
    return report | seconds | {"images_per_s": report["photos"] / seconds["wall_s"]}


def pretrained(backbone: str, weights: str) -> nn.Module:
    """Return a torchvision classifier with random weights or those of a file."""
    network: nn.Module = get_model(backbone, weights=None)
    if weights != "random":
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the name and module of the layer that classifies: the last linear one, else the last convolution."""
    for kind in (nn.Linear, nn.Conv2d):
        found = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
        if found:
            return found[-1]
    raise ValueError(f"{type(network).__name__} has no layer that classifies")


def replace_head(network: nn.Module, classes: int) -> None:
    """Put a new layer with so many classes in place of the last one."""
    name, old = last_layer(network)
    bias = old.bias is not None
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes, bias=bias)
    else:
        new = nn.Conv2d(old.in_channels, classes, kernel_size=1, bias=bias)
    network.set_submodule(name, new)


def freeze_backbone(network: nn.Module) -> None:
    """Leave only the last layer trainable."""
    network.requires_grad_(False)
    last_layer(network)[1].requires_grad_(True)


def train_mode(network: nn.Module, frozen_batchnorm: bool) -> None:
    """Put the network into train mode, frozen layers too, as the original does."""
    network.train()
    for module in network.modules():
        if frozen_batchnorm and isinstance(module, BATCH_NORM):
            module.eval()


def photo_transform(arguments: argparse.Namespace, flip: bool) -> Callable[[Image.Image], Tensor]:
    """Return what turns a photo into the network's input."""
    side = arguments.image_size
    steps: list[Any] = [transforms.Resize((side[0], side[-1]))]
    if flip:
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(arguments.mean, arguments.std)]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(steps)
    return composed


def loaders(
    table: pd.DataFrame, valid_share: float, seed: int, arguments: argparse.Namespace
) -> dict[str, DataLoader[tuple[Tensor, int]]]:
    """Split the photos at random and return the loaders of both parts."""
    targets = np.unique(table["Id"].to_numpy(str), return_inverse=True)[1].tolist()
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed)).tolist()
    cut = round(len(order) * (1 - valid_share))
    parts = {}
    for phase, rows in (("train", order[:cut]), ("valid", order[cut:])):
        training = phase == "train"
        transform = photo_transform(arguments, flip=training)
        photos = Photos(arguments.raw / "train", table["Image"].tolist(), targets, transform)
        # BatchNorm cannot be trained on one value per channel: a last batch of one photo is left out.
        drop_last = training and len(rows) > 1 and len(rows) % arguments.batch_size == 1
        parts[phase] = loader(Subset(photos, rows), arguments, shuffle=training, drop_last=drop_last)
    return parts


def loader(
    photos: Dataset[tuple[Tensor, int]], arguments: argparse.Namespace, shuffle: bool = False, drop_last: bool = False
) -> DataLoader[tuple[Tensor, int]]:
    """Return a loader of batches."""
    workers = arguments.workers
    return DataLoader(
        photos, arguments.batch_size, shuffle, num_workers=workers, persistent_workers=workers > 0, drop_last=drop_last
    )


def fit(
    network: nn.Module,
    parts: dict[str, DataLoader[tuple[Tensor, int]]],
    epochs: int,
    lr: float,
    progress: str,
    arguments: argparse.Namespace,
) -> Report:
    """Train what is trainable, load the best state by validation loss, and return the curves.

    They hold `best_epoch` (from 1), `photos` (that went through the network) and one list per curve.
    """
    network.to(arguments.device)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, STEP_SIZE, GAMMA)
    report: Report = {f"{phase}_{figure}": [] for phase in parts for figure in ("loss", "accuracy")}
    report |= {"best_epoch": 0, "photos": 0}
    best: dict[str, Tensor] = {}
    for epoch in range(1, epochs + 1):
        for phase, batches in parts.items():
            loss, accuracy, count = run_epoch(network, batches, optimizer if phase == "train" else None, arguments)
            report[f"{phase}_loss"].append(loss)
            report[f"{phase}_accuracy"].append(accuracy)
            report["photos"] += count
        scheduler.step()
        if not best or report["valid_loss"][-1] < report["valid_loss"][report["best_epoch"] - 1]:
            best = copy.deepcopy(network.state_dict())
            report["best_epoch"] = epoch
        latest = ", ".join(f"{name} {curve[-1]:.4f}" for name, curve in report.items() if isinstance(curve, list))
        print(f"{progress}, epoch {epoch}/{epochs}: {latest}", file=sys.stderr)
    network.load_state_dict(best)
    return report


def run_epoch(
    network: nn.Module,
    batches: DataLoader[tuple[Tensor, int]],
    optimizer: torch.optim.Optimizer | None,
    arguments: argparse.Namespace,
) -> tuple[float, float, int]:
    """Train for one epoch, or without an optimizer only measure; return mean loss, accuracy and number of photos."""
    if optimizer:
        train_mode(network, arguments.frozen_batchnorm)
    else:
        network.eval()
    loss_sum, right, count = 0.0, 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for images, targets in on_device(batches, arguments.device):
            logits = forward(network, images)
            loss = nn.functional.cross_entropy(logits, targets)
            if optimizer:
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            loss_sum += loss.item() * len(images)
            right += int((logits.argmax(1) == targets).sum())
            count += len(images)
    return loss_sum / count, right / count, count


def on_device(batches: DataLoader[tuple[Tensor, int]], device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches, moved to the device."""
    for images, targets in batches:
        yield images.to(device), torch.as_tensor(targets).to(device)


def forward(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits; of a network with auxiliary outputs the main ones."""
    output = network(images)
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


def add_logits(
    network: nn.Module, folder: Path, names: list[str], total: Tensor, arguments: argparse.Namespace
) -> None:
    """Add the photos' logits to `total` in place."""
    photos = Photos(folder, names, [0] * len(names), photo_transform(arguments, flip=arguments.random_test_flip))
    network.eval()
    start = 0
    with torch.no_grad():
        for images, _ in on_device(loader(photos, arguments), arguments.device):
            total[start : start + len(images)] += forward(network, images).cpu()
            start += len(images)


def top_labels(logits: Tensor, classes: list[str]) -> list[list[str]]:
    """Return each row's best labels, at most five, best first."""
    best = logits.softmax(1).topk(min(TOP, len(classes)), dim=1).indices
    return [[classes[index] for index in row] for row in best.tolist()]


def reciprocal_rank(truth: str, ranked: Sequence[str]) -> float:
    """Return 1 / rank of the truth's first occurrence among the first five labels, 0 without one."""
    first = list(ranked[:TOP])
    return 1 / (first.index(truth) + 1) if truth in first else 0.0


def scores(truth: Sequence[str], ranked: Sequence[Sequence[str]], new_share: float) -> dict[str, float]:
    """Return the figures on the queries.

    `map5_plain`: MAP@5 of the queries as they are; `map5`: weighted so that new whales are `new_share` of them, left
    out where there are only known or only new whales; `top1`: the share whose first label is right.
    """
    if not truth:
        return {}
    points = np.array([reciprocal_rank(label, labels) for label, labels in zip(truth, ranked, strict=True)])
    is_new = np.array([label == NEW_WHALE for label in truth])
    figures = {"map5_plain": float(points.mean()), "top1": float((points == 1).mean())}
    if is_new.any() and not is_new.all():
        figures["map5"] = float(new_share * points[is_new].mean() + (1 - new_share) * points[~is_new].mean())
    return figures


def write_submission(path: Path, names: list[str], labels: list[list[str]]) -> None:
    """Write Kaggle's file, in the sample's order."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["Image", "Id"])
        rows.writerows((name, " ".join(best)) for name, best in zip(names, labels, strict=True))
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, all threads, and of its processes that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def peak_mib(who: int) -> float:
    """Return the peak resident memory so far, in MiB."""
    return resource.getrusage(who).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main()
