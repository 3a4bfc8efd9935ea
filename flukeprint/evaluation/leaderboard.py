"""The leaderboard: every scorer's answers to the same queries, from the one that needs no photo upwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE, individuals_of
from flukeprint.data.submission import MAX_LABELS
from flukeprint.metrics.arrays import new_share_weights
from flukeprint.metrics.rankings import first_ranks, reciprocal_ranks
from flukeprint.scoring.calibrated_answers import Answers, as_ordinary_class, calibrated
from flukeprint.scoring.calibration import Calibration
from flukeprint.scoring.candidates import Scored
from flukeprint.scoring.fusion import fused_of
from flukeprint.scoring.registry import ALL_NEW, BEST, ENSEMBLE, ENSEMBLE_CLASS

# Labels of an answer: what Kaggle scores.
TOP = MAX_LABELS
# The two kinds of new whales, which differ: photos labelled new_whale may show known whales that nobody recognised.
HELD_OUT, UNNAMED = "held_out", "new_whale"


@dataclass(frozen=True)
class Queries:
    """The N photos that every scorer answers, in one order."""

    images: list[str]
    ids: list[str]  # the individual, also where no training photo shows it; new_whale where nobody knows
    truth: list[str]  # the right answer: new_whale for an individual unseen in training
    new_share: float  # the declared share of new whales

    @cached_property
    def is_new(self) -> NDArray[np.bool_]:
        """Whether the right answer is new_whale (N)."""
        return np.array([label == NEW_WHALE for label in self.truth], dtype=bool)

    @cached_property
    def new_kinds(self) -> dict[str, NDArray[np.bool_]]:
        """Which queries (N) are new whales of each kind: individuals held out whole, photos labelled new_whale."""
        unnamed = np.array([label == NEW_WHALE for label in self.ids], dtype=bool)
        kinds = {HELD_OUT: self.is_new & ~unnamed, UNNAMED: self.is_new & unnamed}
        return {kind: rows for kind, rows in kinds.items() if rows.any()}

    @cached_property
    def groups(self) -> NDArray[Any]:
        """The individual of each query (N). A photo of new_whale is one of its own: it usually shows another whale."""
        return individuals_of(self.ids, self.images)

    @property
    def both_kinds(self) -> bool:
        """Whether there are known and new queries, without which no share can be declared."""
        return bool(self.is_new.any() and not self.is_new.all())

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """The weights under which new whales are `new_share` of all (N), with mean 1; both kinds must be there."""
        return new_share_weights(self.is_new, self.new_share)


@dataclass(frozen=True)
class ScorerResult:
    """One scorer's answers to the queries, in their order."""

    name: str
    queries: Queries
    answers: Answers  # at most TOP labels each, new_whale among them
    candidates: Scored | None  # individuals with one score each; None where the scorer has none

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """The rank of the right answer, 0 if it is not among the labels (N)."""
        return first_ranks(self.queries.truth, self.answers.labels)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """What each answer scores in MAP@5 (N)."""
        return reciprocal_ranks(self.queries.truth, self.answers.labels, TOP)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each first label (N); 0 where there is none."""
        return np.array([row[0] if len(row) else 0.0 for row in self.answers.probabilities], dtype=np.float64)

    @cached_property
    def candidate_ranks(self) -> NDArray[np.int64]:
        """The rank of the true individual among the candidates, without new_whale; 0 if it is not there (N)."""
        if self.candidates is None:
            return np.zeros(len(self.queries.truth), dtype=np.int64)
        return first_ranks(self.queries.truth, self.candidates.labels())


@dataclass(frozen=True)
class Leaderboard:
    """All results, lowest first, on the same queries."""

    queries: Queries
    results: dict[str, ScorerResult]
    members: frozenset[str]  # names of the results that are single members
    best: str | None = None  # the scorer that the best result uses, if there is such a result

    @property
    def main(self) -> list[ScorerResult]:
        """The results that are not single members."""
        return [result for result in self.results.values() if result.name not in self.members]

    @property
    def calibrated(self) -> bool:
        """Whether the ensemble has a calibrated decision."""
        return ENSEMBLE_CLASS in self.results

    @property
    def top(self) -> ScorerResult:
        """The result that the report is about: the best, else the ensemble, or the highest there is."""
        return self.results.get(BEST) or self.results.get(ENSEMBLE) or list(self.results.values())[-1]

    def with_best(self, scorer: str, answers: Answers) -> Leaderboard:
        """Add the best result: the answers of the chosen scorer, after the labels of near-duplicates."""
        result = ScorerResult(BEST, self.queries, answers, self.results[scorer].candidates)
        return replace(self, results=self.results | {BEST: result}, best=scorer)


def build_leaderboard(
    rows: pd.DataFrame, calibration: Calibration, new_share: float, members: list[str]
) -> Leaderboard:
    """Let every scorer answer its queries: by its calibrated decision, where it has one.

    Rows are the queries' of data/predictions/query.parquet, scorers in the order of the leaderboard. Those with
    features that have no fusion are left out.
    """
    tables = {str(name): part.reset_index(drop=True) for name, part in rows.groupby("scorer", sort=False)}
    queries = _queries(tables, new_share)
    number = len(queries.images)
    all_new = Answers([[NEW_WHALE]] * number, [[1.0]] * number, np.ones(number))
    # Without queries there is nothing to answer, not even for all_new.
    results = [ScorerResult(ALL_NEW, queries, all_new, None)] if tables else []
    for name, table in tables.items():
        scored = fused_of(table, name, calibration)
        if scored is None:
            continue
        as_class, decided = as_ordinary_class(scored, TOP), calibration.scorers.get(name)
        answers = calibrated(scored, decided, TOP) if decided else as_class
        results.append(ScorerResult(name, queries, answers, scored))
        if name == ENSEMBLE and decided:
            results.append(ScorerResult(ENSEMBLE_CLASS, queries, as_class, scored))
    return Leaderboard(queries, {result.name: result for result in results}, frozenset(members) & set(tables))


def _queries(tables: Mapping[str, pd.DataFrame], new_share: float) -> Queries:
    if not tables:
        return Queries([], [], [], new_share)
    (name, first), *others = tables.items()
    columns = ["Image", "Id", "truth"]
    for other, table in others:
        if not table[columns].equals(first[columns]):
            raise FlukeprintError(
                f"data/predictions/query.parquet asks {name} {len(first)} queries and {other} {len(table)}, and they "
                "are not the same in the same order. Run `dvc repro --force ensemble` to ask every scorer anew."
            )
    return Queries(first["Image"].tolist(), first["Id"].tolist(), first["truth"].tolist(), new_share)
