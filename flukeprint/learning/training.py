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

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors, write_safetensors
from flukeprint.core.runtime import derived_seed
from flukeprint.learning.batches import IGNORED, Batch
from flukeprint.learning.optimization import Optimization, averaged, build_optimizer, build_schedule, clipper

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]
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
    """What to train, on what, and for how long.

    `train_batches(epoch)` must give the same `steps` batches each time it is asked for an epoch: with that,
    a training that was killed goes on to the same result.
    """

    model: nn.Module
    train_batches: Callable[[int], Iterator[Batch]]
    steps: int
    valid_batches: Callable[[], Iterator[Batch]] | None
    epochs: int
    seed: int
    checkpoints: Path
    label: str
    step: Step = classification_step


@dataclass(frozen=True)
class Result:
    """The kept state of the model, its epoch, and the whole curve."""

    state: State
    best_epoch: int
    history: list[Epoch]


@dataclass(frozen=True)
class _Run:
    """What a training changes from step to step."""

    job: Job
    settings: Optimization
    accelerator: Accelerator
    model: nn.Module  # as Accelerate wraps it
    optimizer: Any  # Accelerate's wrapper
    scheduler: torch.optim.lr_scheduler.LambdaLR
    average: torch.optim.swa_utils.AveragedModel | None

    @property
    def kept(self) -> nn.Module:
        """The weights that are judged and kept."""
        return self.job.model if self.average is None else self.average.module


@dataclass
class _Progress:
    """What a checkpoint holds beside the model and the optimizer."""

    history: list[Epoch]
    best_epoch: int
    best_state: State


def fit(job: Job, settings: Optimization, accelerator: Accelerator) -> Result:
    """Train all parameters of `job.model` that want a gradient.

    Kept is the first epoch with the lowest validation loss, or the last one (`settings.keep`). After every epoch the
    state is saved under `job.checkpoints`; a later call with the same job goes on there, or returns at once if all
    epochs are done, and ends with the same bytes. The caller removes the folder when the result is safely written.

    Raises:
        FlukeprintError: the loss became infinite or not a number.

    """
    model, optimizer = accelerator.prepare(job.model, build_optimizer(job.model, settings))
    scheduler = build_schedule(optimizer.optimizer, settings, job.steps, job.epochs)
    run = _Run(job, settings, accelerator, model, optimizer, scheduler, averaged(job.model, settings))
    progress = _resume(run)
    start = len(progress.history)
    for number in tqdm(
        range(start + 1, job.epochs + 1), job.label, job.epochs, initial=start, disable=_quiet(accelerator)
    ):
        torch.manual_seed(derived_seed(job.seed, "epoch", number, accelerator.process_index))
        lr = float(scheduler.get_last_lr()[0])
        train = _train_epoch(run, number)
        _share_buffers(run)
        valid = evaluate(model if run.average is None else run.kept, job, accelerator)
        epoch = Epoch(number, lr, *train, *valid)
        _refuse_divergence(epoch, job.label, settings)
        _record(progress, epoch, run)
        _save(run, progress)
    accelerator.free_memory()
    _tell(job, progress, accelerator)
    return Result(progress.best_state, progress.best_epoch, progress.history)


def _tell(job: Job, progress: _Progress, accelerator: Accelerator) -> None:
    kept = progress.history[progress.best_epoch - 1]
    if accelerator.is_main_process:
        judged = (
            f"train loss {kept.train_loss:.4f}, train accuracy {kept.train_accuracy:.3f}"
            if kept.valid_loss is None
            else f"valid loss {kept.valid_loss:.4f}, valid accuracy {kept.valid_accuracy:.3f}"
        )
        logger.info("%s: kept epoch %d of %d, %s", job.label, kept.epoch, job.epochs, judged)


def _quiet(accelerator: Accelerator) -> bool | None:
    """Return tqdm's `disable`: None shows the bar on a terminal only; other processes show none."""
    return None if accelerator.is_main_process else True


def _train_epoch(run: _Run, number: int) -> tuple[float, float]:
    """Run one epoch of steps and return (mean loss, accuracy) over its photos, as seen during the steps."""
    accelerator = run.accelerator
    run.model.train()
    clip = clipper(run.job.model, run.settings)
    totals = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    for batch in run.job.train_batches(number):
        run.optimizer.zero_grad()
        with accelerator.autocast():
            loss, right = run.job.step(run.model, batch)
        # DDP averages gradients over processes: the factor makes it the mean over the whole batch.
        accelerator.backward(loss * (accelerator.num_processes / batch.size))
        clip()
        run.optimizer.step()
        run.scheduler.step()
        if run.average is not None:
            run.average.update_parameters(run.job.model)
        totals += _totals(loss, right, batch)
    return _means(totals, accelerator)


def _share_buffers(run: _Run) -> None:
    """Give every process the main process's BatchNorm statistics, which are the ones that are saved."""
    if run.accelerator.num_processes > 1:
        from accelerate.utils import broadcast

        for model in (run.job.model, *([] if run.average is None else [run.average])):
            for buffer in model.buffers():
                buffer.copy_(broadcast(buffer.clone()))


def evaluate(model: nn.Module, job: Job, accelerator: Accelerator) -> tuple[float, float] | tuple[None, None]:
    """Return (mean loss, accuracy) on the validation batches in eval mode, over the parts of all processes."""
    if job.valid_batches is None:
        return None, None
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    with torch.inference_mode():
        for batch in job.valid_batches():
            with accelerator.autocast():
                loss, right = job.step(model, batch)
            totals += _totals(loss, right, batch)
    return _means(totals, accelerator)


def _totals(loss: torch.Tensor, right: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return (sum of losses, right answers, photos)."""
    return torch.stack([loss.detach().double(), right.double(), (batch.targets != IGNORED).sum().double()])


def _means(totals: torch.Tensor, accelerator: Accelerator) -> tuple[float, float]:
    loss, right, photos = accelerator.reduce(totals, "sum").tolist()
    return loss / max(photos, 1), right / max(photos, 1)


def _refuse_divergence(epoch: Epoch, label: str, settings: Optimization) -> None:
    losses = {"training": epoch.train_loss, "validation": epoch.valid_loss}
    for part, loss in losses.items():
        if loss is not None and not math.isfinite(loss):
            raise FlukeprintError(
                f"{label}: the {part} loss in epoch {epoch.epoch} is {loss}. "
                f"The learning rate {settings.lr} is too high for this data: lower it in params.yaml."
            )


def _record(progress: _Progress, epoch: Epoch, run: _Run) -> None:
    """Add an epoch to the curve and keep the state if it is the one to keep so far."""
    past = [earlier.valid_loss for earlier in progress.history if earlier.valid_loss is not None]
    if run.settings.keep == "last" or epoch.valid_loss is None or epoch.valid_loss < min(past, default=math.inf):
        progress.best_epoch = epoch.epoch
        progress.best_state = {key: value.detach().cpu().clone() for key, value in run.kept.state_dict().items()}
    progress.history.append(epoch)


def _save(run: _Run, progress: _Progress) -> None:
    """Write the checkpoint of the last finished epoch."""
    if not run.accelerator.is_main_process:
        return
    slots = run.optimizer.optimizer.state_dict()["state"]
    tensors = {f"model.{key}": value for key, value in run.job.model.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in progress.best_state.items()}
    if run.average is not None:
        tensors |= {f"average.{key}": value for key, value in run.average.state_dict().items()}
    tensors |= {
        f"optimizer.{index}.{key}": torch.as_tensor(value) for index in slots for key, value in slots[index].items()
    }
    metadata = {"history": [asdict(epoch) for epoch in progress.history], "best_epoch": progress.best_epoch}
    write_safetensors(run.job.checkpoints / "last.safetensors", tensors, metadata)


def _resume(run: _Run) -> _Progress:
    """Put model, optimizer and schedule where the last checkpoint left them; a fresh start without one."""
    path = run.job.checkpoints / "last.safetensors"
    run.accelerator.wait_for_everyone()
    if not path.exists():
        return _Progress([], 0, {})
    tensors, metadata = read_safetensors(path)
    history = [Epoch(**row) for row in metadata["history"]]
    run.job.model.load_state_dict(_under(tensors, "model."))
    if run.average is not None:
        run.average.load_state_dict(_under(tensors, "average."))
    _resume_optimizer(run.optimizer.optimizer, _under(tensors, "optimizer."))
    _resume_schedule(run.scheduler, len(history) * run.job.steps)
    return _Progress(history, metadata["best_epoch"], _under(tensors, "best."))


def _resume_optimizer(optimizer: torch.optim.Optimizer, slots: State) -> None:
    state = optimizer.state_dict()
    for key, value in slots.items():
        index, _, slot = key.partition(".")
        state["state"].setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict(state)
    _match_layout(optimizer)


def _resume_schedule(scheduler: torch.optim.lr_scheduler.LambdaLR, steps: int) -> None:
    """Set the learning rates to what they are after so many steps."""
    scheduler.last_epoch = steps
    rates = [base * rule(steps) for base, rule in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay the optimizer's running averages out in memory as their weights are.

    Files hold them row by row, weights may be channels_last, and fused kernels walk both in memory order.
    """
    for weights, slots in optimizer.state.items():
        for key, value in slots.items():
            if value.shape == weights.shape:
                slots[key] = torch.empty_like(weights).copy_(value)


def _under(tensors: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
