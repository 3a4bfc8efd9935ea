"""What in a catalogue is probably wrong: one whale under two ids, two whales under one, a photo under a wrong one.

Probabilities are by the calibration of pairs (scoring/pairs.py), with declared priors: how often such a mistake is to
be expected before looking. Pictures that are nearly the same under two ids count by how often near-duplicates agreed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flukeprint.bundle.model import Model
from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.evidence import PairEvidence, with_prior
from flukeprint.catalogue.season import Photos, clusters
from flukeprint.catalogue.second_names import SecondName, open_second_names
from flukeprint.identify.pair import thresholds_of
from flukeprint.retrieval.vectors import chunks

Floats = NDArray[np.float64]

# Declared: the share of individuals that have a second id, that are two whales, and of photos that are mislabelled.
_TWICE, _MIXED, _MISLABELLED = 0.02, 0.02, 0.01


@dataclass(frozen=True)
class OneWhale:
    """Two individuals that are probably one."""

    first: str
    second: str
    probability: float | None  # None: the model was never calibrated
    similarity: float  # mean cosine of their photos, -1 to 1
    same_pictures: tuple[int, int] | None  # photos of either that are nearly the same picture


@dataclass(frozen=True)
class TwoWhales:
    """An individual that is probably two."""

    id: str
    probability: float
    similarity: float  # mean cosine of the two parts' photos
    photos: list[int]  # the smaller part


@dataclass(frozen=True)
class Mislabelled:
    """A photo that probably does not show its individual."""

    photo: int
    id: str
    probability: float
    other: str | None  # whom it may show; None: nobody of the catalogue is more likely


@dataclass(frozen=True)
class Audit:
    """What was found, the most probable first."""

    second_names: list[SecondName]  # facts, not guesses: one file that sources have under two ids
    one_whale: list[OneWhale]
    two_whales: list[TwoWhales]
    mislabelled: list[Mislabelled]
    without: str | None  # why only pictures that are nearly the same were looked at


@dataclass(frozen=True)
class _Labelled:
    """The photos of individuals, those of an individual together."""

    photos: NDArray[np.int64]  # N: their numbers
    vectors: Floats  # N x D
    names: list[str]  # of the L individuals
    individual: NDArray[np.int64]  # N: places among the names
    starts: NDArray[np.int64]  # L: first row of each
    means: Floats  # L x D

    @classmethod
    def of(cls, photos: Photos) -> _Labelled:
        known = [(one.individual, one.photo) for one in photos.holdings.sightings if one.individual is not None]
        rows = sorted((name, photo) for name, photo in known if photo in photos.row)
        names, individual = np.unique([name for name, _ in rows] or np.empty(0, str), return_inverse=True)
        vectors = photos.of(photo for _, photo in rows).astype(np.float64)
        starts = np.searchsorted(individual, np.arange(len(names)))
        counts = np.diff(starts, append=len(rows))
        means = np.add.reduceat(vectors, starts, axis=0) / counts[:, None] if rows else vectors
        return cls(np.array([photo for _, photo in rows], np.int64), vectors, names.tolist(), individual, starts, means)

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.diff(self.starts, append=len(self.photos))

    def rows(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Yield each individual with the rows of its photos."""
        for name, start, count in zip(self.names, self.starts, self.counts, strict=True):
            yield name, np.arange(start, start + count)


def audit(catalogue: Catalogue, model: Model, model_id: int, top: int) -> Audit:
    """Look for mistakes; return at most `top` of each kind."""
    photos = Photos.read(catalogue, model, model_id)
    labelled = _Labelled.of(photos)
    with catalogue.database.reading() as connection:
        second_names = [one for one in open_second_names(connection) if one.id is not None][:top]
    copies = _copies(photos, labelled)
    agreement = None if model.calibration is None else model.calibration.duplicates.probability
    verification, without = thresholds_of(model.calibration, model.provenance)
    if verification is None:
        return Audit(second_names, _one_whale(labelled, None, copies, agreement, top), [], [], without)
    evidence = PairEvidence.of(verification)
    return Audit(
        second_names,
        _one_whale(labelled, evidence, copies, agreement, top),
        _two_whales(labelled, evidence)[:top],
        _mislabelled(labelled, evidence)[:top],
        None,
    )


def _copies(photos: Photos, labelled: _Labelled) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the pairs of individuals (places) that have nearly the same picture, and two such photos."""
    place = dict(zip(labelled.photos.tolist(), labelled.individual.tolist(), strict=True))
    copies: dict[tuple[int, int], tuple[int, int]] = {}
    for one, other in photos.same_pictures(place):
        (i, first), (j, second) = sorted([(place[one], one), (place[other], other)])
        if i != j:
            copies.setdefault((i, j), (first, second))
    return copies


def _one_whale(
    labelled: _Labelled,
    evidence: PairEvidence | None,
    copies: Mapping[tuple[int, int], tuple[int, int]],
    agreement: float | None,
    top: int,
) -> list[OneWhale]:
    """Return the pairs of individuals that are most probably one."""
    found = {pair: (agreement, float(labelled.means[pair[0]] @ labelled.means[pair[1]])) for pair in copies}
    number = len(labelled.names)
    if evidence is not None and number > 1:
        for some in chunks(np.arange(number)):
            for pair, chance, similarity in _likely_pairs(labelled, evidence, some, _TWICE / (number - 1), top):
                as_copies = found.get(pair, (None, 0.0))[0]
                found[pair] = max(chance, as_copies or 0.0), similarity
    ranked = sorted(found.items(), key=lambda item: (-(item[1][0] or 0.0), -item[1][1], item[0]))[:top]
    return [
        OneWhale(labelled.names[i], labelled.names[j], chance, similarity, copies.get((i, j)))
        for (i, j), (chance, similarity) in ranked
    ]


def _likely_pairs(
    labelled: _Labelled, evidence: PairEvidence, some: NDArray[np.int64], prior: float, top: int
) -> Iterator[tuple[tuple[int, int], float, float]]:
    """Yield the `top` most probable pairs of some individuals with later ones."""
    similarity = labelled.means[some] @ labelled.means.T
    odds = evidence.log_odds(similarity, np.minimum(labelled.counts[some][:, None], labelled.counts))
    odds[some[:, None] >= np.arange(len(labelled.names))] = -np.inf
    best = np.argsort(-odds, axis=None, kind="stable")[:top]
    for row, column in zip(*np.unravel_index(best, odds.shape), strict=True):
        if odds[row, column] > -np.inf:
            chance = float(with_prior(odds[row, column], prior))
            yield (int(some[row]), int(column)), chance, float(similarity[row, column])


def _two_whales(labelled: _Labelled, evidence: PairEvidence) -> list[TwoWhales]:
    """Cut every individual's photos in two where they are least alike; return those that are most probably two."""
    found = []
    for name, rows in labelled.rows():
        if len(rows) < 2:
            continue
        similarity = labelled.vectors[rows] @ labelled.vectors[rows].T
        part = clusters(evidence.log_odds(similarity), number=2) == 1
        if part.all():  # photos that are all equally alike have no halves
            continue
        smaller = part if part.sum() * 2 <= len(rows) else ~part
        between = float(similarity[np.ix_(part, ~part)].mean())
        odds = evidence.log_odds(np.array(between), float(min(part.sum(), (~part).sum())))
        photos = labelled.photos[rows[smaller]].tolist()
        found.append(TwoWhales(name, 1 - float(with_prior(odds, 1 - _MIXED)), between, photos))
    return sorted(found, key=lambda one: (-one.probability, one.id))


def _mislabelled(labelled: _Labelled, evidence: PairEvidence) -> list[Mislabelled]:
    """Compare every photo with the other photos of its individual, and with all other individuals."""
    counts, number = labelled.counts, len(labelled.names)
    found = []
    for rows in chunks(np.flatnonzero(counts[labelled.individual] > 1)):
        own = labelled.individual[rows]
        similarity = labelled.vectors[rows] @ labelled.means.T
        # Its own individual's mean, without the photo itself (whose cosine with itself is 1).
        places = np.arange(len(rows)), own
        similarity[places] = (similarity[places] * counts[own] - 1) / (counts[own] - 1)
        odds = evidence.log_odds(similarity) + np.log(_MISLABELLED / 2 / max(number - 1, 1))
        odds[places] += np.log(1 - _MISLABELLED) - np.log(_MISLABELLED / 2 / max(number - 1, 1))
        # Somebody who is not in the catalogue: neither like nor unlike.
        odds = np.column_stack([odds, np.full(len(rows), np.log(_MISLABELLED / 2))])
        chances = np.exp(odds - odds.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        found += _suspects(labelled, rows, chances)
    return sorted(found, key=lambda one: (-one.probability, one.photo))


def _suspects(labelled: _Labelled, rows: NDArray[np.int64], chances: Floats) -> list[Mislabelled]:
    own = labelled.individual[rows]
    wrong = 1 - chances[np.arange(len(rows)), own]
    others = chances.copy()
    others[np.arange(len(rows)), own] = -1
    best = others.argmax(axis=1)
    names: Sequence[str | None] = [*labelled.names, None]
    return [
        Mislabelled(int(photo), labelled.names[place], float(chance), names[other])
        for photo, place, chance, other in zip(labelled.photos[rows], own, wrong, best, strict=True)
    ]
