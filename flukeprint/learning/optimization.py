"""Optimizers, learning-rate schedules and averaged weights, from params."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from flukeprint.core.training_params import FinetuneParams, TrainingParams

# Parameters under this name were pretrained.
BACKBONE = ("backbone.", "embedder.backbone.")


@dataclass(frozen=True)
class Optimization:
    """How a network is optimised. The defaults are the reference procedure's: StepLR, the best epoch's weights."""

    optimizer: str
    lr: float
    weight_decay: float
    step_size: int
    gamma: float
    shape: str = "step"
    warm_up: float = 0.0
    head_lr: float | None = None
    max_gradient: float | None = None
    ema: float = 0.0
    keep: str = "best"

    @classmethod
    def of(cls, params: TrainingParams) -> Optimization:
        """Read the constants that all trainings have."""
        return cls(params.optimizer, params.lr, params.weight_decay, params.step_size, params.gamma)

    @classmethod
    def of_finetuning(cls, params: FinetuneParams) -> Optimization:
        """Read the section `finetune`."""
        return cls(
            params.optimizer,
            params.lr,
            params.weight_decay,
            params.step_size,
            params.gamma,
            **params.schedule.model_dump(exclude={"first_size", "full_size_at"}),
        )

    def factor(self, epochs_done: float, epochs: int) -> float:
        """Return what the learning rates are multiplied by after so many of the epochs (a fraction in between).

        step: gamma ** (number of whole step_size epochs), as StepLR. cosine: rises linearly over the share `warm_up` of
        the training, then falls along half a cosine to 0 (Loshchilov and Hutter 2017).
        """
        if self.shape == "step":
            return float(self.gamma ** (int(epochs_done) // self.step_size))
        done = epochs_done / epochs
        if done < self.warm_up:
            return done / self.warm_up
        return 0.5 * (1 + math.cos(math.pi * (done - self.warm_up) / (1 - self.warm_up)))


def build_optimizer(model: nn.Module, settings: Optimization) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters that want a gradient; pretrained ones and others are groups apart."""
    named = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
    pretrained = [weights for name, weights in named if name.startswith(BACKBONE)]
    rest = [weights for name, weights in named if not name.startswith(BACKBONE)]
    head_lr = settings.lr if settings.head_lr is None else settings.head_lr
    groups = [{"params": weights, "lr": lr} for weights, lr in ((pretrained, settings.lr), (rest, head_lr)) if weights]
    fused = named[0][1].device.type in ("cpu", "cuda")
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(groups, settings.lr, weight_decay=settings.weight_decay, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay, fused=fused)
        case _:
            return torch.optim.SGD(groups, settings.lr, momentum=0.9, weight_decay=settings.weight_decay, fused=fused)


def build_schedule(
    optimizer: torch.optim.Optimizer, settings: Optimization, steps: int, epochs: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that is stepped after every step; `steps` of them are an epoch."""

    def factor(step: int) -> float:
        # The first step of a warm-up would otherwise have a learning rate of 0.
        shifted = step + 1 if settings.shape == "cosine" else step
        return settings.factor(shifted / steps, epochs)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def clipper(model: nn.Module, settings: Optimization) -> Callable[[], None]:
    """Return what shortens the gradient of the pretrained parameters to `max_gradient`, where that is given."""
    weights = [parameter for name, parameter in model.named_parameters() if name.startswith(BACKBONE)]

    def clip() -> None:
        if settings.max_gradient is not None:
            nn.utils.clip_grad_norm_(weights, settings.max_gradient)

    return clip


def averaged(model: nn.Module, settings: Optimization) -> torch.optim.swa_utils.AveragedModel | None:
    """Return the exponential moving average of the weights, or None."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    if not settings.ema:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema), use_buffers=True)  # type: ignore[no-untyped-call]
