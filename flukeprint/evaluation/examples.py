"""Queries to look at: by lot, the best, the worst, and those that were most confidently wrong."""

from dataclasses import dataclass

import numpy as np

from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation.leaderboard import ScorerResult


@dataclass(frozen=True)
class ExampleList:
    """Queries of one kind."""

    key: str
    title: str
    says: str  # what they have in common and how they were chosen
    rows: list[int]  # places among the N queries


def choose_examples(result: ScorerResult, most: int, seed: int = 0) -> list[ExampleList]:
    """Choose at most `most` queries for each list; equal ones stand in the order of the queries.

    No query stands in two lists, but for those drawn by lot.
    """
    is_new, ranks, confidence = result.queries.is_new, result.ranks, result.confidence
    says_new = np.array([labels[:1] == [NEW_WHALE] for labels in result.answers.labels], dtype=bool)
    # An individual that is not even a candidate is as far from right as can be.
    depth = np.where(result.candidate_ranks == 0, np.iinfo(np.int64).max, result.candidate_ranks)
    wanted = {
        "right": (~is_new & (ranks == 1), -confidence),
        "wrong": (~is_new & (ranks != 1), -confidence),
        "found": (~is_new & (ranks > 1), ranks),
        "worst": (~is_new & (ranks == 0), -depth),
        "new_right": (is_new & says_new, -confidence),
        "new_wrong": (is_new & ~says_new, -confidence),
    }
    shown = np.zeros(len(ranks), dtype=bool)
    lists = [ExampleList("lot", *_TEXTS["lot"], np.random.default_rng(seed).permutation(len(ranks))[:most].tolist())]
    for key, (chosen, order) in wanted.items():
        rows = np.flatnonzero(chosen & ~shown)
        rows = rows[np.argsort(order[rows], kind="stable")][:most]
        shown[rows] = True
        lists.append(ExampleList(key, *_TEXTS[key], rows.tolist()))
    return lists


_TEXTS = {
    "lot": ("Drawn by lot", "What an ordinary query looks like: chosen by chance, known and new whales alike."),
    "right": (
        "Known whales: right and most sure",
        "The first answer is the right individual; highest probability first.",
    ),
    "found": (
        "Known whales: found, but not first",
        "The right individual is among the five, and a person who compares the photos can pick it.",
    ),
    "wrong": (
        "Known whales: most confidently wrong",
        "The first answer is wrong; the highest probability comes first. Mislabelled photos show up here too.",
    ),
    "worst": (
        "Known whales: worst",
        "The right individual is not among the five; those that it ranks lowest for come first.",
    ),
    "new_right": (
        "New whales: recognised as new, most sure",
        "Training never saw the individual, and the first answer is a new whale.",
    ),
    "new_wrong": (
        "New whales: most confidently wrong",
        "Training never saw the individual, but the first answer is a known one. Taken for true, such an answer would "
        "merge two whales.",
    ),
}
