"""JSON files that describe others and carry a checksum of their own, checked before anything that they name is opened.

The checksum tells damage. It does not tell who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_json

# Characters; no manifest of ours comes near.
_LONGEST = 1 << 20

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Record(BaseModel):
    """A part of a manifest: unknown keys and other types are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True)
class Words:
    """How messages speak of a kind of manifest."""

    kind: str  # gallery, bundle
    missing: str  # what to do where there is none
    other_version: str
    repair: str


Content = TypeVar("Content", bound=Record)


def write_manifest(path: Path, content: Record) -> None:
    """Put a manifest in place, with its checksum, by one rename."""
    described = content.model_dump()
    write_json(path, {**described, "sha256": _checksum(described)})


def read_manifest(path: Path, model: type[Content], version: int, words: Words) -> Content:
    """Read and check a manifest.

    Raises:
        FlukeprintError: it is missing, was changed, was made by another version, or is not what `model` describes.

    """
    content = _read_object(path, words)
    if content.get("version") != version:
        raise FlukeprintError(
            f"{path} has version {content.get('version')!r}, this program reads {version}. {words.other_version}"
        )
    checksum = content.pop("sha256", None)
    if checksum != _checksum(content):
        raise FlukeprintError(f"{path} was changed: it does not have the checksum that it names. {words.repair}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise FlukeprintError(f"{path} is not a {words.kind}'s: {key}: {fault['msg']}. {words.repair}") from None


def _read_object(path: Path, words: Words) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.loads(stream.read(_LONGEST))
    except (FileNotFoundError, NotADirectoryError):
        raise FlukeprintError(
            f"there is no {words.kind} in {path.parent} ({path.name} is missing). {words.missing}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FlukeprintError(f"{path} is not valid JSON ({error}). {words.repair}") from None
    if not isinstance(content, dict):
        raise FlukeprintError(f"{path} holds a {type(content).__name__}, expected an object. {words.repair}")
    return content


def _checksum(content: dict[str, Any]) -> str:
    """Return the hex SHA-256 of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
