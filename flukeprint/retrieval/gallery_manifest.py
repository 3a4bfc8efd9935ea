"""gallery.json: what a gallery is, and the sizes and checksums of the files that hold it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from flukeprint.core.manifests import FileRecord, Manifest, Record
from flukeprint.core.sections import Count
from flukeprint.retrieval.cells import Cells
from flukeprint.retrieval.provenance import Provenance

Part = Literal["vectors", "photos", "centroids", "cells"]
# What data files are called: a part, the start of its SHA-256, and the suffix of its format.
DATA_FILE = re.compile(r"(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet)")


class Index(Record):
    """How the gallery is searched: all of it, or through cells (the last three are 0 if there are none)."""

    kind: Literal["exact", "ivf"]
    exact_up_to: Count
    cells: Count
    probes: Count
    trained_on: Count

    @classmethod
    def of(cls, exact_up_to: int, cells: Cells | None) -> Index:
        """Describe a gallery's cells."""
        if cells is None:
            return cls(kind="exact", exact_up_to=exact_up_to, cells=0, probes=0, trained_on=0)
        counts = {"cells": len(cells.centroids), "probes": cells.probes, "trained_on": cells.trained_on}
        return cls(kind="ivf", exact_up_to=exact_up_to, **counts)


class GalleryManifest(Manifest):
    """gallery.json, but for its own checksum."""

    NAME: ClassVar = "gallery.json"
    KIND: ClassVar = "gallery"
    VERSION: ClassVar = 2
    MISSING: ClassVar = "Run `dvc repro gallery`, or name another."
    REPAIR: ClassVar = "Copy the gallery again from where it came, or make it anew (`dvc repro`)."

    provenance: Provenance
    photos: Count
    individuals: Count
    dimension: Count
    index: Index
    files: dict[Part, FileRecord]

    def path(self, folder: Path, part: Part) -> Path:
        """Return the data file of a part."""
        return folder / data_file_name(part, self.files[part])

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> GalleryManifest:
        index, wanted = self.index, {"vectors", "photos"}
        if index.kind == "ivf":
            wanted |= {"centroids", "cells"}
            if not (1 <= index.probes <= index.cells and self.photos >= 1):
                message = f"{index.probes} of {index.cells} cells cannot be searched for {self.photos} photos"
                raise ValueError(message)
        if set(self.files) != wanted:
            message = f"files are {sorted(self.files)}, expected {sorted(wanted)}"
            raise ValueError(message)
        return self


def data_file_name(part: Part, record: FileRecord) -> str:
    """Return the name that a data file's contents give it."""
    return f"{part}-{record.sha256[:16]}.{'parquet' if part == 'photos' else 'npy'}"
