"""From a folder in Kaggle's layout to the frames that the rules are checked on. Every photo is decoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flukeprint.core.params import DuplicateParams, ValidateParams
from flukeprint.core.safe_text import told_apart
from flukeprint.core.worker_processes import Workers
from flukeprint.data.inspection import PhotoRecord, inspect_photos
from flukeprint.data.labels import ENCOUNTER, NEW_WHALE, TAKEN_AT
from flukeprint.data.near_duplicates import columns_of, conflicting_labels, near_duplicate_clusters
from flukeprint.data.photo_folders import FolderContents, NearlyNamed, hint_beside, list_folder
from flukeprint.data.photos import plain_file_name
from flukeprint.data.spellings import unknown_among, usual_spellings
from flukeprint.data.tables import Table, empty_table, escaped, read_table

Frames = dict[str, pd.DataFrame]
# Of train and test: the remarks of flukeprint/data/cropping.py on each photo that has one.
Flukes = Mapping[str, Mapping[str, Mapping[str, str]]]

# The tables that name the photos of each folder.
_TABLE_OF = {"train": "train", "test": "submission"}
_RECORDED = [*(spec.name for spec in fields(PhotoRecord) if spec.name != "name"), "short_side"]


@dataclass
class Inputs:
    """What a folder in Kaggle's layout holds, before any photo is opened."""

    folder: Path
    tables: dict[str, Table]  # train, submission, and exclusions if there is such a file
    listing: dict[str, FolderContents | None]  # of train/ and test/; None: no such folder
    excluded: list[tuple[str, str, int]] = field(default_factory=list)  # (Image, reason, rows left out)

    @property
    def readable(self) -> bool:
        """Whether photos can be looked at: all tables and folders could be read."""
        return all(table.readable for table in self.tables.values()) and None not in self.listing.values()


def read_inputs(folder: Path, max_rows: int, exclusions: Path | None = None) -> Inputs:
    """Read the tables and list the folders. The rows that exclusions name are taken out of train."""
    tables = {
        "train": read_table(folder / "train.csv", max_rows=max_rows, optional=(ENCOUNTER, TAKEN_AT)),
        "submission": read_table(folder / "sample_submission.csv", max_rows=max_rows),
    }
    if exclusions is not None and os.path.lexists(exclusions):
        tables["exclusions"] = read_table(exclusions, ("Image", "reason"), max_rows)
    named = {part: frozenset(tables[table].frame["Image"].dropna()) for part, table in _TABLE_OF.items()}
    inputs = Inputs(folder, tables, {part: _listed(folder / part, names) for part, names in named.items()})
    if not any(os.path.lexists(folder / name) for name in ("sample_submission.csv", "test")):
        # A catalogue with nothing to label is whole without them.
        inputs.tables["submission"], inputs.listing["test"] = empty_table("sample_submission.csv"), FolderContents()
    if "exclusions" in tables:
        _exclude(inputs)
    return inputs


def _listed(folder: Path, named: Collection[str]) -> FolderContents | None:
    """List a folder; None if there is none.

    A name that is not UTF-8 stands with escapes: the backslashes make it no plain name, so it is never opened.
    """
    try:
        content = list_folder(folder, named)
    except OSError:
        return None
    return FolderContents(sorted(map(escaped, content.photos)), sorted(map(escaped, content.others)))


def _exclude(inputs: Inputs) -> None:
    """Take the excluded photos' rows out of the training table, and note which entry took how many."""
    train, entries = inputs.tables["train"], inputs.tables["exclusions"].frame
    rows_of = train.frame["Image"].value_counts()
    entries["known"] = entries["Image"].isin(rows_of.index).astype(bool)
    named = entries[entries["known"]].dropna(subset="reason").drop_duplicates("Image")
    inputs.excluded = [
        (image, why, int(rows_of[image])) for image, why in zip(named["Image"], named["reason"], strict=True)
    ]
    train.frame = train.frame[~train.frame["Image"].isin(named["Image"])].reset_index(drop=True)


# --- frames about files and tables ------------------------------------------------------------------------


def table_frames(inputs: Inputs, params: ValidateParams) -> Frames:
    """Return the frames that need no photo: files, malformed."""
    # An exclusions file may be empty below its header, and so may the sample submission where test/ is.
    test = inputs.listing["test"]
    least = {"train.csv": params.rows[0], "sample_submission.csv": 1 if test and test.photos else 0}
    files = [_file_row(table, least.get(table.file, 0), params.rows[1]) for table in inputs.tables.values()]
    for name, names in inputs.listing.items():
        hint = hint_beside(inputs.folder / name) if names is None else ""
        missing = f"is missing, or is not a folder that can be read{hint}" if names is None else None
        files.append({"file": f"{name}/", "present": names is not None, "missing": missing})
    malformed = [(table.file, row, fault) for table in inputs.tables.values() for row, fault in table.faults]
    return {
        "files": pd.DataFrame(files).astype(object),
        "malformed": pd.DataFrame(malformed, columns=["file", "csv_line", "fault"]).astype(object),
    }


def _file_row(table: Table, least: int, most: int) -> dict[str, Any]:
    """Return what the rules on files look at; null where a rule before it has failed."""
    stopped = bool(table.faults) and not table.complete
    enough = table.complete and table.rows >= least
    empty = None if table.missing or stopped else "empty: the file holds nothing"
    return {
        "file": table.file,
        "present": table.missing is None,
        "missing": table.missing,
        "header": empty if table.header is None else repr(table.header),
        "columns": repr(",".join(table.columns)),
        "rows_found": str(table.rows) if table.complete else f"more than {most}",
        "row_count_is_right": enough if table.header_is_right and not stopped else None,
    }


# --- frames about photos ----------------------------------------------------------------------------------


def photo_frames(
    inputs: Inputs,
    params: ValidateParams,
    workers: Workers,
    meanwhile: Callable[[], None] = lambda: None,
    flukes: Flukes | None = None,
) -> Frames:
    """Decode every photo, once, and return the frames that need them: all but those of `table_frames`.

    `meanwhile` is called while the `workers` decode. What `flukes` says of photos becomes part of their records.
    """
    contents = {part: content or FolderContents() for part, content in inputs.listing.items()}
    frames = {
        "train": _train_rows(inputs.tables["train"].frame, contents["train"], params),
        "test": _test_rows(inputs.tables["submission"].frame, contents["test"]),
        "submission": _with_rows_of_image(inputs.tables["submission"].frame),
        "raw_files": _raw_files(contents),
    }
    names = {inputs.folder / part: _present(frames[part]) for part in ("train", "test")}
    records = inspect_photos(names, workers, params.max_pixels, meanwhile)
    for folder, found in records.items():
        said = (flukes or {}).get(folder.name, {})
        complete = [_with_remarks(record, said.get(record.name, {})) for record in found]
        frames[folder.name] = frames[folder.name].join(_as_frame(complete), on="Image")
    _add_clusters(frames, {folder.name: found for folder, found in records.items()}, params.duplicates)
    frames |= {"clusters": _cluster_rows(frames["train"]), "label_pairs": _label_pairs(frames["train"])}
    named = [*frames["train"]["Image"].dropna(), *(image for image, _, _ in inputs.excluded)]
    frames["train_files"] = _train_files(contents["train"].photos, named)
    if "exclusions" in inputs.tables:
        frames["exclusions"] = _with_rows_of_image(inputs.tables["exclusions"].frame)
        frames["exclusions"]["hint"] = _hints(frames["exclusions"]["Image"], named)
    return frames


def _with_remarks(record: PhotoRecord, said: Mapping[str, str]) -> PhotoRecord:
    return replace(record, no_fluke=said.get("no_fluke", ""), upside_down=said.get("upside_down", ""))


def _train_files(photos: Sequence[str], named: Collection[str]) -> pd.DataFrame:
    """Return one row per photo in train/; `named` are those of train.csv."""
    known = set(named)
    files = {"path": [f"train/{name}" for name in photos], "listed": [name in known for name in photos]}
    frame = pd.DataFrame({"file": "train/", **files}, index=range(len(photos)))
    return frame.assign(hint=_hints(pd.Series(photos, dtype=object), named))


def _raw_files(contents: Mapping[str, FolderContents]) -> pd.DataFrame:
    """Return one row per raw file of a camera that has no photo of its name beside it."""
    rows = [(f"{part}/", f"{part}/{name}") for part, content in contents.items() for name in content.raw]
    return pd.DataFrame(rows, columns=["file", "path"]).astype(object)


def _hints(names: pd.Series[Any], there: Iterable[str]) -> pd.Series[Any]:
    """Return for each name the hint to one that is nearly the same, or nothing."""
    if not names.notna().any():
        return pd.Series("", index=names.index, dtype=object)
    return names.fillna("").map(NearlyNamed(there).hint)


def _present(rows: pd.DataFrame) -> list[str]:
    """Return the names of the photos that can be looked at."""
    present = rows.loc[rows["present"].eq(True), "Image"].drop_duplicates()
    return [name for name in present if plain_file_name(name)]


def _train_rows(table: pd.DataFrame, content: FolderContents, params: ValidateParams) -> pd.DataFrame:
    """Return the rows of train.csv with what the rules on labels look at."""
    frame = _with_rows_of_image(table)
    frame = frame.assign(**{name: None for name in (ENCOUNTER, TAKEN_AT) if name not in frame})
    unknown = frame["Id"].isin(unknown_among(frame["Id"].dropna(), params.unknown.words))
    if params.unknown.as_new_whale:
        frame["Id"] = frame["Id"].mask(unknown, NEW_WHALE)
    frame["read_as_new"] = unknown & params.unknown.as_new_whale
    frame["means_unknown"] = unknown & ~frame["read_as_new"]
    # Whether a file of that name exists is not asked of a name with a path in it: that rule is plain_names.
    plain = frame["Image"].map(plain_file_name, na_action="ignore").eq(True)
    frame["present"] = frame["Image"].isin(content.photos).astype(object).where(plain, None)
    frame["hint"] = _hints(frame["Image"].where(frame["present"].eq(False)), (*content.photos, *content.others))
    frame["path"] = "train/" + frame["Image"].fillna("")
    frame["is_new"] = frame["Id"].eq(NEW_WHALE).astype(float)
    frame["usual_spelling"] = frame["Id"].map(usual_spellings(frame["Id"].dropna()))
    frame["usual_id"] = [
        told_apart(label, usual) if label != usual and isinstance(label, str) else None
        for label, usual in zip(frame["Id"], frame["usual_spelling"], strict=True)
    ]
    return frame


def _with_rows_of_image(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy in which each row holds its line, and the rows in which its photo is listed, if in several."""
    frame = table.astype(dict.fromkeys(table.columns.drop("csv_line"), object))
    frame = frame.where(frame.notna(), None)
    again = frame[frame["Image"].notna() & frame["Image"].duplicated(keep=False)]
    lines = again["csv_line"].astype(str).groupby(again["Image"]).agg(lambda lines: _some(list(lines), 5))
    frame["rows_of_image"] = frame["Image"].map(lines)
    cells = [frame[column].fillna("") for column in table.columns.drop(["file", "csv_line", "known"], errors="ignore")]
    frame["cells"] = [",".join(row) for row in zip(*cells, strict=True)]
    return frame


def _some(texts: Sequence[str], most: int) -> str:
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _test_rows(submission: pd.DataFrame, content: FolderContents) -> pd.DataFrame:
    """Return one row per test photo, by name: those in test/ and those in sample_submission.csv."""
    submitted = submission[submission["Image"].notna()]
    rows = dict(zip(submitted["Image"], submitted["csv_line"], strict=True))
    frame = pd.DataFrame({"Image": sorted({*content.photos, *rows})}, dtype=object)
    frame["present"] = frame["Image"].isin(content.photos)
    frame["submitted"] = frame["Image"].isin(rows)
    places = frame["submitted"].map({True: "sample_submission.csv", False: "test/"})
    frame["file"], frame["absent_from"] = places, frame["present"].map({True: "sample_submission.csv", False: "test/"})
    there = frame["Image"].where(frame["present"] ^ frame["submitted"])
    frame["hint"] = _hints(there, (*rows, *content.photos, *content.others))
    frame["csv_line"] = pd.Series([rows.get(name) for name in frame["Image"]], dtype=object)
    frame["path"] = "test/" + frame["Image"]
    return frame


def _as_frame(records: Sequence[PhotoRecord]) -> pd.DataFrame:
    """Return records as a frame by photo name; a photo with a fault has nothing but its fault, size and hash."""
    columns = {name: [getattr(record, name) for record in records] for name in _RECORDED}
    frame = pd.DataFrame(columns, index=[record.name for record in records], dtype=object)
    faulty = frame["fault"].notna()
    frame.loc[faulty, frame.columns.difference(["fault", "bytes", "sha256"])] = None
    frame["decodes"] = ~faulty
    frame = frame.astype({"short_side": float, "contrast": float})
    kinds = map(_suffix_and_format, frame.index, frame["format"])
    frame["suffix_and_format"] = pd.Series(kinds, frame.index, dtype=object)
    return frame


def _suffix_and_format(name: str, found: str | None) -> str | None:
    # MPO is what Pillow calls a JPEG that holds several pictures.
    return found and f"{Path(name).suffix.lower()} {'JPEG' if found == 'MPO' else found}"


# --- near-duplicates --------------------------------------------------------------------------------------


def _add_clusters(frames: Frames, records: Mapping[str, Sequence[PhotoRecord]], rule: DuplicateParams) -> None:
    """Add the columns `cluster` (numbered over train and test together; null if unread) and, to test, `same_in_train`.

    `records` are those of train, then those of test.
    """
    readable = {part: [record for record in found if record.fault is None] for part, found in records.items()}
    columns = columns_of([*chain(*readable.values())], same_size=rule.same_size)
    clusters = iter(near_duplicate_clusters(**columns, max_bits=rule.bits, max_mse=rule.mse).tolist())
    for part, found in readable.items():
        frames[part]["cluster"] = frames[part]["Image"].map({record.name: next(clusters) for record in found})
    first = frames["train"].dropna(subset="cluster").drop_duplicates("cluster").set_index("cluster")["Image"]
    frames["test"]["same_in_train"] = frames["test"]["cluster"].map(first)


def _cluster_rows(train: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cluster that holds several training photos."""
    shared = train[train["cluster"].notna() & train["Id"].notna() & train["cluster"].duplicated(keep=False)]
    shared = shared.sort_values("cluster", kind="stable")
    members = zip(*(shared[name] for name in ("cluster", "Image", "csv_line", "Id")), strict=True)
    rows = []
    for cluster, group in groupby(members, itemgetter(0)):
        _, images, lines, labels = zip(*group, strict=True)
        named = [f"{image} (row {line}, {label})" for image, line, label in zip(images, lines, labels, strict=True)]
        rows.append((int(cluster), len(set(images)), len(set(labels)), _some(named, 6), list(images)))
    return pd.DataFrame(rows, columns=["cluster", "photos", "labels", "members", "images"]).assign(file="train.csv")


def _label_pairs(train: pd.DataFrame) -> pd.DataFrame:
    known = train[train["cluster"].notna() & train["Id"].notna()]
    pairs = conflicting_labels(np.array(known["cluster"], np.int64), known["Id"].tolist())
    return pd.DataFrame(pairs, columns=["label", "other_label", "clusters"]).assign(file="train.csv")
