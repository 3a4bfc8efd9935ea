import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import SelectParams
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import class_labels, often_seen, true_labels
from flukeprint.data.splits import (
    assign_splits,
    kept_together,
    mlebench_test,
    newest,
    selection_counts,
    shortfalls,
    small_set,
)

SHIP = "496b52ff.jpg"
# The competition's label file may not be handed on, so a drawn table with its published counts stands in for it. Where
# the file lies beside the repository, the same holds of the file.
LABEL_FILE = Path(__file__).parents[3] / "shared/playground/train_labels_full.csv"
LABEL_TABLES = ["drawn", *(["real"] if LABEL_FILE.exists() else [])]


def select_params(**changes) -> SelectParams:
    values = {
        "threshold": 15,
        "new_whale": 18,
        "drop": [SHIP],
        "protocol": "grouped",
        "holdout": 0.25,
        "most_aside": 3000,
        "new_share": 0.325,
        "validation": "grouped",
        "valid_share": {"small": 0.25, "full": 0.2},
    }
    return SelectParams.model_validate(values | changes)


def table_of(labels: list[str], clusters: list[int] | None = None) -> pd.DataFrame:
    images = [f"{number:08x}.jpg" for number in range(len(labels))]
    return pd.DataFrame(
        {"Image": images, "Id": labels, "cluster": clusters or range(len(labels)), "pixel": range(len(labels))}
    )


def long_tail(seed: int = 0) -> pd.DataFrame:
    """Return a shuffled table: 3 frequent individuals, 40 with two to six photos, 40 singles, 40 new whales."""
    generator = np.random.default_rng(seed)
    counts = [20, 18, 17, *generator.integers(2, 7, 40), *[1] * 40]
    labels = [f"w_{number:07x}" for number, count in enumerate(counts) for _ in range(count)] + [NEW_WHALE] * 40
    labels = [labels[index] for index in generator.permutation(len(labels))]
    clusters = list(range(len(labels)))
    for _ in range(30):
        first, second = generator.integers(0, len(labels), 2)
        clusters[first] = clusters[second]
    return table_of(labels, clusters)


def competition_labels(kind: str) -> pd.DataFrame:
    """Return the competition's label table, or a shuffled one with as many labels of each size."""
    if kind == "real":
        table = pd.read_csv(LABEL_FILE)
        return table.assign(cluster=range(len(table)), pixel=range(len(table)))
    # 24 individuals with 481 photos are over the threshold, 480 with 2,795 are between those and the rare ones.
    counts = [16] * 12 + [24] * 11 + [25] + [10] * 79 + [5] * 401 + [3] * 492 + [2] * 1034 + [1] * 2220
    labels = np.array([f"w_{number:07x}" for number, count in enumerate(counts) for _ in range(count)])
    labels = np.random.default_rng(0).permutation([*labels, *[NEW_WHALE] * 810]).tolist()
    table = table_of(labels)
    often = table["Id"].map(table["Id"].value_counts()).gt(15) & (table["Id"] != NEW_WHALE)
    # The ship is filed under an individual over the threshold, and is one of MLE-bench's test photos.
    table.loc[np.flatnonzero(often & mlebench_test(table))[0], "Image"] = SHIP
    return table


@pytest.mark.parametrize("kind", LABEL_TABLES)
def test_counts_of_the_reference_procedure_on_the_competitions_labels(kind):
    table = competition_labels(kind)
    counts = selection_counts(table, select_params())
    expected = {
        "rows": 9850, "labels": 4251, "new_whale_rows": 810, "labels_with_1": 2220, "labels_with_2": 1034,
        "labels_with_3": 492, "small_ids": 24, "small_rows_over_threshold": 481, "small_rows": 498,
        "small_classes": 25, "full_rows": 9849, "full_classes": 4251, "dropped_rows": 1,
    }  # fmt: skip
    assert counts == expected
    small = small_set(table, select_params())
    assert SHIP not in set(small["Image"])
    new = table.loc[table["Id"] == NEW_WHALE, "Image"].head(18)
    assert small["Image"].tail(18).tolist() == new.tolist()


def test_small_set_takes_ids_over_the_threshold_and_the_first_new_whales():
    table = table_of(["a"] * 4 + [NEW_WHALE] * 3 + ["b"] * 3 + ["c"] * 2)
    small = small_set(table, select_params(threshold=2, new_whale=2, drop=["00000000.jpg"]))
    assert small["Id"].tolist() == ["a"] * 3 + ["b"] * 3 + [NEW_WHALE] * 2
    assert small["Image"].tail(2).tolist() == ["00000004.jpg", "00000005.jpg"]


def test_a_small_catalogue_is_told_what_it_will_lack():
    params = select_params()
    few = shortfalls(*assign_splits(table_of(["a"] * 16 + ["b"] * 3), params, 0), params)
    assert re.search(r"small set has 1 class.*select\.threshold is 15.*a: 16, b: 3.*Lower", few[0])
    assert re.search(r"1 known and 0 new whales are set aside for calibration.*by similarity", few[1])
    large = ["a"] * 16 + ["b"] * 16 + [f"w{number}" for number in range(60) for _ in range(3)] + [NEW_WHALE] * 40
    assert shortfalls(*assign_splits(table_of(large), params, 0), params) == []


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), holdout=st.sampled_from([0.1, 0.25, 0.4]))
def test_splits_keep_the_protocol(seed, holdout):
    table = long_tail(seed)
    params = select_params(holdout=holdout)
    small, full = assign_splits(table, params, seed)
    assert_protocol(small, full)


def test_no_more_photos_are_set_aside_than_are_asked_for():
    labels = [f"w{number}" for number in range(200) for _ in range(3)] + [NEW_WHALE] * 200
    sizes = {}
    for most in (12, 30, 3000):
        params = select_params(most_aside=most)
        small, full = assign_splits(table_of(labels), params, 0)
        assert_protocol(small, full)
        sizes[most] = full["split"].value_counts()[["query", "calibration"]].tolist()
        new = np.isin(full["Id"], [NEW_WHALE]) | ~full["Id"].isin(full.loc[full["split"] == "train", "Id"])
        assert new[full["split"] == "query"].mean() == pytest.approx(0.325, abs=0.06)
    # Individuals that are held out whole come with all their photos.
    assert [abs(size - 12) <= 2 for size in sizes[12]] == [True, True]
    assert [abs(size - 30) <= 2 for size in sizes[30]] == [True, True]
    assert min(sizes[3000]) > 60


def assert_protocol(small: pd.DataFrame, full: pd.DataFrame) -> None:
    """Recognise the splits anew, from the tables alone."""
    aside = full[full["split"].isin(["query", "calibration"])]
    # No cluster of near-duplicates straddles two splits, and none with two labels is set aside.
    assert (full.groupby("cluster")["split"].agg(set).map(len) == 1).all()
    assert_known_or_held_out(aside, full)
    # Query and calibration share no individual.
    assert not set(aside.loc[aside["split"] == "query", "Id"]) & set(
        aside.loc[(aside["split"] == "calibration") & (aside["Id"] != NEW_WHALE), "Id"]
    )
    assert_apart(small, full)


def assert_known_or_held_out(aside: pd.DataFrame, full: pd.DataFrame) -> None:
    """Every individual is either known, with a training photo in another cluster, or wholly held out."""
    trained = full[full["split"].isin(["train", "valid"])]
    assert (full[full["cluster"].isin(aside["cluster"])].groupby("cluster")["Id"].agg(set).map(len) == 1).all()
    for label, group in aside[aside["Id"] != NEW_WHALE].groupby("Id"):
        kept = trained[trained["Id"] == label]
        held_out = kept.empty and len(group) == (full["Id"] == label).sum()
        known = not kept.empty and len(set(group["cluster"])) == 1 and not set(kept["cluster"]) & set(group["cluster"])
        assert known or held_out, label


def assert_apart(small: pd.DataFrame, full: pd.DataFrame) -> None:
    """What is set aside is so in both sets, and validation has only labels that training has."""
    aside = full[full["split"].isin(["query", "calibration"])]
    assert not set(small.loc[small["split"].isin(["train", "valid"]), "Image"]) & set(aside["Image"])
    for table in (small, full):
        assert set(table.loc[table["split"] == "valid", "Id"]) <= set(table.loc[table["split"] == "train", "Id"])


def test_the_recogniser_sees_a_straddling_cluster_and_a_half_held_out_individual():
    params = select_params()
    small, full = assign_splits(long_tail(), params, 0)
    assert_protocol(small, full)
    query = full.index[full["split"] == "query"][0]
    straddling = full.assign(cluster=full["cluster"].where(full.index != query, full["cluster"].iloc[-1]))
    one = full["Id"].value_counts().index[0]
    taken = full.assign(split=full["split"].where(full["Id"] != one, "query"))
    taken.loc[taken.index[taken["Id"] == one][0], "split"] = "train"
    for table in (straddling, taken):
        with pytest.raises(AssertionError):
            assert_protocol(small, table)


# --- encounters and dates -------------------------------------------------------------------------------------


def seasons(seed: int) -> pd.DataFrame:
    """Return the long tail in encounters of one to four photos, each dated but for every tenth."""
    table = long_tail(seed)
    generator = np.random.default_rng(seed)
    rows = table.sort_values("Id", kind="stable")
    numbers = np.repeat(np.arange(len(rows)), generator.integers(1, 5, len(rows)))[: len(rows)]
    encounter = pd.Series([f"e{number}" for number in numbers], rows.index, dtype=object)
    days = generator.integers(0, 2000, len(rows))
    dates = {number: str(np.datetime64("2018-01-01") + days[number]) for number in set(numbers) if number % 10}
    taken = pd.Series([dates.get(number) for number in numbers], rows.index, dtype=object)
    encounter[rows.index[::13]] = None
    return table.assign(encounter=encounter, taken_at=taken)


def assert_on_one_side(full: pd.DataFrame, table: pd.DataFrame) -> None:
    split = full.set_index("Image")["split"]
    sides = table.assign(split=table["Image"].map(split)).dropna(subset="split")
    trained = sides["split"].isin(["train", "valid"])
    for column in ("encounter", "cluster"):
        for kept in (sides["split"], trained):
            assert kept.groupby(sides[column]).nunique().max() == 1, column


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), protocol=st.sampled_from(["grouped", "time"]))
def test_an_encounter_and_a_cluster_stay_on_one_side_of_every_split(seed, protocol):
    table = seasons(seed)
    small, full = assign_splits(table, select_params(protocol=protocol, holdout=0.2, threshold=5), seed)
    for part in (small, full):
        assert_on_one_side(part, table)
        assert list(part.columns) == ["Image", "Id", "cluster", "pixel", "together", "split"]
    assert {"train", "valid", "query", "calibration"} == set(full["split"])


def test_without_encounters_they_would_be_torn_apart():
    table = seasons(0)
    _, full = assign_splits(table.drop(columns="encounter"), select_params(), 0)
    with pytest.raises(AssertionError, match="encounter"):
        assert_on_one_side(full, table)


def test_an_encounter_of_each_photo_of_its_own_changes_nothing():
    table = long_tail()
    own = table.assign(encounter=[f"e{number}" for number in range(len(table))])
    for mine, other in zip(
        assign_splits(own, select_params(), 3), assign_splits(table, select_params(), 3), strict=True
    ):
        pd.testing.assert_frame_equal(mine, other)


def test_clusters_and_encounters_are_joined_over_any_number_of_steps():
    table = pd.DataFrame({"cluster": [5, 5, 4, 4, 3, 2, 1], "encounter": ["a", "b", "b", "c", "c", None, None]})
    assert kept_together(table).tolist() == [3, 3, 3, 3, 3, 2, 1]


def test_the_newest_encounters_are_queries_and_the_next_ones_for_calibration():
    dates = [
        "2021",
        "2021-05",
        "2021-05-02T08:00",
        "2021-05-02T09:00",
        "2022-01-01",
        "2023",
        None,
        "2024",
        "2024",
    ]
    table = table_of(["a", "b", "a", "b", "a", "c", "b", "a", "b"]).assign(taken_at=dates)
    table["encounter"] = ["1", "2", "3", "3", "5", "6", "7", "8", "8"]
    # Of nine photos six can be set aside: those of encounters 3 and 8 show two individuals, one has no date.
    expected = {"00000005.jpg": "query", "00000004.jpg": "calibration"}
    assert newest(table.assign(together=kept_together(table)), 0.25, 3000) == expected
    assert newest(table.assign(together=kept_together(table)), 0, 3000) == {}
    # One of the four that a date can set aside is a quarter.
    assert newest(table.assign(together=kept_together(table)), 0.5, 1) == expected
    assert len(newest(table.assign(together=kept_together(table)), 0.5, 3000)) == 4


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), holdout=st.sampled_from([0.1, 0.2, 0.3]))
def test_by_time_nothing_dated_that_is_trained_on_is_newer_than_what_is_asked(seed, holdout):
    table = seasons(seed)
    _, full = assign_splits(table, select_params(protocol="time", holdout=holdout, threshold=5), seed)
    full = full.merge(table[["Image", "taken_at"]], on="Image")
    groups = full.groupby("together")
    of_one = full[full["together"].map(groups["Id"].nunique()) == 1]
    when = of_one.groupby("together")["taken_at"].max().dropna()
    split = of_one.groupby("together")["split"].first().reindex(when.index)
    split = split.replace({"valid": "train"})
    assert when[split == "train"].max() <= when[split == "calibration"].min()
    assert when[split == "calibration"].max() <= when[split == "query"].min()
    dated = of_one["together"].isin(when.index).sum()
    asked = (full["split"] == "query").sum()
    assert abs(asked - holdout * dated) <= groups.size().max()


def test_a_split_by_time_needs_dates():
    with pytest.raises(FlukeprintError, match=r"select\.protocol is time.*taken_at.*grouped"):
        assign_splits(long_tail(), select_params(protocol="time"), 0)


def recipe_of_mlebench(labels: list[str]) -> list[str]:
    """Follow MLE-bench's recipe in the words of its description, on a plain list."""
    splits = ["undecided"] * len(labels)
    generator = np.random.default_rng(0)
    for label in dict.fromkeys(labels):
        rows = pd.DataFrame({"row": [row for row, other in enumerate(labels) if other == label]})
        if len(rows) == 1:
            splits[rows["row"][0]] = str(generator.choice(["train", "test"], replace=False, p=[0.9, 0.1]))
        else:
            first, second = rows.sample(2, random_state=0)["row"]
            splits[first], splits[second] = "train", "test"
    left = [row for row, split in enumerate(splits) if split == "undecided"]
    for split, rows in zip(("train", "test"), train_test_split(left, test_size=0.1, random_state=0), strict=True):
        for row in rows:
            splits[row] = split
    return splits


@pytest.mark.parametrize("seed", range(3))
def test_mlebench_tests_on_what_its_recipe_says(seed):
    table = long_tail(seed)
    expected = [split == "test" for split in recipe_of_mlebench(table["Id"].tolist())]
    assert mlebench_test(table).tolist() == expected


@pytest.mark.parametrize("holdout", [0.0, 0.25])
@pytest.mark.parametrize("kind", LABEL_TABLES)
def test_mlebench_has_its_published_sizes_on_the_competitions_labels(kind, holdout):
    table = competition_labels(kind)
    is_test = mlebench_test(table)
    assert ((~is_test).sum(), is_test.sum()) == (7240, 2610)
    small, full = assign_splits(table, select_params(protocol="mlebench", holdout=holdout), 0)
    queries = full[full["split"] == "query"]
    assert set(queries["Image"]) == set(table.loc[is_test, "Image"])
    # The ship is one of them, so no photo is dropped.
    assert SHIP in set(queries["Image"])
    assert len(full) == 9850
    # Calibration takes its photos from the 7,240, and no individual of a query.
    trained = Counter(table.loc[~is_test, "Id"])
    new_queries = sum(label == NEW_WHALE or not trained[label] for label in table.loc[is_test, "Id"])
    small_classes = sum(count > 15 for label, count in trained.items() if label != NEW_WHALE)
    assert kind == "drawn" or (new_queries, small_classes) == (298, 13)
    assert true_labels(queries, class_labels(full)).count(NEW_WHALE) == new_queries > 222
    assert small.loc[small["Id"] != NEW_WHALE, "Id"].nunique() == small_classes > 0
    assert ((full["split"] == "calibration").sum() > 0) == (holdout > 0)
    assert_mlebench(small, full)


def assert_mlebench(small: pd.DataFrame, full: pd.DataFrame) -> None:
    """Recognise what our calibration queries promise beside MLE-bench's own queries, which ignore near-duplicates."""
    query, calibration = (full[full["split"] == split] for split in ("query", "calibration"))
    others = full[full["split"] != "calibration"]
    assert not set(calibration["cluster"]) & set(others["cluster"])
    assert_known_or_held_out(calibration, full)
    known = set(class_labels(full))
    held_out = set(calibration["Id"]) - known - {NEW_WHALE}
    assert not held_out & set(query["Id"])
    assert_apart(small, full)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), holdout=st.sampled_from([0.1, 0.25, 0.4]))
def test_calibration_beside_mlebench_keeps_the_protocol(seed, holdout):
    table = long_tail(seed)
    params = select_params(protocol="mlebench", holdout=holdout, threshold=10)
    small, full = assign_splits(table, params, seed)
    assert_mlebench(small, full)
    plain = table[~mlebench_test(table)]
    # Whose queries are new is as MLE-bench has it: calibration changes no right answer.
    queries = full[full["split"] == "query"]
    assert true_labels(queries, class_labels(full)) == true_labels(queries, set(plain["Id"]))


def test_new_queries_are_about_the_declared_share():
    table = long_tail()
    params = select_params()
    _, full = assign_splits(table, params, 0)
    for split in ("query", "calibration"):
        truth = true_labels(full[full["split"] == split], class_labels(full))
        assert truth.count(NEW_WHALE) / len(truth) == pytest.approx(0.325, abs=0.12)


def test_no_holdout_trains_on_everything():
    table = long_tail()
    params = select_params(holdout=0.0)
    _, full = assign_splits(table, params, 0)
    assert set(full["split"]) == {"train", "valid"}
    assert len(class_labels(full)) == full["Id"].nunique()


def test_random_validation_takes_the_share_exactly():
    table = long_tail()
    params = select_params(holdout=0.0, validation="random")
    small, full = assign_splits(table, params, 0)
    assert (small["split"] == "valid").sum() == round(0.25 * len(small))
    assert (full["split"] == "valid").sum() == round(0.2 * len(full))


def test_another_seed_chooses_other_queries():
    table, params = long_tail(), select_params()
    chosen = [
        set(full.loc[full["split"] == "query", "Image"])
        for seed in (0, 0, 1)
        for _, full in [assign_splits(table, params, seed)]
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_often_seen_counts_only_photos_that_are_trained_on():
    table = pd.DataFrame(
        {"Id": ["a", "a", "a", "b", "b", "c"], "split": ["train", "valid", "query", "train", "query", "train"]}
    )
    assert often_seen(table, 1)["Id"].unique().tolist() == ["a", "b", "c"]
    assert often_seen(table, 2)["Id"].tolist() == ["a", "a", "a"]
