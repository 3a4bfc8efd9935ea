"""Curves of every main result as small JSON files, which `dvc plots` and the report draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flukeprint.core.files import replacing_folder, write_json
from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation.figures import reliability
from flukeprint.metrics.detection import precision_recall_curve
from flukeprint.metrics.rankings import cmc, map_over_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flukeprint.evaluation.leaderboard import Leaderboard, ScorerResult

Points = list[dict[str, float]]

# Ranks of the cumulative match characteristic: as many candidates as a scorer keeps.
DEPTH = 20
SHARES = np.linspace(0.1, 0.6, 11)
# More points than that are not seen in a curve.
_MOST = 200
_DIGITS = 6


def curves_of(result: ScorerResult) -> dict[str, Points]:
    """Return one result's curves by name; those that its queries cannot give are left out.

    - `cmc`: share of the known queries whose individual is within the first `rank` candidates (new_whale does not
      count as one).
    - `precision_recall`: the best individual of every answer is accepted where its probability reaches a threshold.
      `precision`: share of the accepted ones that are right; `recall`: share of all known queries that are accepted
      and right. A new whale that is accepted is an error. `envelope`: the best precision at this recall or a higher
      one. Queries count alike.
    - `reliability`: `accuracy` of the first labels with a probability in the same tenth, over its mean `confidence`;
      queries weighted to the declared share of new whales; `queries` counts them.
    - `new_share`: `map5` if new whales were `share` of all queries, with the answers as they are.
    """
    is_new = result.queries.is_new
    found = {"reliability": _reliability(result)}
    if result.candidates is not None and not is_new.all():
        found["cmc"] = _cmc(result)
        found["precision_recall"] = _precision_recall(result)
    if result.queries.both_kinds:
        values = map_over_share(result.points, is_new, SHARES)
        found["new_share"] = [_point(share=share, map5=value) for share, value in zip(SHARES, values, strict=True)]
    # No answer may name an individual; `dvc plots` cannot draw a file without points.
    return {name: points for name, points in found.items() if points}


def write_curves(folder: Path, curves: dict[str, dict[str, Points]]) -> None:
    """Write `folder`/<curve>/<result>.json for the curves of each result; the folder is replaced as a whole."""
    with replacing_folder(folder) as temporary:
        for result, found in curves.items():
            for name, points in found.items():
                write_json(temporary / name / f"{result}.json", {"points": points})


def all_curves(leaderboard: Leaderboard) -> dict[str, dict[str, Points]]:
    """Return the curves of every main result, by result and name."""
    return {result.name: curves_of(result) for result in leaderboard.main}


def _point(**values: float) -> dict[str, float]:
    return {key: round(float(value), _DIGITS) for key, value in values.items()}


def _cmc(result: ScorerResult) -> Points:
    shares = cmc(result.candidate_ranks[~result.queries.is_new], DEPTH)
    return [{"rank": rank} | _point(identified=share) for rank, share in enumerate(shares, start=1)]


def _precision_recall(result: ScorerResult) -> Points:
    right, probability = _best_individuals(result)
    curve = precision_recall_curve(right, probability, positives=int((~result.queries.is_new).sum()))
    columns = zip(curve.recall, curve.precision, curve.envelope, curve.thresholds, strict=True)
    points = [_point(recall=r, precision=p, envelope=e, probability=t) for r, p, e, t in columns]
    return [points[index] for index in _thinned(len(points))]


def _best_individuals(result: ScorerResult) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return, for the queries whose answer names an individual: is the best one right, and its probability."""
    right, probability = [], []
    for truth, labels, values in zip(
        result.queries.truth, result.answers.labels, result.answers.probabilities, strict=True
    ):
        place = next((place for place, label in enumerate(labels) if label != NEW_WHALE), None)
        if place is not None:
            right.append(labels[place] == truth)
            probability.append(values[place])
    return np.array(right, dtype=bool), np.array(probability, dtype=np.float64)


def _thinned(length: int) -> list[int]:
    """Return at most _MOST indices, evenly spread, the first and the last among them."""
    if length <= _MOST:
        return list(range(length))
    return [int(index) for index in np.unique(np.linspace(0, length - 1, _MOST).round())]


def _reliability(result: ScorerResult) -> Points:
    bins = reliability(result)
    columns = zip(bins.confidence, bins.accuracy, bins.count, strict=True)
    return [_point(confidence=mean, accuracy=right) | {"queries": int(count)} for mean, right, count in columns]
