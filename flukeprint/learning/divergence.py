"""Trainings that come apart: losses and weights that no success may have, found as early as they can be known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.training_params import FinetuneParams, TrainingParams

if TYPE_CHECKING:
    from flukeprint.learning.networks import State

# Times the loss of guessing. Within a training far less can be mended: BatchNorm's running statistics may lag for an
# epoch or two, but a learning rate that falls to a millionth (StepLR over 20 epochs) undoes no step a million times as
# long as it should have been.
BEYOND_RETURN = 1e6
# Nats. exp(-104) is below the smallest positive number of single precision (1.4e-45): on average the network gives
# what is right a probability of 0. Guessing costs ln(classes), at most 12 for the most classes that params allow.
NO_PROBABILITY = 104.0


class DivergenceError(FlukeprintError):
    """A training came apart."""


@dataclass(frozen=True)
class LossBounds:
    """Which losses one training may have; a DivergenceError says what was found, and which keys to change."""

    stage: str
    member: str
    classes: int
    params: TrainingParams

    @property
    def guessing(self) -> float:
        """The cross-entropy of guessing among the classes, in nats."""
        return math.log(max(self.classes, 2))

    def check_under_way(self, epoch: int, part: str, loss: float) -> None:
        """Refuse a mean loss that is not finite, or beyond what the rest of the training can mend."""
        if not loss <= BEYOND_RETURN * self.guessing:  # so written, NaN is refused too
            raise self._error(epoch, f"the {part} loss is {loss:.4g}, where guessing has {self.guessing:.4g}")

    def check_kept(self, epoch: int, part: str, loss: float) -> None:
        """Refuse the loss of what is kept where it stands for a probability of 0 for what is right."""
        if not loss <= NO_PROBABILITY:
            raise self._error(epoch, f"the best {part} loss is {loss:.4g}, where guessing has {self.guessing:.4g}")

    def check_weights(self, epoch: int, state: State) -> None:
        """Refuse weights and statistics that are not finite, or whose squares are not: no length of them can be had."""
        if broken := [key for key, value in state.items() if not bool(value.square().isfinite().all())]:
            raise self._error(epoch, f"{len(broken)} of the network's tensors are not finite ({broken[0]})")

    def _error(self, epoch: int, found: str) -> DivergenceError:
        return DivergenceError(
            f"{self.stage} {self.member}, epoch {epoch}: {found}. The training came apart, and nothing of it was kept. "
            f"Lower {self.stage}.lr ({self.params.lr:g}){self._others()}."
        )

    def _others(self) -> str:
        """Name the other keys that can drive weights or losses away, where they are in use."""
        keys = [f"{self.stage}.weight_decay ({self.params.weight_decay:g})"] if self.params.weight_decay else []
        if isinstance(self.params, FinetuneParams):
            if self.params.schedule.head_lr is not None:
                keys.append(f"{self.stage}.schedule.head_lr ({self.params.schedule.head_lr:g})")
            if self.params.metric:
                keys.append(f"the margins and the scale of {self.stage}.arcface and {self.stage}.pairs")
        return f", or see to {', '.join(keys)}" if keys else ""
