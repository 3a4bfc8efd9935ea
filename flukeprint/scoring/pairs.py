"""Pairs of photos for verification ("do these two show the same whale?").

Protocol: every query of a known individual, with every photo of an individual in the gallery. A pair is of the same
individual if both labels are, else of different ones. Photos of new_whale make no pairs: nobody knows whom they show.
Where near-duplicates stay together (select.protocol: grouped) a query has none in the gallery, so no pair is nearly the
same picture twice. MLE-bench's split does not see to that.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.splits import is_trained


@dataclass(frozen=True)
class QueryPairs:
    """The pairs of Q queries with G photos of the gallery."""

    similarity: NDArray[np.float32]  # Q x G
    same: NDArray[np.bool_]  # Q x G
    individuals: NDArray[np.str_]  # Q: whom each query shows

    @property
    def both_kinds(self) -> bool:
        """Whether there are pairs of the same and of different individuals."""
        return bool(self.same.any() and not self.same.all())

    def counts(self) -> dict[str, int]:
        """Return how many queries, individuals among them, and pairs of either kind there are."""
        same = int(self.same.sum())
        return {
            "queries": len(self.same),
            "individuals": len(np.unique(self.individuals)),
            "same_pairs": same,
            "different_pairs": self.same.size - same,
        }


def pairs_of(similarity: NDArray[np.float32], table: pd.DataFrame, split: str) -> QueryPairs:
    """Return the pairs of one split's queries.

    Args:
        similarity: of the photos that were set aside to all photos, a file of data/predictions/similarity.
        table: data/selected/full.parquet.
        split: query or calibration.

    """
    in_gallery = is_trained(table) & (table["Id"] != NEW_WHALE).to_numpy(dtype=bool)
    queries = table[~is_trained(table)]
    known = set(table.loc[in_gallery, "Id"])
    rows = ((queries["split"] == split) & queries["Id"].isin(known)).to_numpy(dtype=bool)
    individuals = queries["Id"].to_numpy(dtype=str)[rows]
    labels, codes = np.unique(table["Id"].to_numpy(dtype=str)[in_gallery], return_inverse=True)
    same = np.searchsorted(labels, individuals)[:, None] == codes
    return QueryPairs(np.asarray(similarity)[np.ix_(rows, in_gallery)], same, individuals)
