"""ensemble: every scorer's candidates for the queries, those of CHOOSABLE for test photos.

Queries search the photos that were trained on: all figures come from them. Test photos search every labelled photo,
also those that are set aside as queries, and by codes where a gallery of so many photos is searched so; the heads know
the labels that were trained on.
"""

import numpy as np
import pandas as pd

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame
from flukeprint.core.params import load_params
from flukeprint.core.paths import EMBEDDINGS, FULL_HEADS, PREDICTIONS, PRETRAINED, SELECTED, VALIDATED
from flukeprint.core.receipts import require_members
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.selected_tables import class_labels, is_trained, read_selected, true_labels
from flukeprint.learning.network_files import load_head
from flukeprint.scoring.candidates import candidate_rows, write_candidates
from flukeprint.scoring.labelled_photos import LabelledPhotos
from flukeprint.scoring.registry import CHOOSABLE, DUPLICATES, scorer_names
from flukeprint.scoring.scorers import Member, classify, near_duplicates, score_queries

KEYS = ("ensemble", "embed", "recipes.*.embed", "gallery.exact_up_to")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    views = params.embed.views
    require_members(params.ensemble.members, EMBEDDINGS)
    members = load_members(params.ensemble.members, "train")
    table = read_selected(SELECTED / "full.parquet")
    pretrained = read_embeddings(PRETRAINED, "train")
    write_candidates(PREDICTIONS / "query.parquet", query_rows(table, pretrained, members, views))
    write_candidates(PREDICTIONS / "test.parquet", submission_rows(table, members, views, params.gallery.exact_up_to))


def query_rows(table: pd.DataFrame, pretrained: np.ndarray, members: list[Member], views: int) -> pd.DataFrame:
    """Return the candidates of every scorer, in the leaderboard's order, for the photos that were set aside."""
    queries = table[~is_trained(table)]
    photos = queries[["Image", "Id", "split"]].assign(truth=true_labels(queries, class_labels(table)))
    scored = score_queries(queries, table[is_trained(table)], pretrained, members, views)
    names = [member.name for member in members]
    return pd.concat([candidate_rows(photos, scorer, scored[scorer]) for scorer in scorer_names(names)])


def submission_rows(table: pd.DataFrame, members: list[Member], views: int, exact_up_to: int) -> pd.DataFrame:
    """Return what may be submitted for the test photos: near-duplicates, and the candidates of CHOOSABLE.

    `table` are all labelled photos. Column `individuals` tells how many of them have a name: calibrations need it.
    """
    test = read_frame(VALIDATED / "test.parquet", columns=["Image", "cluster"])
    photos = LabelledPhotos.of(table, [member.embeddings for member in members], views, exact_up_to, len(test))
    of_test = load_members([member.name for member in members], "test")
    scored = classify(of_test, test.index.to_numpy(), views, apart=False, photos=photos)
    scored[DUPLICATES] = near_duplicates(table, test["cluster"].tolist())
    asked = test[["Image"]].assign(individuals=len(photos.names))
    return pd.concat([candidate_rows(asked, name, scored[name]) for name in (DUPLICATES, *CHOOSABLE)])


def load_members(names: list[str], part: str) -> list[Member]:
    """Read every member's full head and its embeddings of the train or test photos."""
    heads = {name: load_head(FULL_HEADS / f"{name}.safetensors") for name in names}
    return [Member(name, *heads[name], read_embeddings(name, part)) for name in names]


if __name__ == "__main__":
    exit_cleanly(main)
