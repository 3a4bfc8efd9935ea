"""Curves of every main result as small JSON files, which `dvc plots` and the report draw."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.files import write_figures
from flukeprint.core.replacement import replacing_folder
from flukeprint.data.labels import NEW_WHALE
from flukeprint.evaluation.figures import reliability, rounded
from flukeprint.evaluation.leaderboard import Leaderboard, ScorerResult
from flukeprint.metrics.detection import precision_recall_curve
from flukeprint.metrics.rankings import cmc, map_over_share

Points = list[dict[str, float]]

# Ranks of the cumulative match characteristic: as many candidates as a scorer keeps.
DEPTH = 20
SHARES = np.linspace(0.1, 0.6, 11)
# More points than that are not seen in a curve.
_MOST = 200


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
    bins = reliability(result)
    found = {"reliability": _points(confidence=bins.confidence, accuracy=bins.accuracy, queries=bins.count)}
    if result.candidates is not None and not is_new.all():
        shares = cmc(result.candidate_ranks[~is_new], DEPTH)
        found["cmc"] = _points(rank=np.arange(DEPTH) + 1, identified=shares)
        found["precision_recall"] = _precision_recall(result)
    if result.queries.both_kinds:
        found["new_share"] = _points(share=SHARES, map5=map_over_share(result.points, is_new, SHARES))
    # No answer may name an individual; `dvc plots` cannot draw a file without points.
    return {name: points for name, points in found.items() if points}


def write_curves(folder: Path, curves: dict[str, dict[str, Points]], sizes: dict[str, Points]) -> None:
    """Write `folder`/<curve>/<result>.json for the curves of each result; the folder is replaced as a whole.

    Beside them, `folder`/gallery_sizes/<individuals>.json: the reliability in galleries of several sizes.
    """
    with replacing_folder(folder) as temporary:
        # Without a calibration there are none, but DVC wants its folder.
        (temporary / "gallery_sizes").mkdir()
        for name, points in sizes.items():
            write_figures(temporary / "gallery_sizes" / f"{name}.json", {"points": points})
        for result, found in curves.items():
            for name, points in found.items():
                write_figures(temporary / name / f"{result}.json", {"points": points})


def all_curves(leaderboard: Leaderboard) -> dict[str, dict[str, Points]]:
    """Return the curves of every main result, by result and name."""
    return {result.name: curves_of(result) for result in leaderboard.main}


def _points(**columns: NDArray[Any]) -> Points:
    """Return rows of some columns, evenly spread if there are too many, the first and the last among them."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).round().astype(int)) if rows else ()
    return [rounded(rows[place]) for place in places]


def _precision_recall(result: ScorerResult) -> Points:
    right, probability = _best_individuals(result)
    curve = precision_recall_curve(right, probability, positives=int((~result.queries.is_new).sum()))
    precision, envelope, thresholds = curve.precision, curve.envelope, curve.thresholds
    return _points(recall=curve.recall, precision=precision, envelope=envelope, probability=thresholds)


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
