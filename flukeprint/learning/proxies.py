"""Proxies of very many classes, of which a step compares photos with some: it costs the same for any number of classes.

After Partial FC (An et al. 2022): a photo is compared with the classes of its batch and others drawn at random. Here
some steps that follow one another share what is drawn, so that a step itself does nothing more: between groups of
steps, proxies change places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flukeprint.core.runtime import derived_seed
from flukeprint.core.training_params import PROXY_OBJECTIVES, FinetuneParams
from flukeprint.learning.batches import on_device
from flukeprint.learning.networks import State

# Of the classes that are compared, those that the steps' own photos may take; the rest is drawn.
_OWN = 0.25


@dataclass(frozen=True)
class ClassDraw:
    """Which classes photos are compared with: `most` of all `classes`, which follow from (seed, epoch, step)."""

    classes: int
    most: int
    seed: int

    @classmethod
    def of(cls, params: FinetuneParams, individuals: int, seed: int) -> ClassDraw:
        """Return what params ask for; a validation batch, twice as large as a training batch, has to find room."""
        classes = (2 if params.mirrored_ids else 1) * individuals
        most = max(params.arcface.most_classes, 2 * params.batch_size)
        return cls(classes, min(most, classes) if params.objective in PROXY_OBJECTIVES else classes, seed)

    @property
    def samples(self) -> bool:
        """Whether some classes are left out."""
        return self.most < self.classes

    def steps(self, targets: Sequence[NDArray[np.int64]], epoch: int) -> Iterator[NDArray[np.int64] | None]:
        """Yield, for the whole batch's targets at each step, the classes to compare, ascending; None: all.

        Steps that follow one another share an array. It holds all their targets.
        """
        if not self.samples:
            yield from repeat(None, len(targets))
            return
        together = max(1, int(_OWN * self.most) // max(map(len, targets)))
        for start in range(0, len(targets), together):
            group = targets[start : start + together]
            yield from repeat(self._drawn(np.concatenate(group), epoch, start), len(group))

    def _drawn(self, own: NDArray[np.int64], epoch: int, step: int) -> NDArray[np.int64]:
        generator = np.random.default_rng(derived_seed(self.seed, "classes", epoch, step))
        chosen = np.zeros(self.classes, bool)
        chosen[own] = True
        missing = self.most - np.count_nonzero(chosen)
        chosen[generator.choice(np.flatnonzero(~chosen), missing, replace=False)] = True
        return np.flatnonzero(chosen)


class SampledProxies:
    """The proxies and margins of all classes, for a loss that holds those that are compared.

    A proxy goes together with what the optimizer remembers of it; while it is not compared, it rests as it is. Here
    each class has a row; pytorch-metric-learning's proxies are columns, those of a class side by side.
    """

    def __init__(self, loss: Any, margins: NDArray[np.float32]) -> None:
        """Draw the proxies from torch's global generator, as the loss draws its own."""
        proxies = torch.empty(len(margins), loss.W.numel() // len(loss.margins))
        loss.weight_init_func(proxies)
        self._loss = loss
        self._rest: State = {"margins": torch.from_numpy(margins[:, None]), "proxies": proxies}
        self._held: NDArray[np.int64] | None = None

    # Validation asks in inference mode, whose tensors could not be changed by training.
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def bring(self, classes: NDArray[np.int64], optimizer: torch.optim.Optimizer, average: Any = None) -> None:
        """Have the loss hold the proxies of `classes`, in this order, and put back what it held.

        So has the loss of an averaged model: averages would mix the proxies of different classes.
        """
        if classes is self._held:
            return
        self._put_back(optimizer)
        index = on_device(classes, self._loss.W.device)
        for name, held in self._places(optimizer).items():
            held.copy_(self._resting(name).index_select(0, index).view(-1, len(held)).t())
        if average is not None:
            average.W.detach().copy_(self._loss.W.detach())
        self._held = classes

    def state(self, optimizer: torch.optim.Optimizer) -> State:
        """Return all proxies as they are now, with what goes with them; the loss holds none after it."""
        self._put_back(optimizer)
        return self._rest

    def load(self, state: State) -> None:
        """Go on from what `state` returned."""
        self._rest, self._held = dict(state), None

    def _put_back(self, optimizer: torch.optim.Optimizer) -> None:
        if self._held is not None:
            index = on_device(self._held, self._loss.W.device)
            for name, held in self._places(optimizer).items():
                # A copy, because to index the transposed view takes several times as long.
                self._resting(name).index_copy_(0, index, held.t().contiguous().view(len(index), -1))
        self._held = None

    def _places(self, optimizer: torch.optim.Optimizer) -> State:
        """Return where the loss and the optimizer hold what belongs to classes: matrices with columns of classes."""
        weights = self._loss.W
        slots = {name: value for name, value in optimizer.state.get(weights, {}).items() if torch.is_tensor(value)}
        alike = {name: value for name, value in slots.items() if value.shape == weights.shape}
        return {"margins": self._loss.margins[None], "proxies": weights.detach(), **alike}

    def _resting(self, name: str) -> torch.Tensor:
        """Return the rows of all classes, where the loss is; what an optimizer remembers begins with zeros."""
        rest = self._rest.get(name)
        rest = torch.zeros_like(self._rest["proxies"]) if rest is None else rest
        self._rest[name] = rest.to(self._loss.W.device)
        return self._rest[name]
