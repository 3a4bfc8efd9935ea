"""The small and the full set, and which of their photos are trained on, validated with, or set aside."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import SelectParams
from flukeprint.core.runtime import derived_seed
from flukeprint.data.labels import ENCOUNTER, NEW_WHALE, TAKEN_AT, individuals_of
from flukeprint.data.selected_tables import (
    CALIBRATION,
    LEAST_CLASSES,
    QUERY,
    TRAIN,
    VALID,
    class_labels,
    true_labels,
)

# Lists of images that are set aside together.
Groups = list[list[str]]
# Known and new individuals each: a scorer is chosen on some and fitted to others (flukeprint/scoring/choice.py).
LEAST_TO_CALIBRATE = 2


def kept_together(table: pd.DataFrame) -> pd.Series[int]:
    """Return for each row (columns cluster and, if known, encounter) the number of what stays on one side of a split.

    These are clusters of near-duplicates, joined where they share an encounter; the number is that of the first one.
    """
    together = table["cluster"].astype(np.int64)
    if ENCOUNTER not in table:
        return together
    encounter = table[ENCOUNTER].astype(object)
    while True:
        of_encounter = together.groupby(encounter).transform("min").fillna(together)
        wider = of_encounter.groupby(table["cluster"]).transform("min").astype(np.int64)
        if wider.equals(together):
            return together
        together = wider


def full_set(table: pd.DataFrame, params: SelectParams) -> pd.DataFrame:
    """Return every labelled row (columns Image, Id, cluster, pixel) but those in `select.drop`."""
    return table[~table["Image"].isin(params.drop)].reset_index(drop=True)


def small_set(table: pd.DataFrame, params: SelectParams) -> pd.DataFrame:
    """Return the small set of the reference procedure.

    Individuals with more than `select.threshold` photos, without `select.drop`, in the table's order; after
    them the first `select.new_whale` photos of new_whale. Photos are counted before any is dropped.
    """
    counts = table.loc[table["Id"] != NEW_WHALE, "Id"].value_counts()
    kept = full_set(table, params)
    new = kept[kept["Id"] == NEW_WHALE].head(params.new_whale)
    return pd.concat([kept[kept["Id"].isin(counts.index[counts > params.threshold])], new], ignore_index=True)


def shortfalls(small: pd.DataFrame, full: pd.DataFrame, params: SelectParams) -> list[str]:
    """Say what will be missing later, because the catalogue is small. Both tables are those of `assign_splits`."""
    classes = small["Id"].nunique()
    said = [_few_classes(classes, full, params.threshold)] if classes < LEAST_CLASSES else []
    aside = full[full["split"] == CALIBRATION]
    is_new = np.array(true_labels(aside, class_labels(full)), dtype=str) == NEW_WHALE
    individuals = individuals_of(aside["Id"], aside["Image"])
    known, new = (len(np.unique(individuals[rows])) for rows in (~is_new, is_new))
    if params.holdout and min(known, new) < LEAST_TO_CALIBRATE:
        said.append(
            f"{known} known and {new} new whales are set aside for calibration; choosing a scorer takes "
            f"{LEAST_TO_CALIBRATE} of each. So submit.decision best will answer by similarity alone, and probabilities "
            "will be missing or rough. More individuals with several photos, or a larger select.holdout, would help."
        )
    return said


def _few_classes(classes: int, full: pd.DataFrame, threshold: int) -> str:
    counts = full.loc[full["Id"] != NEW_WHALE, "Id"].value_counts()
    most = ", ".join(f"{label}: {count}" for label, count in counts.head(3).items())
    return (
        f"the small set has {classes} class(es), and recipe reference needs {LEAST_CLASSES}: select.threshold is "
        f"{threshold}, and the most frequent individuals have these many photos: {most or 'there are none'}. Lower "
        "select.threshold in params.yaml, or use recipe metric, which needs no small set."
    )


def selection_counts(table: pd.DataFrame, params: SelectParams) -> dict[str, int]:
    """Return the counts of metrics/selection.json, taken before any photo is set aside.

    On the competition's 9,850 rows with the reference params they are those of the reference procedure: 4,251 labels,
    a small set of 498 rows and 25 classes, a full set of 9,849 rows.
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


def assign_splits(table: pd.DataFrame, params: SelectParams, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the small and the full set with a `split` column: train, valid, query, calibration.

    A photo that is set aside (query, calibration) is so in both sets; train and valid are drawn apart. No cluster of
    near-duplicates and no encounter is on both sides of anything. That cannot be had of MLE-bench's queries, which are
    given (`select.protocol: mlebench`; those in `select.drop` are among them: scores compare only on the same queries),
    and of `select.validation: random`. Where queries are given or the newest photos, the small set is chosen among the
    rest.

    `table` holds every labelled photo in the order of train.csv (Image, Id, cluster, pixel; encounter and taken_at if
    they are known). The result has a column `together` (see `kept_together`) instead of the last two.
    """
    table = table.assign(together=kept_together(table))
    fixed = _fixed(table, params)
    chosen = table["Image"].isin(fixed)
    small, full = small_set(table[~chosen], params), full_set(table[~chosen], params)
    drawn = {} if params.protocol == "time" else set_aside(full, small, table[chosen], params, seed)
    aside = drawn | fixed
    full = table[chosen | table["Image"].isin(full["Image"])].reset_index(drop=True)
    small, full = (part.drop(columns=[ENCOUNTER, TAKEN_AT], errors="ignore") for part in (small, full))

    def with_split(part: pd.DataFrame, name: str) -> pd.DataFrame:
        part = part.assign(split=[aside.get(image, TRAIN) for image in part["Image"]])
        choose = random_validation if params.validation == "random" else grouped_validation
        share = getattr(params.valid_share, name)
        chosen = choose(part[part["split"] == TRAIN], share, derived_seed(seed, "valid", name))
        part.loc[chosen, "split"] = VALID
        return part

    return with_split(small, "small"), with_split(full, "full")


def _fixed(table: pd.DataFrame, params: SelectParams) -> dict[str, str]:
    """Return {Image: split} of what the protocol itself sets aside, without drawing."""
    match params.protocol:
        case "mlebench":
            return dict.fromkeys(table["Image"][mlebench_test(table)], QUERY)
        case "time":
            return newest(full_set(table, params), params.holdout, params.most_aside)
        case _:
            return {}


def newest(table: pd.DataFrame, share: float, most: int) -> dict[str, str]:
    """Set the newest photos aside, as the next season would bring them: {Image: query or calibration}.

    What stays together (column `together`) is as new as its newest photo. The newest, about a `share` of the dated
    photos but no more than about `most`, are queries; the next newest, as many, are for calibration; all others are
    trained on. Whom the older photos do not show is a new whale by that. What stays together under several labels, and
    what has no date, is never set aside. Columns: Image, Id, together, taken_at.
    """
    if TAKEN_AT not in table:
        raise FlukeprintError(
            "select.protocol is time, but no photo has a date: train.csv needs a column taken_at (2024, 2024-07, "
            "2024-07-01 or 2024-07-01T09:30:00). Add it, or set select.protocol to grouped in params.yaml."
        )
    labels = table.groupby("together")["Id"].transform("nunique")
    groups = table[labels == 1].groupby("together")[TAKEN_AT]
    taken = groups.max().dropna().sort_values(kind="stable", ascending=False)
    sizes = groups.size()[taken.index]
    # How many photos are newer than the middle of a group, as a share.
    newer = (sizes.cumsum() - sizes / 2) / sizes.sum()
    share = min(share, most / max(sizes.sum(), 1))
    split_of = dict.fromkeys(newer.index[newer < 2 * share], CALIBRATION)
    split_of |= dict.fromkeys(newer.index[newer < share], QUERY)
    aside = table[table["together"].isin(split_of)]
    return dict(zip(aside["Image"], aside["together"].map(split_of), strict=True))


def mlebench_test(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell which rows MLE-bench tests on, by its recipe for this competition (it ignores near-duplicates).

    Source: openai/mle-bench, mlebench/competitions/whale-categorization-playground/prepare.py, commit a0e3b23.
    Labels in order of appearance: of one with two or more photos pandas' sample(2, random_state=0) gives one to train
    and one to test; one with a single photo goes to train with probability 0.9, by numpy's default_rng(0);
    scikit-learn's train_test_split(test_size=0.1, random_state=0) divides all others. A label that is only in test
    counts as new_whale there. On the competition's 9,850 rows: 7,240 to train, 2,610 to test, 298 of them new.

    `table` holds the rows of train.csv in its order (column Id).
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


def random_validation(table: pd.DataFrame, share: float, seed: int) -> list[int]:
    """Return the index labels of a random `share` of the rows: the reference procedure's split, flaws included."""
    order = np.random.default_rng(seed).permutation(len(table))[: round(share * len(table))]
    return [int(label) for label in table.index[order]]


def grouped_validation(table: pd.DataFrame, share: float, seed: int) -> list[int]:
    """Return the index labels of about `share` of the rows, by whole clusters of near-duplicates.

    A cluster is taken only if each of its labels keeps another one for training, so no validation
    photo is of an individual that training never saw. Where that leaves too few, fewer are taken.
    """
    left = table.groupby("Id")["together"].nunique().to_dict()
    rows_of, labels_of = table.groupby("together").groups, table.groupby("together")["Id"].agg(set)
    wanted = round(share * len(table))
    chosen: list[int] = []
    for cluster in np.random.default_rng(seed).permutation(np.unique(table["together"].to_numpy())):
        if len(chosen) + len(rows_of[cluster]) <= wanted and all(left[label] > 1 for label in labels_of[cluster]):
            chosen += rows_of[cluster].tolist()
            for label in labels_of[cluster]:
                left[label] -= 1
    return chosen


def set_aside(
    full: pd.DataFrame, small: pd.DataFrame, queries: pd.DataFrame, params: SelectParams, seed: int
) -> dict[str, str]:
    """Choose the photos of `full` that are never trained on: {Image: query or calibration}, disjoint in ids too.

    Known queries: for a share `params.holdout` of the individuals that have two or more clusters of photos, one
    cluster (all its photos, if near-duplicates), so that another cluster of the same individual stays. New
    queries: all photos of other individuals, held out whole, and new_whale photos, as many of either kind,
    so that new ones are about `params.new_share` of all. No more individuals are taken than make about
    `params.most_aside` queries. A cluster with several labels is never set aside, and of `small` no individual is held
    out whole and no new_whale photo is taken.

    Where there are `queries` already, which are not in `full`, calibration photos alone are chosen: no cluster of the
    queries, and no individual of theirs held out whole, so that what is right for them stays right.
    """
    if not params.holdout:
        return {}
    splits = (CALIBRATION,) if params.protocol == "mlebench" else (QUERY, CALIBRATION)
    generator = np.random.default_rng(derived_seed(seed, "aside"))
    labels = full.groupby("together")["Id"].transform("nunique")
    free = full[(labels == 1) & ~full["together"].isin(queries["together"])]
    clusters_of = _clusters_of_known(full, free)
    ids = generator.permutation(sorted(clusters_of))
    most = round(params.most_aside * (1 - params.new_share))
    number = max(1, min(round(params.holdout * len(ids)), most)) if len(ids) else 0
    used = {*ids[: len(splits) * number], *queries["Id"], *small["Id"]}
    new, whole = (
        [groups[index] for index in generator.permutation(len(groups))]
        for groups in _new_groups(full, free, small, used)
    )
    photos_of = free.groupby("together")["Image"].agg(list)
    aside: dict[str, str] = {}
    for part, split in enumerate(splits):
        chosen = ids[part * number : (part + 1) * number]
        for label in chosen:
            cluster = clusters_of[label][generator.integers(len(clusters_of[label]))]
            aside |= dict.fromkeys(photos_of[cluster], split)
        wanted = round(len(chosen) * params.new_share / (1 - params.new_share))
        aside |= dict.fromkeys(_take_new(new, whole, wanted), split)
    return aside


def _clusters_of_known(full: pd.DataFrame, free: pd.DataFrame) -> dict[str, list[int]]:
    """Return {individual with two or more clusters: those of them that are free}."""
    clusters = full[full["Id"] != NEW_WHALE].groupby("Id")["together"].nunique()
    rows = free[free["Id"].isin(clusters.index[clusters >= 2])]
    return {str(label): sorted(set(own)) for label, own in rows.groupby("Id")["together"]}


def _new_groups(full: pd.DataFrame, free: pd.DataFrame, small: pd.DataFrame, used: set[str]) -> tuple[Groups, Groups]:
    """Return what may play new whales: new_whale's free clusters, and whole individuals that are not in `used`."""
    new = free[(free["Id"] == NEW_WHALE) & ~free["together"].isin(small["together"])]
    whole = full[~full["Id"].isin({*used, *full.drop(free.index)["Id"], NEW_WHALE})]
    return new.groupby("together")["Image"].agg(list).tolist(), whole.groupby("Id")["Image"].agg(list).tolist()


def _take_new(new: Groups, whole: Groups, quota: int) -> list[str]:
    """Take groups off both lists, always from the kind that has given fewer photos, until `quota` are taken."""
    taken: tuple[list[str], list[str]] = ([], [])
    while len(taken[0]) + len(taken[1]) < quota and (new or whole):
        kind = 0 if new and (len(taken[0]) <= len(taken[1]) or not whole) else 1
        taken[kind].extend((new, whole)[kind].pop())
    return [*taken[0], *taken[1]]
