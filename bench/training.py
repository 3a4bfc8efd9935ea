"""Photos per second of our fine-tuning beside the bare network, and where the time goes: `python -m bench.training`.

Ours is `finetune` by the recipe `metric` on random photos: the loop, the sampling, the augmentation, the loss. Bare is
the same backbone with a linear head and cross-entropy on one synthetic batch that lies on the device: forwards,
backwards, the same optimizer, with as many threads. Both run in one process, in turns of `--steps` steps, at the sizes
that ours takes; the ratio is the median over turns of bare seconds over ours, of CPU seconds on a CPU, which other work
on the machine disturbs less. Where ours records its steps as CUDA graphs, the bare network is run in both ways.
Embedding likewise, beside forward passes alone.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from flukeprint.core.params import RuntimeParams, check_params, read_params
from flukeprint.core.runtime import open_accelerator
from flukeprint.core.training_params import FinetuneParams
from flukeprint.learning.batches import Batch
from flukeprint.learning.cuda_graphs import WARM_UP, RecordedSteps
from flukeprint.learning.embedding import EmbeddingJob, embed, embedding_job
from flukeprint.learning.finetuning import Start, finetuning_job
from flukeprint.learning.network_files import pretrained_backbone
from flukeprint.learning.networks import Classifier, new_head
from flukeprint.learning.optimization import build_optimizer
from flukeprint.learning.rows import RowArray
from flukeprint.learning.training import fit
from flukeprint.learning.training_data import Labelled, TrainingData

CLASSES = 1000


@dataclass
class Clock:
    """Seconds between calls: of the wall and of this process's CPUs, once the device has done what it was given."""

    device: torch.device
    last: tuple[float, float] = (0.0, 0.0)

    def lap(self) -> tuple[float, float]:
        """Return (wall, CPU) seconds since the last call."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now, last = (time.perf_counter(), time.process_time()), self.last
        self.last = now
        return now[0] - last[0], now[1] - last[1]


@dataclass
class Turns:
    """Seconds, (wall, CPU), of each turn of ours, of making its batches, of saving its epoch, and of the bare ones."""

    ours: list[tuple[float, float]] = field(default_factory=list)
    batches: list[tuple[float, float]] = field(default_factory=list)
    saving: list[tuple[float, float]] = field(default_factory=list)
    bare: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def figures(self, photos: int, device: torch.device) -> dict[str, Any]:
        """Return rates and shares; the first turn of each, which warms up, is left out."""
        which = 1 if device.type == "cpu" else 0
        ours, batches = ([turn[which] for turn in part[1:]] for part in (self.ours, self.batches))
        found: dict[str, Any] = {"ours_photos_per_s": rates(photos, self.ours[1:])}
        for name, turns in self.bare.items():
            ratios = [turn[which] / own for own, turn in zip(ours, turns[1:], strict=True)]
            found[f"{name}_photos_per_s"] = rates(photos, turns[1:])
            found[f"ratio_to_{name}"] = round(median(ratios), 3)
            found[f"ratios_to_{name}"] = [round(ratio, 3) for ratio in ratios]
        if any(wall for wall, _ in self.batches):
            found["share_of_making_batches"] = round(median(b / a for a, b in zip(ours, batches, strict=True)), 3)
        if self.saving:
            found["saving_an_epoch_s"] = [round(median(turn[n] for turn in self.saving), 2) for n in (0, 1)]
        return found


def rates(photos: int, turns: list[tuple[float, float]]) -> list[float]:
    """Return photos per second of the wall and of CPUs, by the medians of turns."""
    return [round(photos / median(turn[n] for turn in turns), 1) for n in (0, 1)]


def main() -> None:
    """Run the bench and print its figures as JSON."""
    arguments = parsed()
    params = check_params(read_params() | {"recipe": "metric"})
    runtime = params.runtime.model_copy(
        update={"device": arguments.device, "precision": arguments.precision, "threads": arguments.threads}
    )
    growing = params.finetune.schedule.model_copy(
        update={} if arguments.growing else {"first_size": 1.0, "full_size_at": 0.0}
    )
    settings = params.finetune.model_copy(update={"schedule": growing, "batch_size": arguments.batch_size})
    wanted = params.active.backbone.model_copy(
        update={key: getattr(arguments, key) for key in ("name", "weights", "batchnorm")}
    )
    size = (arguments.size[0], arguments.size[-1])
    backbone, record = pretrained_backbone(wanted, size, 0)
    start = Start(backbone, record, new_head(record.features, 2, 0))
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        figures = training_figures(arguments, size, start, settings, runtime)
    print(json.dumps(vars(arguments) | {"load_average": os.getloadavg()[0]} | figures))


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="shufflenet_v2_x0_5", help="of the backbone")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--batchnorm", default="train", choices=["train", "frozen"])
    parser.add_argument("--size", type=int, nargs="+", default=[128], help="px: one side, or height and width")
    parser.add_argument("--growing", action="store_true", help="photos grow over the turns, as the recipe has it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="in a turn, which is an epoch")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--profile", action="store_true", help="print torch's profile of ours, and nothing else")
    return parser.parse_args()


def training_figures(
    arguments: argparse.Namespace,
    size: tuple[int, int],
    start: Start,
    settings: FinetuneParams,
    runtime: RuntimeParams,
) -> dict[str, Any]:
    """Run fine-tuning and embedding in turns with the bare network."""
    accelerator = open_accelerator(runtime)
    data = random_photos(arguments.steps * settings.batch_size, size)
    bare = {"bare": Bare(start, settings, accelerator, recorded=False)}
    if accelerator.device.type == "cuda":
        bare["bare_as_graphs"] = Bare(start, settings, accelerator, recorded=True)
    alone = embedding_job(deepcopy(start.backbone), start.record, runtime, accelerator)
    job = finetuning_job(data, start, "m1", arguments.turns, 0, settings, accelerator)
    turns, clock = Turns(), Clock(accelerator.device)
    if arguments.profile:
        profiled(lambda: fit(job, accelerator))
        return {}
    fit(replace(job, train_batches=lambda epoch: in_turns(job.train_batches(epoch), turns, clock, bare)), accelerator)
    whole = Turns()
    for _ in range(arguments.turns):
        embedding_turn(alone, data.array, whole, clock)
    return {
        "finetune": turns.figures(len(data.train.rows), accelerator.device),
        "embed": whole.figures(len(data.array), accelerator.device),
    }


def random_photos(n: int, size: tuple[int, int]) -> TrainingData:
    """Return n photos of noise, several of each class."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (n, 3, *size), dtype=np.uint8)
    rows, targets = np.arange(n), generator.permutation(np.arange(n) % CLASSES)
    return TrainingData(
        pixels, Labelled(rows, targets), Labelled(rows[:0], targets[:0]), [str(c) for c in range(CLASSES)]
    )


class Bare:
    """The backbone as a classifier, trained on one batch of noise again and again."""

    def __init__(self, start: Start, settings: FinetuneParams, accelerator: Any, *, recorded: bool) -> None:
        network = Classifier(
            deepcopy(start.backbone),
            new_head(start.record.features, 2 * CLASSES, 0),
            frozen_batchnorm=start.record.folded_batchnorm,
        )
        self.network = network.to(accelerator.device).to(memory_format=torch.channels_last).train()
        self.optimizer = build_optimizer(network, settings, settings.schedule, accelerator.device)
        self.accelerator = accelerator
        self.targets = torch.arange(settings.batch_size, device=accelerator.device)
        self.advance = RecordedSteps(self.step) if recorded else self.step

    def run(self, sizes: list[torch.Size]) -> None:
        """Do a step for each of the sizes."""
        batches = {size: Batch(self.noise(size), self.targets[: size[0]], size[0]) for size in dict.fromkeys(sizes)}
        for size in sizes:
            self.advance(batches[size])

    def step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Do a step on a batch."""
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            loss = functional.cross_entropy(self.network(batch.inputs).float(), batch.targets)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach(), loss.detach()

    def noise(self, size: torch.Size) -> torch.Tensor:
        """Return a batch of normalised photos of noise."""
        return torch.randn(size, device=self.targets.device).to(memory_format=torch.channels_last)


def in_turns(batches: Iterator[Batch], turns: Turns, clock: Clock, bare: dict[str, Bare]) -> Iterator[Batch]:
    """Yield the batches of an epoch, timed as it is trained; then let the bare networks do as many steps, timed."""
    if turns.ours:
        turns.saving.append(clock.lap())
    sizes, making, stepping = [], [], []
    # A GPU that is waited for in between does not do one batch while the next is made.
    apart = clock.device.type == "cpu"
    clock.lap()
    for batch in batches:
        making += [clock.lap()] if apart else []
        sizes.append(batch.inputs.shape)
        yield batch
        stepping += [clock.lap()] if apart else []
    stepping += [] if apart else [clock.lap()]
    turns.batches.append(added(making))
    turns.ours.append(added(making + stepping))
    for name, network in bare.items():
        network.run(sizes[:1] * (WARM_UP + 1 if clock.device.type == "cuda" else 1))
        clock.lap()
        network.run(sizes)
        turns.bare.setdefault(name, []).append(clock.lap())
    clock.lap()


def added(laps: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the sums of wall and of CPU seconds."""
    return sum(wall for wall, _ in laps), sum(cpu for _, cpu in laps)


def embedding_turn(job: EmbeddingJob, photos: RowArray, turns: Turns, clock: Clock) -> None:
    """Embed all photos, and run the network on as many batches of noise."""
    noise = torch.randn(job.batch_size, *photos.shape[1:], device=clock.device)
    noise = noise.to(memory_format=torch.channels_last)
    clock.lap()
    with job.accelerator.autocast():
        embed(job, photos, 1)
    turns.ours.append(clock.lap())
    with torch.inference_mode(), job.accelerator.autocast():
        for first in range(0, len(photos), job.batch_size):
            job.backbone(noise[: len(photos) - first])
    turns.bare.setdefault("bare", []).append(clock.lap())


def profiled(run: Callable[[], Any]) -> None:
    """Print where the time goes, by operator."""
    with torch.profiler.profile() as profile:
        run()
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40, max_name_column_width=50))


if __name__ == "__main__":
    main()
