"""manifest.json of a bundle: every file with its checksum. All is checked before anything else is read.

The gallery's folder and its album are not listed: both grow by `flukeprint enroll`, and carry their own checksums.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints

from flukeprint.core import manifests
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of
from flukeprint.core.manifests import Record, Sha256
from flukeprint.core.sections import Count
from flukeprint.core.text import printable

NAME = "manifest.json"
VERSION = 1
GALLERY, ALBUM = "gallery", "gallery.album"
_GALLERY_FILE = re.compile(r"gallery/(gallery\.json|(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet))")
# What writers leave beside a gallery: locks, and files under way.
_PASSING = re.compile(r"(gallery/)?\.[^/]*\.(lock|tmp)")
_REPAIR = "Copy the bundle again from where it came, or make it anew (`flukeprint export`)."
_WORDS = manifests.Words(
    kind="bundle",
    missing="Name a folder that `flukeprint export` wrote.",
    other_version="Use the program that made the bundle, or make it anew (`flukeprint export`).",
    repair=_REPAIR,
)

# Names open files: only those that `flukeprint export` writes are taken, so none leads out of the folder.
Name = Annotated[
    str,
    StringConstraints(
        pattern=r"^(README\.md|preprocessing\.json|decision\.json|members/[A-Za-z0-9][A-Za-z0-9_-]*\.(safetensors|onnx))$"
    ),
]


class BundledFile(Record):
    """A file's size and checksum."""

    bytes: Count
    sha256: Sha256


class BundleManifest(Record):
    """manifest.json, but for its own checksum."""

    version: Literal[1]
    files: dict[Name, BundledFile]


def write_manifest(folder: Path) -> None:
    """List every file that is in the folder, but for the gallery and its album."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name, _ in _entries(folder)
        if not _own_checksum(name)
    }
    manifests.write_manifest(folder / NAME, BundleManifest.model_validate({"version": VERSION, "files": files}))


def check_files(folder: Path) -> BundleManifest:
    """Check that a bundle's folder holds the files that its manifest lists, unchanged, and no others.

    Raises:
        FlukeprintError: it does not; the message names the first file that is wrong.

    """
    if (folder / NAME).is_symlink():
        raise FlukeprintError(f"{folder / NAME} is a link. {_REPAIR}")
    manifest = manifests.read_manifest(folder / NAME, BundleManifest, VERSION, _WORDS)
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


def _check(path: Path, record: BundledFile) -> None:
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
