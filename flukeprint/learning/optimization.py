"""Optimizers, learning-rate schedules and averaged weights, from params."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flukeprint.core.training_params import ScheduleParams, TrainingParams

# Parameters under these names were pretrained.
BACKBONE = ("backbone.", "embedder.backbone.")
# The reference procedure's schedule: StepLR, and the best epoch's weights.
STEP_LR = ScheduleParams(
    shape="step", warm_up=0, head_lr=None, max_gradient=None, ema=0, first_size=1, full_size_at=0, keep="best"
)
_OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def build_optimizer(
    model: nn.Module, params: TrainingParams, schedule: ScheduleParams, device: torch.device
) -> torch.optim.Optimizer:
    """Build the optimizer of all parameters that want a gradient; pretrained ones and others are groups apart.

    For a GPU its rates lie there, where recorded steps (cuda_graphs.py) read them.
    """
    named = [(name, weights) for name, weights in model.named_parameters() if weights.requires_grad]
    head_lr = params.lr if schedule.head_lr is None else schedule.head_lr
    groups, on_gpu = [], device.type == "cuda"
    for pretrained, lr in ((True, params.lr), (False, head_lr)):
        if weights := [weights for name, weights in named if name.startswith(BACKBONE) == pretrained]:
            # A schedule that goes on where another one was left reads `initial_lr`.
            own = torch.tensor(lr, device=device) if on_gpu else lr
            groups.append({"params": weights, "lr": own, "initial_lr": lr})
    options = {"weight_decay": params.weight_decay, "fused": device.type in ("cpu", "cuda")}
    if on_gpu and params.optimizer != "sgd":
        options["capturable"] = True
        # Said of the steps before one is recorded.
        warnings.filterwarnings("ignore", "This instance was constructed with capturable=True", UserWarning)
    optimizer: torch.optim.Optimizer = _OPTIMIZERS[params.optimizer](groups, params.lr, **options)
    return optimizer


def build_schedule(
    optimizer: torch.optim.Optimizer,
    params: TrainingParams,
    schedule: ScheduleParams,
    steps: int,
    epochs: int,
    done: int = 0,
) -> LambdaLR:
    """Build a schedule of the learning rates for `epochs` of so many steps, of which `done` epochs are over.

    It is stepped after every step. step: gamma ** (number of whole step_size epochs), as StepLR. cosine: rises linearly
    over the share `warm_up` of the training, then falls along half a cosine to 0 (Loshchilov and Hutter 2017).
    """

    def factor(step: int) -> float:
        if schedule.shape == "step":
            return float(params.gamma ** (step // steps // params.step_size))
        # The first step of a warm-up would otherwise have a learning rate of 0.
        over = (step + 1) / steps / epochs
        if over < schedule.warm_up:
            return over / schedule.warm_up
        return 0.5 * (1 + math.cos(math.pi * (over - schedule.warm_up) / (1 - schedule.warm_up)))

    return LambdaLR(optimizer, factor, last_epoch=done * steps - 1)


def clip_gradient(model: nn.Module, longest: float | None) -> None:
    """Shorten the gradient of the pretrained parameters to `longest`, where that is given."""
    if longest is not None:
        weights = [parameter for name, parameter in model.named_parameters() if name.startswith(BACKBONE)]
        nn.utils.clip_grad_norm_(weights, longest)


def averaged(model: nn.Module, decay: float) -> AveragedModel | None:
    """Return the exponential moving average of the weights; None for a decay of 0."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]
