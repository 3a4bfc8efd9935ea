"""What is published of a network beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """What a network's weights want to see, and how it is built where its name alone does not say."""

    mean: tuple[float, ...]  # of inputs scaled to 0..1, per channel
    std: tuple[float, ...]
    size: tuple[int, int]  # (height, width) in px
    options: Mapping[str, Any] = field(default_factory=dict)  # JSON-able, for the family's `build`
