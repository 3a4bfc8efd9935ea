"""gallery.json: what a gallery is, which files hold it, and their checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints, model_validator

from flukeprint.core import manifests
from flukeprint.core.manifests import Record, Sha256
from flukeprint.core.sections import Count
from flukeprint.retrieval.cells import Cells
from flukeprint.retrieval.provenance import Provenance

NAME = "gallery.json"
VERSION = 2
_WORDS = manifests.Words(
    kind="gallery",
    missing="Run `dvc repro gallery`, or name another.",
    other_version="Use the program that made the gallery, or make it anew (`dvc repro`).",
    repair="Copy the gallery again from where it came, or make it anew (`dvc repro`).",
)

# A name in a manifest opens a file: it can only be one of ours, in the same folder.
DataFile = Annotated[str, StringConstraints(pattern=r"^(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet)$")]


class FileRecord(Record):
    """A data file."""

    name: DataFile
    bytes: Count
    sha256: Sha256


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


class GalleryManifest(Record):
    """gallery.json, but for its own checksum."""

    version: Literal[2]
    provenance: Provenance
    photos: Count
    individuals: Count
    dimension: Count
    index: Index
    files: dict[str, FileRecord]

    @classmethod
    def of(
        cls,
        provenance: Provenance,
        photos: int,
        individuals: int,
        dimension: int,
        files: Mapping[str, FileRecord],
        index: Index,
    ) -> GalleryManifest:
        """Describe a gallery."""
        return cls(
            version=2,
            provenance=provenance,
            photos=photos,
            individuals=individuals,
            dimension=dimension,
            index=index,
            files=dict(files),
        )

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> GalleryManifest:
        wanted = {"vectors", "photos"} | ({"centroids", "cells"} if self.index.kind == "ivf" else set())
        if set(self.files) != wanted:
            message = f"files are {sorted(self.files)}, expected {sorted(wanted)}"
            raise ValueError(message)
        if any(not record.name.startswith(f"{key}-{record.sha256[:16]}.") for key, record in self.files.items()):
            message = "a file is not named after its contents"
            raise ValueError(message)
        if self.index.kind == "ivf" and not (1 <= self.index.probes <= self.index.cells and self.photos >= 1):
            message = f"{self.index.probes} of {self.index.cells} cells cannot be searched for {self.photos} photos"
            raise ValueError(message)
        return self


def write_manifest(folder: Path, manifest: GalleryManifest) -> None:
    """Put gallery.json in place, by one rename."""
    manifests.write_manifest(folder / NAME, manifest)


def read_manifest(folder: Path) -> GalleryManifest:
    """Read and check gallery.json.

    Raises:
        FlukeprintError: there is none, it was changed, or a newer program made it.

    """
    return manifests.read_manifest(folder / NAME, GalleryManifest, VERSION, _WORDS)
