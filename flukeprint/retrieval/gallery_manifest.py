"""gallery.json: what a gallery is, and the sizes and checksums of the files that hold it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from flukeprint.core.manifests import FileRecord, Manifest, Record
from flukeprint.core.param_types import AtLeastOne, Count
from flukeprint.retrieval.provenance import Provenance

Part = Literal["vectors", "photos", "axes", "codes"]
# What data files are called: a part, the start of its SHA-256, and the suffix of its format.
DATA_FILE = re.compile(r"(vectors|photos|axes|codes)-[0-9a-f]{16}\.(npy|parquet)")


class CodesRecord(Record):
    """The codes through which a large gallery is searched."""

    axes: Annotated[int, Field(ge=2, le=1024, multiple_of=2)]  # each photo has 4 bits of
    fetched: AtLeastOne  # nearest codes whose vectors are compared with a query


class GalleryManifest(Manifest):
    """gallery.json, but for its own checksum."""

    NAME: ClassVar = "gallery.json"
    KIND: ClassVar = "gallery"
    VERSION: ClassVar = 3
    MISSING: ClassVar = "Run `dvc repro gallery`, or name another."
    REPAIR: ClassVar = "Copy the gallery again from where it came, or make it anew (`dvc repro`)."

    provenance: Provenance
    photos: Count
    individuals: Count
    dimension: Count
    exact_up_to: Count  # photos; more are searched through `codes`
    codes: CodesRecord | None
    files: dict[Part, FileRecord]

    def path(self, folder: Path, part: Part) -> Path:
        """Return the data file of a part."""
        return folder / data_file_name(part, self.files[part])

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> GalleryManifest:
        wanted = {"vectors", "photos"} | ({"axes", "codes"} if self.codes else set())
        if set(self.files) != wanted:
            message = f"files are {sorted(self.files)}, expected {sorted(wanted)}"
            raise ValueError(message)
        if self.codes and self.codes.fetched > self.photos:
            message = f"{self.codes.fetched} codes cannot be fetched of {self.photos} photos"
            raise ValueError(message)
        return self


def data_file_name(part: Part, record: FileRecord) -> str:
    """Return the name that a data file's contents give it."""
    return f"{part}-{record.sha256[:16]}.{'parquet' if part == 'photos' else 'npy'}"
