"""JSON files that describe others and carry a checksum of their own, checked before anything that they name is opened.

The checksum tells damage. It does not tell who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import read_json, reading, sha256_of, write_json
from flukeprint.core.param_types import Count

_LARGEST = 1 << 20  # bytes; no manifest of ours comes near
_LONGEST_REASON = 300  # characters

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """A part of a JSON file: unknown keys and other types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRecord(Record):
    """The size and the checksum of a file."""

    bytes: Count
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Describe a file."""
        return cls(bytes=path.stat().st_size, sha256=sha256_of(path))


Content = TypeVar("Content", bound=Record)
AManifest = TypeVar("AManifest", bound="Manifest")


class Manifest(Record):
    """What a manifest holds, but for its own checksum."""

    NAME: ClassVar[str]
    KIND: ClassVar[str]  # what its folder is: a gallery, a bundle
    VERSION: ClassVar[int]
    MISSING: ClassVar[str]  # what to do where there is none
    REPAIR: ClassVar[str]

    version: int

    def write(self, folder: Path) -> None:
        """Put the manifest in place, with its checksum, by one rename."""
        content = self.model_dump()
        write_json(folder / self.NAME, {**content, "sha256": _checksum(content)})

    @classmethod
    def read(cls: type[AManifest], folder: Path) -> AManifest:
        """Read and check a folder's manifest; refuse one that was changed, or is not as described."""
        path = folder / cls.NAME
        try:
            content = read_json(path, cls.REPAIR, _LARGEST)
        except MissingFileError:
            missing = f"({cls.NAME} is missing)"
            raise FlukeprintError(f"there is no {cls.KIND} in {folder} {missing}. {cls.MISSING}") from None
        if not isinstance(content, dict):
            raise FlukeprintError(f"{path} holds a {type(content).__name__}, expected an object. {cls.REPAIR}")
        if content.get("version") != cls.VERSION:
            raise FlukeprintError(
                f"{path} has version {content.get('version')!r:.99}, this program reads {cls.VERSION}. Use the program "
                f"that made it. {cls.REPAIR}"
            )
        if content.pop("sha256", None) != _checksum(content):
            raise FlukeprintError(f"{path} was changed: it does not have the checksum that it names. {cls.REPAIR}")
        return validated(path, cls, content, cls.REPAIR)

    def check_file(self, path: Path, record: FileRecord) -> None:
        """Check a file that the manifest lists; one that is missing or another is a FlukeprintError."""
        with reading(path, "the file that was listed", self.REPAIR):
            found = FileRecord.of(path)
        said = f"{self.NAME} says"
        if found.bytes != record.bytes:
            raise FlukeprintError(f"{path} has {found.bytes} bytes, {said} {record.bytes}: truncated? {self.REPAIR}")
        if found != record:
            hashes = f"its SHA-256 is {found.sha256[:12]}..., {said} {record.sha256[:12]}..."
            raise FlukeprintError(f"{path} was changed: {hashes} {self.REPAIR}")


def validated(path: Path, model: type[Content], content: Any, repair: str) -> Content:
    """Return what a JSON file holds as a record; refuse, by the file's and the key's name, what does not fit."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        reason = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"[:_LONGEST_REASON]
        raise FlukeprintError(f"{path} is not what it should be: {reason}. {repair}") from None


def _checksum(content: dict[str, Any]) -> str:
    """Return the hex SHA-256 of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
