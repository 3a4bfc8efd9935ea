"""How far an embedding spreads its vectors: one that has collapsed tells nobody apart, whatever the labels say."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flukeprint.metrics.arrays import Floats, Ints, floats, require_length

logger = logging.getLogger(__name__)

# An embedding has collapsed where the cosine of two individuals' photos is above the one on average, or where the
# vectors have fewer directions than the other. On the sample, trained or only pretrained, the mean cosine is 0.0 to
# 0.35 and the effective rank above 5; small networks with random weights come up to 0.97.
COLLAPSED_COSINE, COLLAPSED_RANK = 0.99, 1.1
# Fewer individuals than that say nothing about an embedding: their vectors have few directions in any case.
LEAST_INDIVIDUALS = 5
# Vectors whose effective rank is computed: more change little but time.
_MOST = 1024


@dataclass(frozen=True)
class Spread:
    """The spread of the vectors of photos of several individuals."""

    individuals: int
    mean_cosine: float  # over pairs of photos of different individuals, -1 to 1
    effective_rank: float  # directions that the vectors use, 1 to their number

    @property
    def collapsed(self) -> bool:
        """Whether photos can hardly be told apart by these vectors."""
        return self.individuals >= LEAST_INDIVIDUALS and (
            self.mean_cosine > COLLAPSED_COSINE or self.effective_rank < COLLAPSED_RANK
        )

    def __str__(self) -> str:
        """Say in words how far apart the vectors are."""
        return (
            f"the photos of two individuals have a mean cosine of {self.mean_cosine:.3f}, and the vectors an effective "
            f"rank of {self.effective_rank:.1f}"
        )


# What a collapsed embedding is told with, and what to try.
COLLAPSED = (
    "photos can hardly be told apart: {}. Answers would be chance. Train for more epochs, with a lower learning rate, "
    "or from pretrained weights (backbone.weights)"
)


def warn_of_collapse(member: str, spread: Spread | None) -> None:
    """Log a warning where a member's embedding has collapsed."""
    if spread is not None and spread.collapsed:
        logger.warning("%s: %s.", member, COLLAPSED.format(spread))


def spread_of(vectors: ArrayLike, individuals: ArrayLike) -> Spread | None:
    """Measure the spread of vectors; None where there are not two individuals to compare.

    The effective rank is exp of the entropy of the shares of the squared singular values (Roy and Vetterli 2007), of
    the vectors (N x D, of length 1) as they are: a common direction counts, since cosines see it too.
    """
    table, names = floats(vectors), np.asarray(individuals)
    require_length(len(table), individuals=names)
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return None
    sums = np.zeros((len(counts), table.shape[1]))
    np.add.at(sums, place, table)
    total = sums.sum(axis=0)
    # The cosines of all pairs add up to |sum of all vectors| squared, those of one individual's to that of its own.
    pairs = len(table) ** 2 - int((counts**2).sum())
    mean = (total @ total - np.einsum("nd,nd->", sums, sums)) / pairs
    return Spread(len(counts), round(float(mean), 6), round(_effective_rank(table[evenly(len(table), _MOST)]), 4))


def evenly(length: int, most: int) -> Ints:
    """Return at most so many of the indices below `length`, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).round().astype(np.int64))


def _effective_rank(table: Floats) -> float:
    smaller: Floats = table @ table.T if len(table) < table.shape[1] else table.T @ table
    values = np.clip(np.linalg.eigvalsh(smaller), 0.0, None)
    shares = values / max(values.sum(), np.finfo(float).tiny)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
