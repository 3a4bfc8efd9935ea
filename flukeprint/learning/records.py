"""What is recorded of a network beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BackboneRecord:
    """What must be known to use a backbone's weights."""

    name: str  # torchvision's name
    weights: str  # as in params.yaml
    sha256: str  # of the weights file as given; of the initial weights where they are random
    mean: tuple[float, ...]  # of inputs scaled to 0..1, per channel
    std: tuple[float, ...]
    size: tuple[int, int]  # (height, width) of inputs in px
    features: int  # D of the embedding
    last_layer: str  # name of torchvision's layer that was taken off
    folded_batchnorm: bool  # BatchNorm is the identity and must stay in eval mode

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BackboneRecord:
        """Read back what `asdict` and JSON made of a record."""
        return cls(**value | {key: tuple(value[key]) for key in ("mean", "std", "size")})
