"""gallery.json: what a gallery is, and the sizes and checksums of the files that hold it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from flukeprint.core.manifests import FileRecord, Manifest, Record
from flukeprint.core.param_types import AtLeastOne, Count
from flukeprint.retrieval.provenance import Provenance

Part = Literal["vectors", "photos", "centroids", "cells"]
# What data files are called: a part, the start of its SHA-256, and the suffix of its format.
DATA_FILE = re.compile(r"(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet)")


class CellsRecord(Record):
    """The cells through which a large gallery is searched."""

    number: AtLeastOne
    probes: AtLeastOne  # cells that a query looks into
    trained_on: Count  # photos that there were when the cells were made


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
    exact_up_to: Count  # photos; more are searched through `cells`
    cells: CellsRecord | None
    files: dict[Part, FileRecord]

    def path(self, folder: Path, part: Part) -> Path:
        """Return the data file of a part."""
        return folder / data_file_name(part, self.files[part])

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> GalleryManifest:
        wanted = {"vectors", "photos"} | ({"centroids", "cells"} if self.cells else set())
        if set(self.files) != wanted:
            message = f"files are {sorted(self.files)}, expected {sorted(wanted)}"
            raise ValueError(message)
        if self.cells and (self.cells.probes > self.cells.number or not self.photos):
            message = f"{self.cells.probes} of {self.cells.number} cells cannot be searched for {self.photos} photos"
            raise ValueError(message)
        return self


def data_file_name(part: Part, record: FileRecord) -> str:
    """Return the name that a data file's contents give it."""
    return f"{part}-{record.sha256[:16]}.{'parquet' if part == 'photos' else 'npy'}"
