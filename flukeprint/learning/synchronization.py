"""What makes several processes compute as one: sums that gradients flow through, and BatchNorm over all photos.

A process holds a part of each batch. DistributedDataParallel averages gradients; what compares the photos of a batch
with one another, as BatchNorm and pair losses do, has to see all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from flukeprint.learning.networks import batchnorms

if TYPE_CHECKING:
    from accelerate import Accelerator


class _Sum(torch.autograd.Function):
    """The sum over processes. Its gradient is theirs, summed: every process's result depends on every input."""

    @staticmethod
    def forward(_: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> Any:
        return _Sum.forward(_, gradient)


def over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes, the same bits in each of them, differentiable."""
    total: torch.Tensor = _Sum.apply(tensor)
    return total


def whole_batch(rows: torch.Tensor) -> tuple[torch.Tensor, slice]:
    """Return the rows of all processes in order of rank, differentiable, and which of them are this process's.

    Parts may differ in length, and be empty. With one process they are all there is.
    """
    if not distributed.is_initialized():
        return rows, slice(0, len(rows))
    rank, lengths = distributed.get_rank(), torch.zeros(distributed.get_world_size(), dtype=torch.long)
    lengths[rank] = len(rows)
    bounds = [0, *over_processes(lengths.to(rows.device)).cumsum(0).tolist()]
    own = slice(bounds[rank], bounds[rank + 1])
    padding = [0, 0] * (rows.dim() - 1) + [own.start, bounds[-1] - own.stop]
    return over_processes(nn.functional.pad(rows, padding)), own


def gathered(value: Any, accelerator: Accelerator) -> list[Any]:
    """Return the values of all processes in the first one, in order of rank; nothing in the others."""
    if accelerator.num_processes == 1:
        return [value]
    values = [None] * accelerator.num_processes if accelerator.is_main_process else None
    distributed.gather_object(value, values)
    return values or []


class SynchronizedBatchNorm(_BatchNorm):
    """BatchNorm with the mean and variance of all processes' photos together; torch's own is for GPUs only.

    In eval mode, and in its parameters and statistics, it is the layer that it replaces.
    """

    def _check_input_dim(self, inputs: torch.Tensor) -> None:
        """Take inputs of any dimension, N x C x ...: the layer that this one replaces would have checked."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalise each channel of N x C x ...; in training by the statistics of all processes' photos."""
        if not self.training:
            return super().forward(inputs)
        values, shape = inputs.float(), (1, -1, *[1] * (inputs.dim() - 2))
        over = [0, *range(2, inputs.dim())]
        own = values.new_tensor([values.numel() / self.num_features])
        sums = over_processes(torch.cat([values.sum(over), own]))
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = values - mean.view(shape)
        # From the mean: the difference of two large sums would be inexact.
        variance = over_processes(centred.square().sum(over)) / count
        self._remember(mean, variance, count)
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(inputs.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        """Move the running statistics towards a batch's, the variance's unbiased estimate, as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


def synchronize_batchnorm(model: nn.Module, accelerator: Accelerator) -> None:
    """Make a model's BatchNorm layers, in place, normalise by the photos of all processes; with one nothing changes."""
    if accelerator.num_processes == 1:
        return
    if accelerator.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for layer in batchnorms(model):
        # The same layer, with its parameters and statistics, of which there may be references.
        layer.__class__ = SynchronizedBatchNorm
