"""gallery.json: what a gallery is, which files hold it, and their checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_json
from flukeprint.core.sections import Count, MemberName
from flukeprint.gallery.cells import Cells
from flukeprint.gallery.fingerprint import Fingerprint

NAME = "gallery.json"
VERSION = 1
# Characters; nothing that a gallery is described by comes near.
_LONGEST = 1 << 20
_REPAIR = "Copy the gallery again from where it came, or make it anew (`dvc repro`)."

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# A name in a manifest opens a file: it can only be one of ours, in the same folder.
DataFile = Annotated[str, StringConstraints(pattern=r"^(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet)$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRecord(_Record):
    """A data file."""

    name: DataFile
    bytes: Count
    sha256: Sha256


class Index(_Record):
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


class MemberRecord(_Record):
    """A member and its weights."""

    name: MemberName
    sha256: Sha256


class FingerprintRecord(_Record):
    """The fingerprint as JSON."""

    members: Annotated[list[MemberRecord], Field(min_length=1)]
    preprocessing: dict[str, Any]
    preprocessing_sha256: Sha256


class Manifest(_Record):
    """gallery.json, but for its own checksum."""

    version: Literal[1]
    fingerprint: FingerprintRecord
    photos: Count
    individuals: Count
    dimension: Count
    index: Index
    files: dict[str, FileRecord]

    @classmethod
    def of(
        cls,
        fingerprint: Fingerprint,
        photos: int,
        individuals: int,
        dimension: int,
        files: Mapping[str, FileRecord],
        index: Index,
    ) -> Manifest:
        """Describe a gallery."""
        record = FingerprintRecord.model_validate(json.loads(json.dumps(fingerprint.as_json())))
        return cls(
            version=1,
            fingerprint=record,
            photos=photos,
            individuals=individuals,
            dimension=dimension,
            index=index,
            files=dict(files),
        )

    @property
    def made_by(self) -> Fingerprint:
        """The fingerprint."""
        members = {member.name: member.sha256 for member in self.fingerprint.members}
        return Fingerprint(members, self.fingerprint.preprocessing)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        wanted = {"vectors", "photos"} | ({"centroids", "cells"} if self.index.kind == "ivf" else set())
        if set(self.files) != wanted:
            message = f"files are {sorted(self.files)}, expected {sorted(wanted)}"
            raise ValueError(message)
        if any(not record.name.startswith(f"{key}-{record.sha256[:16]}.") for key, record in self.files.items()):
            message = "a file is not named after its contents"
            raise ValueError(message)
        if len(self.made_by.members) != len(self.fingerprint.members):
            message = "a member is there twice"
            raise ValueError(message)
        if self.made_by.preprocessing_sha256 != self.fingerprint.preprocessing_sha256:
            message = "preprocessing_sha256 is not that of preprocessing"
            raise ValueError(message)
        return self


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put gallery.json in place, by one rename."""
    content = manifest.model_dump()
    write_json(folder / NAME, {**content, "sha256": _checksum(content)})


def read_manifest(folder: Path) -> Manifest:
    """Read and check gallery.json.

    Raises:
        FlukeprintError: there is none, it was changed, or a newer program made it.

    """
    path = folder / NAME
    content = _read_object(path)
    if content.get("version") != VERSION:
        raise FlukeprintError(
            f"{path} has version {content.get('version')!r}, this program reads {VERSION}. "
            "Use the program that made the gallery, or make it anew (`dvc repro`)."
        )
    checksum = content.pop("sha256", None)
    if checksum != _checksum(content):
        raise FlukeprintError(f"{path} was changed: it does not have the checksum that it names. {_REPAIR}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise FlukeprintError(f"{path} is not a gallery's: {key}: {fault['msg']}. {_REPAIR}") from None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.loads(stream.read(_LONGEST))
    except (FileNotFoundError, NotADirectoryError):
        raise FlukeprintError(
            f"there is no gallery in {path.parent} ({NAME} is missing). Run `dvc repro gallery`, or name another."
        ) from None
    except (ValueError, RecursionError) as error:
        raise FlukeprintError(f"{path} is not valid JSON ({error}). {_REPAIR}") from None
    if not isinstance(content, dict):
        raise FlukeprintError(f"{path} holds a {type(content).__name__}, expected an object. {_REPAIR}")
    return content


def _checksum(content: dict[str, Any]) -> str:
    """Return the hex SHA-256 of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
