"""For whom it works: the queries in groups, by what is known of the photo and of the individual."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.evaluation.figures import accuracies, rounded
from flukeprint.evaluation.leaderboard import Leaderboard, Queries, ScorerResult
from flukeprint.metrics.arrays import new_share_weights, weighted_mean
from flukeprint.scoring.registry import scorer_of

_SIDES = (100, 200, 400, 800)  # px


@dataclass(frozen=True)
class Breakdown:
    """One way to cut the queries into groups; groups without queries are left out."""

    key: str
    title: str
    groups: dict[str, NDArray[np.bool_]]  # by name, which of the N queries


def break_down(queries: Queries, photos: pd.DataFrame, gallery: pd.DataFrame) -> list[Breakdown]:
    """Group the queries, by data/validated/train.parquet (`photos`) and the photos that are trained on (`gallery`)."""
    shown = photos.set_index("Image").loc[queries.images]
    in_gallery = gallery["Id"].value_counts().reindex(queries.ids, fill_value=0).to_numpy()
    # The label new_whale may have photos in the gallery; no individual has.
    per_id = np.where(queries.is_new, 0, in_gallery)
    grey = shown["mode"].str.match(r"[L1IF]").to_numpy(dtype=bool)
    alike = (shown["cluster"].map(photos["cluster"].value_counts()) > 1).to_numpy()
    trained = near_duplicate_trained(queries, photos, gallery)
    several, many = (per_id >= 3) & (per_id <= 5), per_id > 5
    near = {"none": ~alike, "some, not trained on": alike & ~trained, "some, trained on": trained}
    per_photo = {"1": per_id == 1, "2": per_id == 2, "3-5": several, "over 5": many}
    found = [
        Breakdown("photos_per_id", "Training photos of the individual", per_photo),
        Breakdown("colour", "Colour of the photo", {"grey": grey, "colour": ~grey}),
        Breakdown("shorter_side", "Shorter side of the photo", _by_side(shown)),
        Breakdown("near_duplicates", "Near-duplicates of the photo", near),
    ]
    return [replace(one, groups={name: rows for name, rows in one.groups.items() if rows.any()}) for one in found]


def near_duplicate_trained(queries: Queries, photos: pd.DataFrame, gallery: pd.DataFrame) -> NDArray[np.bool_]:
    """Return, for each query, whether a near-duplicate of it is in the gallery. Arguments as for `break_down`."""
    cluster = photos.set_index("Image")["cluster"]
    return cluster.loc[queries.images].isin(cluster.loc[gallery["Image"]]).to_numpy()


def _by_side(shown: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    side = shown[["width", "height"]].min(axis=1).to_numpy()
    names = [f"under {_SIDES[0]} px", *(f"{a}-{b - 1} px" for a, b in pairwise(_SIDES)), f"{_SIDES[-1]} px or more"]
    place = np.searchsorted(_SIDES, side, side="right")
    return {name: place == number for number, name in enumerate(names)}


def shown_results(leaderboard: Leaderboard) -> list[ScorerResult]:
    """Return the results whose breakdown is worth reading: without single members, and one of each ranking."""
    return [result for result in leaderboard.main if scorer_of(result.name).breakdown]


def figures_of(result: ScorerResult, rows: NDArray[np.bool_]) -> dict[str, float]:
    """Return a result's figures on some queries: map5 and accuracies; what they cannot give is left out."""
    points, is_new = result.points[rows], result.queries.is_new[rows]
    kinds = {kind: own[rows] for kind, own in result.queries.new_kinds.items() if own[rows].any()}
    found = accuracies(points, is_new, kinds)
    if is_new.any() and not is_new.all():
        found["map5"] = weighted_mean(points, new_share_weights(is_new, result.queries.new_share))
    return rounded(found)


def as_metrics(leaderboard: Leaderboard, breakdowns: Sequence[Breakdown]) -> dict[str, Any]:
    """Return metrics/breakdowns.json: by breakdown and group the numbers of queries, and each result's figures."""
    is_new, results = leaderboard.queries.is_new, shown_results(leaderboard)
    return {
        breakdown.key: {
            name: {"queries": int(rows.sum()), "new_queries": int(is_new[rows].sum())}
            | {result.name: figures_of(result, rows) for result in results}
            for name, rows in breakdown.groups.items()
        }
        for breakdown in breakdowns
    }
