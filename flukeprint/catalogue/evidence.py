"""Evidence of several photos taken together: of an encounter for individuals, and of pairs of photos for one whale.

Photos of one encounter are not independent: the same fluke in the same light misleads the network twice. So k photos
weigh as k ** INDEPENDENCE independent ones: 1 would be all, 0 a single one, their mean.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from flukeprint.identify.matching import Match
from flukeprint.scoring.calibration import Verification

Floats = NDArray[np.float64]

INDEPENDENCE = 0.5
# Probabilities are kept this far from 0 and 1: no photo decides alone whatever the others show.
_LEAST = 1e-9


class Likely(NamedTuple):
    """An individual that an encounter may show."""

    id: str
    probability: float | None
    similarity: float  # cosine of the two most similar photos, -1 to 1
    beyond: str | None = None  # why its probability is beyond what was calibrated


@dataclass(frozen=True)
class Answer:
    """What the photos of an encounter say together."""

    candidates: list[Likely]  # most likely first
    new_probability: float | None  # None: there is no calibration, candidates stand by similarity
    beyond: str | None = None  # why all of its probabilities are beyond what was calibrated


def together(matches: Sequence[Match], share: float, individuals: int, rejected: Collection[str] = ()) -> Answer:
    """Answer an encounter as one, from the answers of its photos.

    Each photo's posterior over individuals and a new whale is turned into likelihood ratios by the prior that its
    calibration assumed: `share` for a new whale, the rest alike for the individuals. Their logarithms are averaged,
    weighted for the number of photos (see above), and put on the prior again. One photo gives its own answer.

    Args:
        matches: of each photo, with all candidates that there are.
        share: of new whales, that the calibration assumed.
        individuals: how many there are in the gallery.
        rejected: individuals that people said it does not show.
    """
    similarity = _nearest(matches)
    names = [name for name in similarity if name not in rejected]
    if any(match.new_probability is None for match in matches):
        copies = {one.id for match in matches for one in match.candidates if one.copy}
        names.sort(key=lambda one: (one not in copies, -similarity[one]))
        return Answer([Likely(name, None, similarity[name]) for name in names], None)
    # The individuals that are named, one that no photo names (there are so many), and a new whale.
    number = np.array([1.0] * len(names) + [max(individuals - len(similarity), 0), 1.0])
    prior = np.array([(1 - share) / max(individuals, 1)] * (len(names) + 1) + [share])
    ratios = np.mean([_posterior(match, names, individuals) - np.log(prior) for match in matches], axis=0)
    keys = np.log(prior) + ratios * len(matches) ** INDEPENDENCE
    chances = number * np.exp(keys - keys.max())
    chances /= chances.sum()
    beyond = {one.id: one.beyond for match in matches for one in match.candidates}
    found = zip(names, chances, strict=False)
    ranked = [Likely(name, float(chance), similarity[name], beyond[name]) for name, chance in found]
    ranked.sort(key=lambda one: (-(one.probability or 0), one.id))
    return Answer(ranked, float(chances[-1]), matches[0].beyond)


def _nearest(matches: Sequence[Match]) -> dict[str, float]:
    """Return the individuals that any photo names, and the similarity to the most similar photo."""
    found: dict[str, float] = {}
    for match in matches:
        for one in match.candidates:
            found[one.id] = max(one.similarity, found.get(one.id, -1.0))
    return found


def _posterior(match: Match, names: Sequence[str], individuals: int) -> Floats:
    """Return log-probabilities of the individuals, of one that the photo does not name, and of a new whale."""
    named = {one.id: one.probability or 0.0 for one in match.candidates}
    new = match.new_probability or 0.0
    unnamed = max(1 - sum(named.values()) - new, 0.0) / max(individuals - len(named), 1)
    values = [*(named.get(name, unnamed) for name in names), unnamed, new]
    return np.asarray(np.log(np.clip(values, _LEAST, 1)))


@dataclass(frozen=True)
class PairEvidence:
    """Whether photos show one whale, by the calibration of pairs."""

    slope: float
    intercept: float

    @classmethod
    def of(cls, verification: Verification) -> PairEvidence:
        """Take what was fitted to calibration queries."""
        return cls(verification.slope, verification.intercept)

    def log_odds(self, similarities: Floats, photos: Floats | float = 1.0) -> Floats:
        """Return the log-likelihood ratio of one whale to two, from mean similarities of pairs of photos.

        `photos` is how many photos the smaller side of each comparison has.
        """
        return np.asarray((self.slope * similarities + self.intercept) * np.asarray(photos) ** INDEPENDENCE)


def with_prior(log_odds: Floats, prior: float) -> Floats:
    """Return the probability of one whale, if it was `prior` before looking."""
    return np.asarray(expit(log_odds + logit(prior)))
