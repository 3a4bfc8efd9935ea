"""Leaks that are planted are refused: a photo that is trained on and asked about, or a near-duplicate of it."""

import pandas as pd
import pytest

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.leaks import refuse_learned, refuse_own_photos, refuse_trained_copies, with_trained_copies
from flukeprint.data.selected_tables import read_selected


@pytest.fixture
def full() -> pd.DataFrame:
    """Two known individuals with a photo set aside each, one that is held out whole, and a photo of new_whale."""
    return pd.DataFrame(
        {
            "Image": [f"{n}.jpg" for n in range(7)],
            "Id": ["a", "a", "b", "b", "c", "c", "new_whale"],
            "split": ["train", "query", "valid", "calibration", "query", "query", "query"],
            "cluster": range(7),
            "together": range(7),
            "pixel": range(7),
        }
    )


def test_what_was_not_trained_on_is_no_leak(full):
    trained = full["split"].isin(["train", "valid"])
    assert not with_trained_copies(full[trained], full).any()
    assert refuse_own_photos(full[~trained], full[trained]) is None
    assert refuse_trained_copies(full[trained], full) is None
    assert refuse_learned(full, {"a", "b", "new_whale"}) is None


@pytest.mark.parametrize("column", ["Image", "pixel"])
def test_a_query_in_the_gallery_that_it_searches(full, column):
    gallery = full[full["split"].isin(["train", "valid"])].copy()
    gallery.loc[gallery.index[0], column] = full[column][4]
    with pytest.raises(FlukeprintError, match=r"4\.jpg is a query and among the photos that queries search, 1 such"):
        refuse_own_photos(full[full["split"] == "query"], gallery)


@pytest.mark.parametrize("where", ["small", "full"])
def test_a_trained_copy_of_a_photo_that_is_set_aside(full, where):
    """A near-duplicate may be trained on by way of either set."""
    copy = full[full["split"] == "query"].tail(1).assign(Image="copy.jpg", pixel=9, split="train")
    small = copy if where == "small" else full[:0]
    table = full if where == "small" else pd.concat([full, copy], ignore_index=True)
    assert with_trained_copies(small, table).sum() == 1
    with pytest.raises(FlukeprintError, match=r"6\.jpg is set aside, but .*number 6\) are trained on; 1 photos"):
        refuse_trained_copies(small, table)


def test_networks_that_know_an_individual_that_is_held_out(full):
    with pytest.raises(FlukeprintError, match="trained on 1 of the 1 individuals that are held out whole .* such as c"):
        refuse_learned(full, {"a", "b", "c"})


@pytest.mark.parametrize("column", ["Image", "pixel"])
def test_a_photo_that_is_in_the_table_twice(full, tmp_path, column):
    full.loc[2, column] = full[column][1]
    full.to_parquet(tmp_path / "full.parquet")
    with pytest.raises(FlukeprintError, match=rf"full\.parquet has .* twice \({column} .*split query, valid\)"):
        read_selected(tmp_path / "full.parquet")
