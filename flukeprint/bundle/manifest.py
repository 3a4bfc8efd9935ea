"""manifest.json of a bundle: every file with its checksum. All is checked before anything else is read.

The gallery's folder and its album are not listed: both grow by `flukeprint enroll`, and carry their own checksums.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of, write_json
from flukeprint.core.sections import Count
from flukeprint.core.text import printable

NAME = "manifest.json"
VERSION = 1
GALLERY, ALBUM = "gallery", "gallery.album"
# Characters; a manifest that describes a bundle of ours is far shorter.
_LONGEST = 1 << 20
_GALLERY_FILE = re.compile(r"gallery/(gallery\.json|(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet))")
# What writers leave beside a gallery: locks, and files under way.
_PASSING = re.compile(r"(gallery/)?\.[^/]*\.(lock|tmp)")
_REPAIR = "Copy the bundle again from where it came, or make it anew (`flukeprint export`)."

# Names open files: only those that `flukeprint export` writes are taken, so none leads out of the folder.
Name = Annotated[
    str,
    StringConstraints(
        pattern=r"^(README\.md|preprocessing\.json|decision\.json|members/[A-Za-z0-9][A-Za-z0-9_-]*\.(safetensors|onnx))$"
    ),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileRecord(_Record):
    """A file's size and checksum."""

    bytes: Count
    sha256: Sha256


class Manifest(_Record):
    """manifest.json, but for its own checksum."""

    version: Literal[1]
    files: dict[Name, FileRecord]


def write_manifest(folder: Path) -> None:
    """List every file that is in the folder, but for the gallery and its album."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name, _ in _entries(folder)
        if not _own_checksum(name)
    }
    content = Manifest.model_validate({"version": VERSION, "files": files}).model_dump()
    write_json(folder / NAME, {**content, "sha256": _checksum(content)})


def check_files(folder: Path) -> Manifest:
    """Check that a bundle's folder holds the files that its manifest lists, unchanged, and no others.

    Raises:
        FlukeprintError: it does not; the message names the first file that is wrong.

    """
    manifest = _read(folder / NAME)
    found = dict(_entries(folder))
    for name, kind in sorted(found.items()):
        if not stat.S_ISREG(kind):
            raise FlukeprintError(f"{folder}/{printable(name)} is no regular file, as a link is none. {_REPAIR}")
        if name not in manifest.files and name != NAME and not _own_checksum(name):
            raise FlukeprintError(f"{folder}/{printable(name)} does not belong to the bundle. Remove it, or: {_REPAIR}")
    for name, record in manifest.files.items():
        if name not in found:
            raise FlukeprintError(f"{folder}/{name} is missing. {_REPAIR}")
        _check(folder / name, record)
    return manifest


def _check(path: Path, record: FileRecord) -> None:
    size = path.stat().st_size
    if size != record.bytes:
        raise FlukeprintError(f"{path} has {size} bytes, {NAME} says {record.bytes}: truncated? {_REPAIR}")
    digest = sha256_of(path)
    if digest != record.sha256:
        raise FlukeprintError(
            f"{path} was changed: its SHA-256 is {digest[:12]}..., {NAME} says {record.sha256[:12]}... {_REPAIR}"
        )


def _own_checksum(name: str) -> bool:
    return name == ALBUM or bool(_GALLERY_FILE.fullmatch(name) or _PASSING.fullmatch(name))


def _entries(folder: Path, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield (path in the bundle, mode) of everything but folders; links are not followed."""
    for entry in os.scandir(folder / prefix):
        name = f"{prefix}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(folder, f"{name}/")
            continue
        try:
            yield name, entry.stat(follow_symlinks=False).st_mode
        except FileNotFoundError:
            # A gallery's writer has just replaced it; what the manifest lists is missed later.
            continue


def _read(path: Path) -> Manifest:
    content = _read_object(path)
    if content.get("version") != VERSION:
        raise FlukeprintError(
            f"{path} has version {content.get('version')!r}, this program reads {VERSION}. Use the program that made "
            "the bundle, or make it anew (`flukeprint export`)."
        )
    checksum = content.pop("sha256", None)
    if checksum != _checksum(content):
        raise FlukeprintError(f"{path} was changed: it does not have the checksum that it names. {_REPAIR}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = printable(".".join(map(str, fault["loc"])))
        raise FlukeprintError(f"{path} is not a bundle's: {key}: {fault['msg']}. {_REPAIR}") from None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.is_symlink():
        raise FlukeprintError(
            f"there is no bundle in {path.parent} ({NAME} is missing). Name a folder that `flukeprint export` wrote."
        )
    try:
        with path.open(encoding="utf-8") as stream:
            content = json.loads(stream.read(_LONGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise FlukeprintError(f"{path} is not valid JSON ({error}). {_REPAIR}") from None
    if not isinstance(content, dict):
        raise FlukeprintError(f"{path} holds a {type(content).__name__}, expected an object. {_REPAIR}")
    return content


def _checksum(content: dict[str, Any]) -> str:
    """Return the hex SHA-256 of the content as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
