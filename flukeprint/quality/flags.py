"""What about a photo makes its answer less trustworthy: the rules on single photos of flukeprint/quality/rules.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flukeprint.core.params import ValidateParams
from flukeprint.data.inspection import PhotoRecord
from flukeprint.data.near_duplicates import MAX_BITS, MAX_MSE
from flukeprint.data.photos import MAX_PIXELS
from flukeprint.data.spellings import UNKNOWN_WORDS
from flukeprint.quality.rules import RULES, Rule

# What the expectations of these rules say of a single value; Great Expectations would take seconds to import.
_HOLDS: Mapping[str, Callable[..., bool]] = {
    "ExpectColumnValuesToBeBetween": lambda value, min_value=-math.inf, max_value=math.inf: (
        min_value <= value <= max_value
    ),
    "ExpectColumnValuesToBeInSet": lambda value, value_set: value in value_set,
    "ExpectColumnValuesToNotBeInSet": lambda value, value_set: value not in value_set,
}


class Flag(NamedTuple):
    """Something about a photo."""

    rule: str  # its name in flukeprint/quality/rules.py
    says: str


@dataclass(frozen=True)
class Limits:
    """The bounds that photos are compared with, as under `validate` in params.yaml."""

    min_side: int = 32  # px
    min_contrast: float = 5.0  # standard deviation of grey values 0 to 255
    max_pixels: int = MAX_PIXELS
    bits: int = MAX_BITS
    mse: float = MAX_MSE
    modes: list[str] = field(default_factory=lambda: ["L", "RGB"])
    unknown_words: list[str] = field(default_factory=lambda: list(UNKNOWN_WORDS))  # ids that name nobody

    @classmethod
    def of(cls, params: ValidateParams) -> Limits:
        """Return the bounds of a project."""
        same = params.duplicates
        words = params.unknown.words
        return cls(params.min_side, params.min_contrast, params.max_pixels, same.bits, same.mse, params.modes, words)


def flags_of(record: PhotoRecord, limits: Limits) -> list[Flag]:
    """Return what is wrong or odd about a photo that could be read."""
    odd = (rule for rule in RULES if rule.flag and not _holds(rule, record, limits))
    return [Flag(rule.name, rule.flag.format(photo=record, p=limits)) for rule in odd]


def _holds(rule: Rule, record: PhotoRecord, limits: Limits) -> bool:
    value = getattr(record, rule.check.on[0].split(".")[1])
    return _HOLDS[rule.check.expectation](value, **rule.check.arguments(limits))
