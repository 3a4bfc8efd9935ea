"""A training's steps recorded as CUDA graphs: all kernels launched at once, so that a GPU waits for none."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from flukeprint.learning.batches import Batch

logger = logging.getLogger(__name__)

# Steps for a shape that are done as usual before one is recorded: by then libraries and optimizers are set up.
WARM_UP = 3
# How torch's warning begins (c10/cuda/CUDAFunctions.cpp); to turn the warnings on is warned of, too.
_WAITS = "called a synchronizing CUDA operation"

# Does a step on a batch: the sum of its photos' losses, and how many answers are right.
Advance = Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class _Recording:
    """A step's graph, the batch that it reads, and what it returns, all at fixed places on the GPU."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    results: tuple[torch.Tensor, torch.Tensor]

    def replayed(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Do the step on another batch of the same shape; the results stand until the next one."""
        for name, tensor in _tensors(batch).items():
            getattr(self.batch, name).copy_(tensor)
        self.graph.replay()
        return self.results


class RecordedSteps:
    """Does what `advance` does, on one GPU: after a few batches of a shape its kernels are recorded and replayed.

    `advance` must do the same to every batch of a shape. What waits for the GPU, or cannot be recorded for another
    reason, is done as usual, which is said once.
    """

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._seen: Counter[Any] = Counter()
        self._recordings: dict[Any, _Recording] = {}
        self._refused = False

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Do a step."""
        shape = (batch.size, *(tensor.shape for tensor in _tensors(batch).values()))
        if shape not in self._recordings:
            self._seen[shape] += 1
            if self._seen[shape] == WARM_UP:
                return self._watched(batch)
            if self._refused or self._seen[shape] < WARM_UP or not self._record(shape, batch):
                return self._advance(batch)
        return self._recordings[shape].replayed(batch)

    def _watched(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Do a step, and find out whether it waits for the GPU: a recording that fails may spoil what follows."""
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                results = self._advance(batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        for warning in found:
            if str(warning.message).startswith(_WAITS):
                self._refuse(f"{warning.filename}, line {warning.lineno}, waits for the GPU")
        return results

    def _record(self, shape: Any, batch: Batch) -> bool:
        """Record a step, which is not done by that; False if it cannot be."""
        graph = torch.cuda.CUDAGraph()
        places: dict[str, Any] = {name: torch.empty_like(tensor) for name, tensor in _tensors(batch).items()}
        own = replace(batch, **places)
        # They never run at once: what one needs between its kernels, the next may use.
        pool = next((each.graph.pool() for each in self._recordings.values()), None)
        try:
            with torch.cuda.graph(graph, pool=pool):
                results = self._advance(own)
        except RuntimeError as error:
            self._refuse(str(error).partition("\n")[0])
        else:
            self._recordings[shape] = _Recording(graph, own, results)
        return not self._refused

    def _refuse(self, reason: str) -> None:
        if not self._refused:
            logger.warning("steps are not recorded as a CUDA graph, which would be faster: %s", reason)
        self._refused = True


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, torch.Tensor)}
