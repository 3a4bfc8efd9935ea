"""What it is worth that answers search every labelled photo, estimated on the queries of the project in this folder.

python -m bench.whole_gallery [--draws 10] [--resamples 2000]

Answers to new photos search every labelled photo, queries those that were trained on. The gain cannot be seen on
queries directly: of each individual one cluster at most is set aside, so what is set aside beside a query shows other
whales. Two differences in MAP@5 can be measured, paired, on the same queries, by the scorer `gallery` as
models/decision.json has it, with nothing fitted to any query:

- `put back`: the step is repeated one level further in. By the rule of stage select photos are set aside from the
  trained ones, drawn anew several times, and queries search what is left. What they lose is gained by putting such
  photos back: an estimate of the gain for new photos. It is of the gallery alone; networks were trained on all of it.
- `crowd`: queries search the photos of the calibration queries as well. They show other individuals (and were never
  trained on), so this is only the cost of a fuller gallery, which `put back` includes.

The networks and the decision are left as they are. Reads data/selected, data/embeddings, models/decision.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import DECISION, SELECTED
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.labels import NEW_WHALE, individuals_of
from flukeprint.data.selected_tables import QUERY, is_trained, read_selected, true_labels
from flukeprint.data.splits import set_aside
from flukeprint.data.submission import MAX_LABELS
from flukeprint.metrics.arrays import new_share_weights, weighted_mean
from flukeprint.metrics.intervals import Resampling
from flukeprint.metrics.rankings import reciprocal_ranks
from flukeprint.retrieval.vectors import vectors_of
from flukeprint.scoring.calibrated_answers import calibrated
from flukeprint.scoring.calibration import Calibration, read_calibration
from flukeprint.scoring.candidates import gallery_candidates
from flukeprint.scoring.fusion import fuse
from flukeprint.scoring.labelled_photos import LabelledPhotos
from flukeprint.scoring.registry import GALLERY

Points = NDArray[np.float64]


def main() -> None:
    """Read the command line; print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10, help="how often photos are set aside again")
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    params = load_params(("ensemble.members", "embed", "recipes.*.embed", "evaluate.new_share", "select", "seed"))
    parts = [read_embeddings(member, "train") for member in params.ensemble.members]
    table, small = (read_selected(SELECTED / f"{name}.parquet") for name in ("full", "small"))
    queries = table[table["split"] == QUERY]
    asked = Asked(queries, table[is_trained(table)], parts, params.embed.views, read_calibration(DECISION))
    as_is = asked.points(asked.gallery)
    fuller = asked.points(table[table["split"] != QUERY])
    less = [asked.points(one) for one in set_aside_again(asked.gallery, small, params, arguments.draws)]
    is_new = np.array(asked.truth) == NEW_WHALE
    weights = new_share_weights(is_new, params.evaluate.new_share)
    groups = individuals_of(queries["Id"], queries["Image"])
    draws = Resampling(groups, weights, is_new, arguments.resamples)
    print(f"{len(queries)} queries, {int(is_new.sum())} of them of new whales")
    for name, one, other in (("put back", as_is, np.mean(less, axis=0)), ("crowd", fuller, as_is)):
        gain = draws.compare(one, other)
        print(
            f"{name:9} MAP@5 {weighted_mean(other, weights):.4f} -> {weighted_mean(one, weights):.4f}  "
            f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], p = {gain.p_value:.4f}; "
            f"known alone {np.mean((one - other)[~is_new]):+.4f}, new alone {np.mean((one - other)[is_new]):+.4f}"
        )


class Asked:
    """Queries, and how they are answered in one gallery or another."""

    def __init__(
        self,
        queries: pd.DataFrame,
        gallery: pd.DataFrame,
        parts: Sequence[NDArray[np.float32]],
        views: int,
        calibration: Calibration,
    ) -> None:
        """Take the queries, the photos that were trained on, and the members' embeddings of all labelled photos."""
        self.gallery, self.parts, self.views = gallery, parts, views
        self.truth = true_labels(queries, set(gallery["Id"]))
        self.vectors = vectors_of(parts, queries["pixel"].to_numpy(), views)
        self.fitted, self.fusion = calibration.of(GALLERY), calibration.fusions[GALLERY]

    def points(self, gallery: pd.DataFrame) -> Points:
        """Return what each query scores in MAP@5 if it searches these photos; the right answers stay as they are."""
        photos = LabelledPhotos.of(gallery, self.parts, self.views)
        found = fuse(gallery_candidates(photos.individuals.search(self.vectors), photos.names), GALLERY, self.fusion)
        answers = calibrated(found, self.fitted, MAX_LABELS, len(photos.names))
        return reciprocal_ranks(self.truth, answers.labels)


def set_aside_again(gallery: pd.DataFrame, small: pd.DataFrame, params: Params, draws: int) -> list[pd.DataFrame]:
    """Return what is left of the photos if the rule of stage select is applied to them, by so many seeds."""
    rule = params.select.model_copy(update={"protocol": "grouped"})
    rows = gallery.reset_index(drop=True)
    seeds = [params.seed + draw + 1 for draw in range(draws)]
    return [rows[~rows["Image"].isin(set_aside(rows, small, rows[:0], rule, seed))] for seed in seeds]


if __name__ == "__main__":
    main()
