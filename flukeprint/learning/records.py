"""What is recorded of a network beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from flukeprint.core.param_types import Side

_SIDES: TypeAdapter[tuple[int, int]] = TypeAdapter(tuple[Side, Side])


@dataclass(frozen=True)
class BackboneRecord:
    """What must be known to use a backbone's weights."""

    name: str  # as in params.yaml
    weights: str  # as in params.yaml
    sha256: str  # of the weights file as given; of the initial weights where they are random
    mean: tuple[float, ...]  # of inputs scaled to 0..1, per channel
    std: tuple[float, ...]
    size: tuple[int, int]  # (height, width) of inputs in px
    features: int  # D of the embedding
    last_layer: str  # name of the library's layer that was taken off
    folded_batchnorm: bool  # BatchNorm is a constant: in the convolutions, and where there are none, in eval mode
    options: Mapping[str, Any] = field(default_factory=dict)  # what its family needs to build it, beside the name
    own_size: tuple[int, int] | None = None  # (height, width) in px that inputs are resized to before it sees them

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BackboneRecord:
        """Read back what `asdict` and JSON made of a record; a ValueError names an own size beyond all bounds."""
        read: dict[str, Any] = {key: tuple(value[key]) for key in ("mean", "std", "size")}
        if "own_size" in value:
            read["own_size"] = _SIDES.validate_python(tuple(value["own_size"]), strict=True)
        return cls(**value | read)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; no options, and no size of its own, are left out."""
        return {key: value for key, value in asdict(self).items() if key not in ("options", "own_size") or value}

    @property
    def seen_size(self) -> tuple[int, int]:
        """(height, width) in px of what the network itself sees."""
        return self.own_size or self.size
