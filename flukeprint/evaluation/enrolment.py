"""Enrolment: individuals that nothing was trained on are added with one photo each, and looked for with another.

Protocol. The gallery has one photo of every individual: of each known one the first by name of its photos in the
gallery, of each held-out one with photos of two or more occasions the first by name. (Photos of one occasion have one
number in the column `together`: near-duplicates, and encounters where they are known.) Queries are, of the held-out
ones, their photos of other occasions than the enrolled photo's; and beside them, of the known ones, the known queries
(split query), those that full fine-tuning left out apart from those it trained on: `finetune.min_photos` leaves
individuals out, and so does the small set. All search the same gallery, so all have as many distractors. Candidates are
ranked by cosine similarity of the networks' embeddings; the head of every class plays no part.

Held-out individuals are those of the queries and of the calibration queries: no decision is involved, and they are few.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import QUERY, is_trained
from flukeprint.evaluation.figures import rounded
from flukeprint.metrics.intervals import Resampling
from flukeprint.retrieval.vectors import chunks, vectors_of

Vectors = NDArray[np.float32]
# By the name of each similarity, the networks' embeddings and how many views `vectors_of` makes it of.
Embedded = Mapping[str, tuple[Sequence[Vectors], int]]

_RANKS = (1, 5)
# Queries that are compared with all enrolled photos at a time.
_QUERIES = 256


@dataclass(frozen=True)
class EnrolmentTest:
    """Which photos are enrolled and which are queries; numbers are rows of data/selected/full.parquet."""

    enrolled: NDArray[np.int64]  # one photo per individual
    queries: dict[str, NDArray[np.int64]]  # held_out, left_out, trained
    held_out: int  # individuals held out, with one occasion or more
    labels: NDArray[np.str_]  # of every row of the table

    def places_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place among `enrolled` of the photo of the individual that each query shows."""
        labels = self.labels[self.enrolled]
        order = np.argsort(labels)
        return np.asarray(order[np.searchsorted(labels[order], self.labels[rows])])


def enrolment_test(table: pd.DataFrame, learned: AbstractSet[str]) -> EnrolmentTest:
    """Choose the photos of the test from data/selected/full.parquet; `learned`: flukeprint/data/leaks.py."""
    rows = table.reset_index(drop=True)
    named = rows[rows["Id"] != NEW_WHALE]
    gallery = named[is_trained(named)]
    known = set(gallery["Id"])
    held_out = named[~is_trained(named) & ~named["Id"].isin(known)].sort_values("Image")
    several = held_out[held_out.groupby("Id")["together"].transform("nunique") >= 2]
    enrolled = several.drop_duplicates("Id")
    occasion = enrolled.set_index("Id")["together"]
    again = several[several["together"] != several["Id"].map(occasion)]
    first = gallery.sort_values("Image").drop_duplicates("Id")
    queries = named[(named["split"] == QUERY) & named["Id"].isin(known)]
    trained = queries["Id"].isin(learned)
    return EnrolmentTest(
        np.sort(np.concatenate([first.index.to_numpy(), enrolled.index.to_numpy()])),
        {
            "held_out": again.index.to_numpy(),
            "left_out": queries.index[~trained].to_numpy(),
            "trained": queries.index[trained].to_numpy(),
        },
        int(held_out["Id"].nunique()),
        rows["Id"].to_numpy(dtype=str),
    )


def enrol(
    table: pd.DataFrame,
    learned: AbstractSet[str],
    embedded: Mapping[str, tuple[Sequence[Vectors], int]],
    resamples: int,
) -> dict[str, Any]:
    """Return metrics/enrolment.json: top-1 and top-5 of held-out, left-out and trained individuals, by each similarity.

    Intervals: 95 %, bootstrap over individuals. An individual that ties with the right one counts as before it. Table
    and `learned` as for `enrolment_test`; column `pixel` of the table names rows of the embeddings.
    """
    test = enrolment_test(table, learned)
    photos = table["pixel"].to_numpy()
    found: dict[str, Any] = {"gallery_photos": len(test.enrolled), "held_out_individuals": test.held_out}
    for kind, rows in test.queries.items():
        found[kind] = {"queries": len(rows), "individuals": len(np.unique(test.labels[rows]))}
    for name, (parts, views) in embedded.items():
        enrolled = vectors_of(parts, photos[test.enrolled], views)
        for kind, rows in test.queries.items():
            if len(rows):
                ranks = [
                    _ranks(vectors_of(parts, photos[some], views), enrolled, test.places_of(some))
                    for some in chunks(rows, _QUERIES)
                ]
                found[kind][name] = _shares(np.concatenate(ranks), test.labels[rows], resamples)
    return found


def _ranks(queries: Vectors, enrolled: Vectors, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each query's one right photo among those that are enrolled; `right`: its place there."""
    from threadpoolctl import threadpool_limits

    # One thread: the last bits of a product depend on their number.
    with threadpool_limits(1):
        scores = queries @ enrolled.T
    own = np.take_along_axis(scores, right[:, None], axis=1)
    return np.asarray((scores >= own).sum(axis=1))


def _shares(ranks: NDArray[np.int64], individuals: NDArray[np.str_], resamples: int) -> dict[str, float]:
    within = np.stack([ranks <= k for k in _RANKS], axis=1).astype(float)
    intervals = Resampling(individuals, resamples=resamples).intervals(within)
    top1, top5 = (interval.figures(f"top{k}") for k, interval in zip(_RANKS, intervals, strict=True))
    return rounded(top1 | top5)
