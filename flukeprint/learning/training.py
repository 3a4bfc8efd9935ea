"""The one training loop: epochs over batches, the state to keep, a checkpoint after every epoch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from flukeprint.core.runtime import derived_seed, runtime_record
from flukeprint.learning.batches import IGNORED, Batch
from flukeprint.learning.checkpoints import clear_checkpoints, refuse_other_runtime, save_checkpoint, shared_checkpoint
from flukeprint.learning.cuda_graphs import RecordedSteps
from flukeprint.learning.depthwise import fast_depthwise
from flukeprint.learning.divergence import DivergenceError, LossBounds
from flukeprint.learning.optimization import STEP_LR, averaged, build_optimizer, build_schedule, clip_gradient
from flukeprint.learning.synchronization import synchronize_batchnorm

if TYPE_CHECKING:
    from accelerate import Accelerator

    from flukeprint.core.training_params import ScheduleParams, TrainingParams
    from flukeprint.learning.networks import State
    from flukeprint.learning.proxies import SampledProxies

logger = logging.getLogger(__name__)

# Steps after which losses are looked at within an epoch: each time a GPU is waited for.
_LOOKED_AT = 50

# Runs a model on a batch: the sum of its photos' losses, and how many answers are right.
Step = Callable[[nn.Module, Batch], tuple[torch.Tensor, torch.Tensor]]


def classification_step(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of the cross-entropies (nats) of a batch, and how many photos are classified right."""
    logits = model(batch.inputs).float()
    loss = functional.cross_entropy(logits, batch.targets, reduction="sum")
    return loss, (logits.argmax(dim=1) == batch.targets).sum()


@dataclass(frozen=True)
class Epoch:
    """One row of a learning curve: mean losses over photos (nats, if cross-entropies), accuracies as shares."""

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    valid_loss: float | None  # None: no photo was kept for validation
    valid_accuracy: float | None


@dataclass(frozen=True)
class Job:
    """What to train, on what, how, and for how long.

    `train_batches(epoch)` must give the same `steps` batches each time it is called for an epoch: with that,
    a training that was killed goes on to the same result.
    """

    model: nn.Module
    train_batches: Callable[[int], Iterator[Batch]]
    steps: int
    valid_batches: Callable[[], Iterator[Batch]] | None
    epochs: int
    seed: int
    checkpoints: Path
    bounds: LossBounds
    params: TrainingParams
    schedule: ScheduleParams = STEP_LR
    step: Step = classification_step
    # Whether a step does the same to all batches of a shape, and asks the device for nothing: a GPU may record it.
    recordable: bool = False
    proxies: SampledProxies | None = None  # None: the model holds all that it compares photos with

    @property
    def label(self) -> str:
        """What the training is called in messages."""
        return f"{self.bounds.stage} {self.bounds.member}"


@dataclass(frozen=True)
class Result:
    """The kept state of the model, its epoch, the whole curve, and the machine that its bits depend on."""

    state: State
    best_epoch: int
    history: list[Epoch]
    runtime: dict[str, str | int]


def fit(job: Job, accelerator: Accelerator) -> Result:
    """Train all parameters of `job.model` that want a gradient.

    Kept is the first epoch with the lowest validation loss, or the last one (`schedule.keep`). After every epoch the
    state is saved under `job.checkpoints`; a later call with the same job goes on there, or returns at once if all
    epochs are done, and ends with the same bytes. The caller removes the folder when the result is safely written.
    A training that comes apart is a DivergenceError (learning/divergence.py), and its checkpoints are removed.
    """
    run = _Run(job, accelerator)
    try:
        _train(run)
    except DivergenceError:
        if accelerator.is_main_process:
            clear_checkpoints(job.bounds.stage, job.bounds.member)
        raise
    accelerator.free_memory()
    if accelerator.is_main_process:
        _log_kept(job, run.kept)
    return Result(run.best_state, run.best_epoch, run.history, run.runtime)


def _train(run: _Run) -> None:
    """Train the epochs that are still to be trained, and refuse a result that is none."""
    run.resume()
    start, job = len(run.history), run.job
    # None shows the bar on a terminal only.
    quiet = None if run.accelerator.is_main_process else True
    for number in tqdm(range(start + 1, job.epochs + 1), job.label, job.epochs, initial=start, disable=quiet):
        run.record(run.epoch(number))
        run.save()
    part, loss, _ = _figures(run.kept)
    job.bounds.check_kept(run.best_epoch, part, loss)


def _figures(epoch: Epoch) -> tuple[str, float, float]:
    """Return what an epoch is judged by: the part of the photos, the loss and the accuracy on it."""
    if epoch.valid_loss is None or epoch.valid_accuracy is None:
        return "training", epoch.train_loss, epoch.train_accuracy
    return "validation", epoch.valid_loss, epoch.valid_accuracy


def _log_kept(job: Job, kept: Epoch) -> None:
    part, loss, accuracy = _figures(kept)
    figures = f"{part} loss {loss:.4f}, {part} accuracy {accuracy:.3f}"
    logger.info("%s: kept epoch %d of %d, %s", job.label, kept.epoch, job.epochs, figures)


class _Run:
    """A training under way: what changes from step to step, and the curve and the best state so far."""

    def __init__(self, job: Job, accelerator: Accelerator) -> None:
        self.job, self.accelerator = job, accelerator
        self.runtime = runtime_record(accelerator)
        synchronize_batchnorm(job.model, accelerator)
        fast_depthwise(job.model, accelerator)
        recorded = job.recordable and accelerator.device.type == "cuda" and accelerator.num_processes == 1
        self.advance = RecordedSteps(self._advance) if recorded else self._advance
        # Accelerate's wrappers of both.
        self.model, self.optimizer = accelerator.prepare(
            job.model, build_optimizer(job.model, job.params, job.schedule, accelerator.device)
        )
        self.average = averaged(job.model, job.schedule.ema)
        self.history: list[Epoch] = []
        self.best_epoch, self.best_state = 0, {}  # type: int, State

    @property
    def kept(self) -> Epoch:
        """The epoch whose state is kept."""
        return self.history[self.best_epoch - 1]

    def resume(self) -> None:
        """Put model, optimizer and schedule where the last checkpoint left them; without one, at the start."""
        if found := shared_checkpoint(self.job.checkpoints, self.runtime, self.accelerator):
            states, metadata = found
            refuse_other_runtime(self.job.checkpoints, metadata.get("runtime"), self.runtime)
            self.history = [Epoch(**row) for row in metadata["history"]]
            self.best_epoch, self.best_state = metadata["best_epoch"], states["best"]
            self.job.model.load_state_dict(states["model"])
            if self.average is not None:
                self.average.load_state_dict(states["average"])
            _load_optimizer(self.optimizer.optimizer, states.get("optimizer", {}))
            if self.job.proxies is not None:
                self.job.proxies.load(states["proxies"])
        job, done = self.job, len(self.history)
        optimizer = self.optimizer.optimizer
        self.scheduler = build_schedule(optimizer, job.params, job.schedule, job.steps, job.epochs, done)

    def epoch(self, number: int) -> Epoch:
        """Train one epoch, counted from 1, and validate what would be kept of it."""
        torch.manual_seed(derived_seed(self.job.seed, "epoch", number, self.accelerator.process_index))
        lr = float(self.scheduler.get_last_lr()[0])
        train = self.train_epoch(number)
        valid = self.validate()
        for part, means in (("training", train), ("validation", valid)):
            if means[0] is not None:
                self.job.bounds.check_under_way(number, part, means[0])
        return Epoch(number, lr, *train, *valid)

    def train_epoch(self, number: int) -> tuple[float, float]:
        """Run one epoch of steps and return (mean loss, accuracy) over its photos, as seen during the steps."""
        self.model.train()
        totals = _Totals(self.accelerator)
        for step, batch in enumerate(self.job.train_batches(number), 1):
            self.bring(batch)
            loss, right = self.advance(batch)
            self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.job.model)
            totals.add(loss, right, batch)
            if step % _LOOKED_AT == 0:
                self.job.bounds.check_under_way(number, "training", totals.means()[0])
        return totals.means()

    def _advance(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Change the weights by a batch, and return the sum of its losses and how many answers are right."""
        self.optimizer.zero_grad()
        with self.accelerator.autocast():
            loss, right = self.job.step(self.model, batch)
        # DDP averages gradients over processes: the factor makes it the mean over the whole batch.
        self.accelerator.backward(loss * (self.accelerator.num_processes / batch.size))
        clip_gradient(self.job.model, self.job.schedule.max_gradient)
        self.optimizer.step()
        return loss.detach(), right

    def validate(self) -> tuple[float, float] | tuple[None, None]:
        """Return (mean loss, accuracy) on the validation batches in eval mode, over the parts of all processes."""
        if self.job.valid_batches is None:
            return None, None
        model = self.model if self.average is None else self.average.module
        model.eval()
        totals = _Totals(self.accelerator)
        with torch.inference_mode():
            for batch in self.job.valid_batches():
                self.bring(batch)
                with self.accelerator.autocast():
                    totals.add(*self.job.step(model, batch), batch)
        return totals.means()

    def bring(self, batch: Batch) -> None:
        """Have the model hold the proxies of the classes that a batch is compared with."""
        if self.job.proxies is not None and batch.classes is not None:
            average = None if self.average is None else self.average.module.loss
            self.job.proxies.bring(batch.classes, self.optimizer.optimizer, average)

    def record(self, epoch: Epoch) -> None:
        """Add an epoch to the curve and keep the weights, or their average, if they are the best so far."""
        past = [earlier.valid_loss for earlier in self.history if earlier.valid_loss is not None]
        loss = epoch.valid_loss
        if self.job.schedule.keep == "last" or loss is None or loss < min(past, default=math.inf):
            kept = self.job.model if self.average is None else self.average.module
            self.best_epoch = epoch.epoch
            self.best_state = {key: value.detach().cpu().clone() for key, value in kept.state_dict().items()}
            self.job.bounds.check_weights(epoch.epoch, self.best_state)
        self.history.append(epoch)

    def save(self) -> None:
        """Write the checkpoint of the last finished epoch."""
        if not self.accelerator.is_main_process:
            return
        proxies, optimizer = self.job.proxies, self.optimizer.optimizer
        slots = optimizer.state_dict()["state"].items()
        states = {
            "model": self.job.model.state_dict(),
            "best": self.best_state,
            "average": {} if self.average is None else self.average.state_dict(),
            "proxies": {} if proxies is None else proxies.state(optimizer),
            "optimizer": {f"{i}.{key}": torch.as_tensor(value) for i, slot in slots for key, value in slot.items()},
        }
        history = [asdict(epoch) for epoch in self.history]
        metadata = {"history": history, "best_epoch": self.best_epoch, "runtime": self.runtime}
        save_checkpoint(self.job.checkpoints, states, metadata)


class _Totals:
    """Sums over the batches of an epoch: losses, right answers, photos that count."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)

    def add(self, loss: torch.Tensor, right: torch.Tensor, batch: Batch) -> None:
        photos = (batch.targets != IGNORED).sum()
        self.sums += torch.stack([loss.detach().double(), right.double(), photos.double()])

    def means(self) -> tuple[float, float]:
        """Return (mean loss, accuracy) over the photos of all processes."""
        loss, right, photos = self.accelerator.reduce(self.sums, "sum").tolist()
        return loss / max(photos, 1), right / max(photos, 1)


def _load_optimizer(optimizer: torch.optim.Optimizer, slots: State) -> None:
    """Load what `_Run.save` wrote of an optimizer.

    Files hold running averages row by row, weights may be channels_last, and fused kernels walk both in memory order:
    the averages are laid out as their weights are.
    """
    weights = [each for group in optimizer.param_groups for each in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in slots.items():
        index, _, slot = key.partition(".")
        own = weights[int(index)]
        laid_out = torch.empty_like(own).copy_(value) if value.shape == own.shape else value
        state.setdefault(int(index), {})[slot] = laid_out
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
