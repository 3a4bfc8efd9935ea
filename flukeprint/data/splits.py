"""Which photos are trained on, which choose the best epoch, and which are set aside as queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import derived_seed
from flukeprint.data.labels import NEW_WHALE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flukeprint.core.params import SelectParams

# Values of the `split` column. The last two are set aside: nothing is trained on them.
TRAIN, VALID, QUERY, CALIBRATION = "train", "valid", "query", "calibration"


def full_set(table: pd.DataFrame, params: SelectParams) -> pd.DataFrame:
    """Return every labelled row (columns Image, Id, cluster, row) but those in `select.drop`."""
    return table[~table["Image"].isin(params.drop)].reset_index(drop=True)


def small_set(table: pd.DataFrame, params: SelectParams) -> pd.DataFrame:
    """Return the small set, as the reference procedure makes it.

    Individuals with more than `select.threshold` photos, without `select.drop`, in the table's order; after
    them the first `select.new_whale` photos of new_whale. Photos are counted before any is dropped.

    Raises:
        FlukeprintError: fewer than two classes are left.

    """
    known = table[table["Id"] != NEW_WHALE]
    counts = known["Id"].value_counts()
    often = counts.index[counts > params.threshold]
    rows = known[known["Id"].isin(often) & ~known["Image"].isin(params.drop)]
    new = table[(table["Id"] == NEW_WHALE) & ~table["Image"].isin(params.drop)].head(params.new_whale)
    small = pd.concat([rows, new], ignore_index=True)
    classes = small["Id"].nunique()
    if classes < 2:
        most = ", ".join(f"{label}: {count}" for label, count in counts.head(3).items())
        raise FlukeprintError(
            f"the small set has {classes} class(es), at least 2 are needed: select.threshold is {params.threshold}, "
            f"and the most frequent individuals have these many photos: {most or 'there are none'}. "
            "Lower select.threshold in params.yaml."
        )
    return small


def selection_counts(table: pd.DataFrame, params: SelectParams) -> dict[str, int]:
    """Return the counts of metrics/selection.json, taken before any photo is set aside.

    On the competition's 9,850 rows with the reference params they are the reference procedure's: 4,251 labels, a small
    set of 498 rows and 25 classes, a full set of 9,849 rows.
    """
    per_label = table["Id"].value_counts()
    small, full = small_set(table, params), full_set(table, params)
    often = per_label.drop(NEW_WHALE, errors="ignore")
    often = often[often > params.threshold]
    counts = {
        "rows": len(table),
        "labels": len(per_label),
        "new_whale_rows": per_label.get(NEW_WHALE, 0),
        "small_ids": len(often),
        "small_rows_over_threshold": often.sum(),
        "small_rows": len(small),
        "small_classes": small["Id"].nunique(),
        "full_rows": len(full),
        "full_classes": full["Id"].nunique(),
        "dropped_rows": len(table) - len(full),
    }
    counts |= {f"labels_with_{n}": (per_label == n).sum() for n in (1, 2, 3)}
    return {key: int(value) for key, value in counts.items()}


def assign_splits(
    table: pd.DataFrame, params: SelectParams, new_share: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the small and the full set with a `split` column: train, valid, query, calibration.

    A photo that is set aside (query, calibration) is so in both sets; train and valid are drawn apart. Under
    `select.protocol: mlebench` the queries are MLE-bench's test photos, those in `select.drop` too: scores compare only
    on the same queries, and nothing is trained on them. Its small set is chosen among its training photos.

    Args:
        table: every labelled photo, in the order of train.csv (Image, Id, cluster, pixel).
        params: protocol, holdout, drop, threshold, ...
        new_share: share of new whales among the grouped protocol's queries, and the calibration queries, to aim at.
        seed: of everything random but MLE-bench's own split.

    """
    if params.protocol == "mlebench":
        queries = table[mlebench_test(table)]
        rest = table.drop(queries.index)
        small, full = small_set(rest, params), full_set(rest, params)
        aside = set_aside(full, small, params.holdout, new_share, seed, splits=(CALIBRATION,), taken=queries)
        aside |= dict.fromkeys(queries["Image"], QUERY)
        full = table[table["Image"].isin([*full["Image"], *queries["Image"]])].reset_index(drop=True)
    else:
        small, full = small_set(table, params), full_set(table, params)
        aside = set_aside(full, small, params.holdout, new_share, seed)
    shares = {"small": params.valid_share.small, "full": params.valid_share.full}
    return (
        _with_split(small, aside, shares["small"], params.validation, derived_seed(seed, "valid", "small")),
        _with_split(full, aside, shares["full"], params.validation, derived_seed(seed, "valid", "full")),
    )


def mlebench_test(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows MLE-bench tests on, by its recipe for this competition (it ignores near-duplicates).

    Source: openai/mle-bench, mlebench/competitions/whale-categorization-playground/prepare.py, commit a0e3b23.
    Labels in order of appearance: of one with two or more photos pandas' sample(2, random_state=0) gives one to train
    and one to test; one with a single photo goes to train with probability 0.9, by numpy's default_rng(0);
    scikit-learn's train_test_split(test_size=0.1, random_state=0) divides all others. A label that is only in test
    counts as new_whale there. On the competition's 9,850 rows: 7,240 to train, 2,610 to test, 298 of them new.

    Args:
        table: the rows of train.csv, in its order (column Id).

    Returns:
        N truth values.

    """
    from sklearn.model_selection import train_test_split

    generator, share = np.random.default_rng(0), 0.1
    rows = pd.Series(range(len(table)))
    is_test, undecided = np.zeros(len(table), bool), np.ones(len(table), bool)
    for _, own in rows.groupby(table["Id"].to_numpy(), sort=False):
        chosen = own.sample(2, random_state=0) if len(own) >= 2 else own
        undecided[chosen] = False
        is_test[chosen.iloc[-1]] = len(own) >= 2 or generator.choice([False, True], replace=False, p=[1 - share, share])
    if undecided.sum() > 1:
        is_test[train_test_split(np.flatnonzero(undecided), test_size=share, random_state=0)[1]] = True
    return is_test


def _with_split(
    table: pd.DataFrame, aside: dict[str, str], valid_share: float, validation: str, seed: int
) -> pd.DataFrame:
    table = table.assign(split=[aside.get(image, TRAIN) for image in table["Image"]])
    left = table[table["split"] == TRAIN]
    chosen = (random_validation if validation == "random" else grouped_validation)(left, valid_share, seed)
    table.loc[chosen, "split"] = VALID
    return table


def random_validation(table: pd.DataFrame, share: float, seed: int) -> list[int]:
    """Return the index labels of a random `share` of the rows: the reference procedure's split, flaws included."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table))[: round(share * len(table))]
    return [int(label) for label in table.index.to_numpy()[order]]


def grouped_validation(table: pd.DataFrame, share: float, seed: int) -> list[int]:
    """Return the index labels of about `share` of the rows, by whole clusters of near-duplicates.

    A cluster is taken only if each of its labels keeps another one for training, so no validation
    photo is of an individual that training never saw. Where that leaves too few, fewer are taken.
    """
    left = table.groupby("Id")["cluster"].nunique().to_dict()
    rows_of = table.index.to_series().groupby(table["cluster"]).agg(list).to_dict()
    labels_of = table.groupby("cluster")["Id"].agg(set).to_dict()
    wanted = round(share * len(table))
    chosen: list[int] = []
    for cluster in np.random.default_rng(seed).permutation(np.unique(table["cluster"].to_numpy())):
        rows, labels = rows_of[cluster], labels_of[cluster]
        if len(chosen) + len(rows) > wanted or any(left[label] < 2 for label in labels):
            continue
        for label in labels:
            left[label] -= 1
        chosen.extend(rows)
    return chosen


def set_aside(
    full: pd.DataFrame,
    small: pd.DataFrame,
    holdout: float,
    new_share: float,
    seed: int,
    *,
    splits: Sequence[str] = (QUERY, CALIBRATION),
    taken: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Choose the photos that are asked for, never trained on: query and calibration, disjoint in photos and ids.

    Known queries: for a share `holdout` of the individuals that have two or more clusters of photos, one
    cluster (all its photos, if near-duplicates), so that another cluster of the same individual stays. New
    queries: all photos of other individuals, held out whole, and new_whale photos, as many of either kind,
    so that new ones are about `new_share` of all. A cluster with several labels is never set aside.

    Args:
        full: the full set (Image, Id, cluster).
        small: the small set; its individuals are not held out whole, nor its new_whale photos taken.
        holdout: share of individuals with a query, 0..0.5; 0 sets nothing aside.
        new_share: share of new whales among the queries to aim at.
        seed: of the choice.
        splits: the kinds of queries to choose.
        taken: photos that are queries already and not in `full`: no cluster of theirs is set aside, and no
            individual of theirs is held out whole, so that what is right for them stays right.

    Returns:
        {Image: "query" or "calibration"}.

    """
    if holdout == 0:
        return {}
    taken = full[:0] if taken is None else taken
    generator = np.random.default_rng(derived_seed(seed, "aside"))
    pure = _free_clusters(full, taken)
    known = _known_candidates(full, pure)
    ids = generator.permutation(np.array(sorted(known)))
    number = max(1, round(holdout * len(ids))) if len(ids) else 0
    aside: dict[str, str] = {}
    used = set(ids[: len(splits) * number]) | set(taken["Id"])
    photos_of = pure.groupby("cluster")["Image"].agg(list).to_dict()
    pool = _new_candidates(full, pure, small, used, generator)
    for part, split in enumerate(splits):
        chosen = ids[part * number : (part + 1) * number]
        for label in chosen:
            clusters = known[label]
            cluster = clusters[generator.integers(len(clusters))]
            aside |= dict.fromkeys(photos_of[cluster], split)
        quota = round(len(chosen) * new_share / (1 - new_share))
        aside |= dict.fromkeys(_take_new(pool, quota), split)
    return aside


def _free_clusters(full: pd.DataFrame, taken: pd.DataFrame) -> pd.DataFrame:
    """Return the photos whose cluster has one label and no photo in `taken`."""
    labels_of = full.groupby("cluster")["Id"].nunique()
    return full[(full["cluster"].map(labels_of) == 1) & ~full["cluster"].isin(taken["cluster"])]


def _known_candidates(full: pd.DataFrame, pure: pd.DataFrame) -> dict[str, list[int]]:
    """Return {individual with two or more clusters: its clusters without other labels}."""
    clusters = full[full["Id"] != NEW_WHALE].groupby("Id")["cluster"].nunique()
    several = set(clusters.index[clusters >= 2])
    rows = pure[pure["Id"].isin(several)]
    clusters_of = rows.groupby("Id")["cluster"].agg(lambda group: sorted(set(group)))
    return {str(label): found for label, found in clusters_of.items()}


def _new_candidates(
    full: pd.DataFrame, pure: pd.DataFrame, small: pd.DataFrame, used: set[str], generator: np.random.Generator
) -> tuple[list[list[str]], list[list[str]]]:
    """Return shuffled groups of photos that may play new whales: (new_whale clusters, whole individuals)."""
    kept = set(small["cluster"])
    free = pure[(pure["Id"] == NEW_WHALE) & ~pure["cluster"].isin(kept)]
    new = free.groupby("cluster")["Image"].agg(list).tolist()
    impure = set(full["Id"]) - set(pure["Id"]) | set(full.loc[~full.index.isin(pure.index), "Id"])
    barred = used | impure | set(small["Id"]) | {NEW_WHALE}
    whole = full[~full["Id"].isin(barred)].groupby("Id")["Image"].agg(list).tolist()
    return _shuffled(new, generator), _shuffled(whole, generator)


def _shuffled(groups: list[list[str]], generator: np.random.Generator) -> list[list[str]]:
    return [groups[index] for index in generator.permutation(len(groups))]


def _take_new(pool: tuple[list[list[str]], list[list[str]]], quota: int) -> list[str]:
    """Take groups off both lists, always from the kind that has given less, until `quota` photos are taken."""
    taken: tuple[list[str], list[str]] = ([], [])
    while len(taken[0]) + len(taken[1]) < quota and any(pool):
        kind = 0 if pool[0] and (len(taken[0]) <= len(taken[1]) or not pool[1]) else 1
        taken[kind].extend(pool[kind].pop())
    return [*taken[0], *taken[1]]


def is_trained(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows of a selected table are trained on: those of the splits train and valid."""
    return table["split"].isin([TRAIN, VALID]).to_numpy(dtype=bool)


def class_labels(table: pd.DataFrame) -> list[str]:
    """Return the sorted labels that have a training photo: the classes of a head, in order of their index."""
    return sorted(set(table.loc[is_trained(table), "Id"]))


def often_seen(table: pd.DataFrame, photos: int) -> pd.DataFrame:
    """Return the rows of the individuals that have at least so many photos to train on (splits train and valid)."""
    counts = table[is_trained(table)]["Id"].value_counts()
    return table[table["Id"].isin(counts.index[counts >= photos])]


def true_labels(table: pd.DataFrame, labels: Iterable[str]) -> list[str]:
    """Return the right answer for each row: its Id, or new_whale for an individual that is not among `labels`."""
    known = set(labels)
    return [label if label in known else NEW_WHALE for label in table["Id"]]


def read_selected(path: Path | str) -> pd.DataFrame:
    """Read small.parquet or full.parquet."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing. Run `dvc repro select` to make it.") from None
