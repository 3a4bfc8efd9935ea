"""Candidates: what a scorer says about photos, and the files data/predictions/{query,test}.parquet that hold it.

Columns of the files, one row per scorer and photo:

- `Image`, `scorer`; in query.parquet also `Id`, `split`, `truth` (new_whale for an individual unseen in training); in
  test.parquet also `individuals`: how many the searched gallery has, which is all labelled photos. Queries search the
  photos that were trained on;
- `candidates`: identities, best first, at most DEPTH; never new_whale;
- `scores`: one float32 for each candidate, larger is better;
- `new_score`: float32, new_whale's score on the same scale; missing (NaN) where the scorer has none;
- `features`, `new_features`: empty, but for the scorers that combine others (flukeprint/scoring/fusion.py). There
  `features` are K float32 for each candidate, one candidate after the other, and `new_features` L for the photo, NaN
  for what does not exist. Candidates are then the union of the best DEPTH by each feature, and every feature is exact
  for all of them. Until `calibrate` has fitted the weights, `scores` are the first feature and `new_score` is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.search import DEPTH, Candidates
from flukeprint.scoring.registry import scorer_of

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.floating]
Places = NDArray[np.int64]

# Columns in a group, whose largest score is looked at first.
_GROUP = 128
_COLUMNS = ("candidates", "scores", "new_score", "features", "new_features")


@dataclass(frozen=True, eq=False)
class Scored:
    """What one scorer says of n photos: up to m candidates each, best first, with K features; L features of the photo.

    A scorer with one score per candidate has K = 1, its score, and L = 1, that of new_whale. m is the same for all of a
    scorer's photos, however few candidates they have: the bits of a sum over candidates depend on it.
    """

    names: NDArray[np.str_]  # sorted labels; new_whale is none of them
    label: Places  # n x m, place in `names`; -1 where there is no further candidate
    features: Floats  # n x m x K, 0 where there is no candidate
    new_features: Floats  # n x L; NaN for what does not exist

    @property
    def filled(self) -> NDArray[np.bool_]:
        """Where there is a candidate, n x m."""
        return self.label >= 0

    @property
    def scores(self) -> Floats:
        """The first feature, n x m: the scores of a scorer that has one per candidate."""
        return self.features[:, :, 0]

    @property
    def new_score(self) -> Floats:
        """The first feature of the photo, n: new_whale's score of a scorer that has one per candidate."""
        return self.new_features[:, 0]

    def __len__(self) -> int:
        """Return the number of photos, n."""
        return len(self.label)

    def __getitem__(self, rows: Any) -> Scored:
        """Return what is said of some photos."""
        return Scored(self.names, self.label[rows], self.features[rows], self.new_features[rows])

    def labels(self) -> list[list[str]]:
        """Return each photo's candidates."""
        return [self.names[row[row >= 0]].tolist() for row in self.label]

    def log_unlisted(self, individuals: int) -> NDArray[np.float64]:
        """Return the logarithm of how many of a gallery's individuals are no candidate, n; -inf where all are."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.maximum(individuals - self.filled.sum(axis=1), 0)))

    def places_of(self, labels: Iterable[str]) -> Places:
        """Return the place in `names` of each label, -2 where it is none of them."""
        wanted = np.array([*labels], dtype=str)
        place = np.searchsorted(self.names, wanted)
        there = np.append(self.names, "")[place] == wanted
        return np.where(there & (place < len(self.names)), place, -2)


def joined(parts: Sequence[Scored]) -> Scored:
    """Put what a scorer says of consecutive photos together."""
    arrays = [(part.label, part.features, part.new_features) for part in parts]
    return Scored(parts[0].names, *map(np.concatenate, zip(*arrays, strict=True)))


def ranked(names: NDArray[np.str_], label: Places, scores: Floats, new_score: Floats, depth: int) -> Scored:
    """Keep the `depth` of n x m candidates with the largest scores, best first, equal ones by label."""
    order = np.lexsort((label, np.where(label >= 0, -scores, np.inf)), axis=1)[:, :depth]
    kept = np.take_along_axis(label, order, axis=1)
    values = np.where(kept >= 0, np.take_along_axis(scores, order, axis=1), 0)
    return Scored(names, kept, values[:, :, None].astype(scores.dtype), new_score[:, None])


def best_candidates(scores: NDArray[np.float32], labels: Sequence[str], depth: int = DEPTH) -> Scored:
    """Keep the `depth` best identities of each row of n x C scores; equal ones stand in order of their labels.

    The C labels are sorted; new_whale may be one of them.
    """
    names = np.array(labels, dtype=str)
    is_new = names == NEW_WHALE
    new_score = scores[:, is_new][:, 0] if is_new.any() else np.full(len(scores), np.nan, np.float32)
    # One more than wanted, and new_whale left out: without it there would be a copy of all scores.
    best = best_columns(scores, depth + 1)
    own = np.argsort(is_new[best], axis=1, kind="stable")[:, : min(depth, int((~is_new).sum()))]
    best = np.take_along_axis(best, own, axis=1)
    kept = np.take_along_axis(scores, best, axis=1)
    missing = ((0, 0), (0, depth - best.shape[1]))
    label = np.pad((np.cumsum(~is_new) - 1)[best], missing, constant_values=-1)
    return Scored(names[~is_new], label, np.pad(kept, missing)[:, :, None], new_score[:, None])


def best_columns(scores: NDArray[np.float32], depth: int) -> Places:
    """Return each row's columns with the largest values, best first, equal ones from left to right: n x depth."""
    columns = scores.shape[1]
    if columns <= depth:
        return np.argsort(-scores, axis=1, kind="stable")
    # As many groups of columns as are wanted have a value of at least `least`: what is smaller is none of the best.
    # Few are left to sort, which costs a twentieth of a partition of 40,000 columns.
    width = max(min(_GROUP, columns // (4 * depth)), 1)
    largest = np.maximum.reduceat(scores, np.arange(0, columns, width), axis=1)
    least = np.partition(largest, -depth, axis=1)[:, -depth, None]
    row, column = np.divmod(np.flatnonzero(scores >= least), columns)
    order = np.lexsort((column, -scores[row, column], row))
    first = np.searchsorted(row, np.arange(len(scores)))
    return np.asarray(column[order[first[:, None] + np.arange(depth)]])


def gallery_candidates(found: Candidates, names: Sequence[str] | NDArray[np.str_]) -> Scored:
    """Return what was found in a gallery of those individuals as the scorer `gallery` has it: nearest, centre."""
    features = np.stack([found.nearest, found.centre], axis=2).astype(np.float32)
    nothing = np.full((len(features), 1), np.nan, np.float32)
    return Scored(np.asarray(names, dtype=str), found.individual, features, nothing)


def from_lists(
    candidates: Sequence[Sequence[str]], features: Sequence[Floats | Sequence[float]], new_features: Floats, count: int
) -> Scored:
    """Make arrays of n lists of labels, best first, and of `count` features for each, one candidate after the other."""
    lengths = np.array([len(row) for row in candidates], np.int64)
    names, codes = np.unique(np.array([label for row in candidates for label in row], dtype=str), return_inverse=True)
    filled = np.arange(max(lengths.max(initial=0), count * DEPTH)) < lengths[:, None]
    label = np.full(filled.shape, -1)
    label[filled] = codes
    values = np.zeros((*filled.shape, count))
    values[filled] = np.concatenate([np.zeros(0), *features]).reshape(-1, count)
    return Scored(names, label, values, np.asarray(new_features, float))


def candidate_rows(photos: pd.DataFrame, scorer: str, scored: Scored) -> pd.DataFrame:
    """Return the rows of one scorer: the columns of `photos`, `scorer` and the five of the candidates."""
    import pandas as pd

    several = bool(scorer_of(scorer).features)
    features = [row[own] for row, own in zip(scored.features, scored.filled, strict=True)]
    nothing: list[list[float]] = [[]] * len(photos)
    columns = {
        "candidates": scored.labels(),
        "scores": [row[:, 0] for row in features],
        "features": [row.ravel() for row in features] if several else nothing,
        "new_features": list(scored.new_features) if several else nothing,
    }
    lists = {name: pd.Series(values, index=photos.index, dtype=object) for name, values in columns.items()}
    new_score = np.full(len(photos), np.nan, np.float32) if several else scored.new_score
    return photos.assign(scorer=scorer, new_score=new_score, **lists)[[*photos.columns, "scorer", *_COLUMNS]]


def scored_of(rows: pd.DataFrame, scorer: str) -> Scored:
    """Read the rows of one scorer; refuse other numbers of features than its candidates want."""
    known = scorer_of(scorer)
    candidates = rows["candidates"].tolist()
    if known.features:
        features, of_photo, photo_count = rows["features"], rows["new_features"].tolist(), len(known.photo_features)
    else:
        features, of_photo, photo_count = rows["scores"], [[value] for value in rows["new_score"]], 1
    count = max(len(known.features), 1)
    right = all(len(row) == count * len(labels) for row, labels in zip(features, candidates, strict=True))
    if not right or any(len(row) != photo_count for row in of_photo):
        raise FlukeprintError(
            f"the candidates of {scorer} have other features than {', '.join(known.features) or 'a score'}. "
            "Run `dvc repro ensemble` to make them anew."
        )
    new_features = np.array([*map(list, of_photo)], float).reshape(len(rows), photo_count)
    return from_lists(candidates, features.tolist(), new_features, count)


def write_candidates(path: Path | str, rows: pd.DataFrame) -> None:
    """Write rows of `candidate_rows`; the types are the same for no rows, and where no photo has a candidate."""
    import pyarrow as pa

    from flukeprint.core.files import write_parquet

    types = dict.fromkeys(_COLUMNS, pa.list_(pa.float32()))
    types |= {"candidates": pa.list_(pa.string()), "new_score": pa.float32(), "individuals": pa.int64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in rows.columns])
    write_parquet(path, pa.Table.from_pandas(rows, schema=schema, preserve_index=False))


def read_candidates(path: Path | str) -> pd.DataFrame:
    """Read query.parquet or test.parquet; refuse one that an older version of the pipeline wrote."""
    from flukeprint.core.files import read_frame

    rows = read_frame(path, repair="Run `dvc repro ensemble` to make it.")
    missing = [column for column in _COLUMNS if column not in rows]
    if missing:
        raise FlukeprintError(f"{path} has no column {missing[0]!r}. Run `dvc repro ensemble` to make it anew.")
    return rows
