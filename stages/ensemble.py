"""ensemble: the candidates of every scorer for the queries, and the ensemble's for the test photos."""

import pandas as pd

from flukeprint.core.errors import exit_cleanly
from flukeprint.core.files import read_npy
from flukeprint.core.labels import ENSEMBLE, PRETRAINED, ladder
from flukeprint.core.layout import EMBEDDINGS, FULL_HEADS, PREDICTIONS, SELECTED, VALIDATED
from flukeprint.core.params import load_params
from flukeprint.learning.heads import load_head
from flukeprint.scoring.candidates import candidate_rows, write_candidates
from flukeprint.scoring.scorers import Member, classify, score_queries
from flukeprint.selection import CALIBRATION, QUERY, TRAIN, VALID, class_labels, read_selected, true_labels

KEYS = ("ensemble", "embed", "recipes.*.embed")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    views = 2 if params.embed.flip_test else 1
    members = params.ensemble.members
    write_candidates(PREDICTIONS / "query.parquet", query_rows(members, views))
    write_candidates(PREDICTIONS / "test.parquet", test_rows(members, views))


def query_rows(names: list[str], views: int) -> pd.DataFrame:
    """Return the candidates of every scorer, in the ladder's order, for the photos that were set aside."""
    table = read_selected(SELECTED / "full.parquet")
    asked = table[table["split"].isin([QUERY, CALIBRATION])]
    gallery = table[table["split"].isin([TRAIN, VALID])]
    photos = asked[["Image", "Id", "split"]].assign(truth=true_labels(asked, class_labels(table)))
    pretrained = read_npy(EMBEDDINGS / PRETRAINED / "train.npy")
    scored = score_queries(asked, gallery, pretrained, load_members(names, "train"), views)
    return pd.concat([candidate_rows(photos, scorer, scored[scorer]) for scorer in ladder(names)])


def test_rows(names: list[str], views: int) -> pd.DataFrame:
    """Return the ensemble's candidates for the test photos."""
    test = pd.read_parquet(VALIDATED / "test.parquet", columns=["Image"])
    scored = classify(load_members(names, "test"), test.index.to_numpy(), views, apart=False)
    return candidate_rows(test, ENSEMBLE, scored[ENSEMBLE])


def load_members(names: list[str], part: str) -> list[Member]:
    """Read every member's full head and its embeddings of the train or test photos."""
    heads = {name: load_head(FULL_HEADS / f"{name}.safetensors") for name in names}
    return [Member(name, *heads[name], read_npy(EMBEDDINGS / name / f"{part}.npy")) for name in names]


if __name__ == "__main__":
    exit_cleanly(main)
