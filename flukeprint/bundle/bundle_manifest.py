"""manifest.json of a bundle: every file with its checksum. All is checked before anything else is read.

The gallery's folder and its album are not listed: both carry their own checksums.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import StringConstraints

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.manifests import FileRecord, Manifest
from flukeprint.core.safe_text import printable
from flukeprint.retrieval.gallery_manifest import DATA_FILE

GALLERY, ALBUM = "gallery", "gallery.album"
_FOLDERS = (GALLERY, "members")
# What has a checksum of its own.
_NOT_LISTED = re.compile(rf"{re.escape(ALBUM)}|gallery/(gallery\.json|{DATA_FILE.pattern})")

# Names open files: only those that `flukeprint export` writes are taken, so none leads out of the folder.
Name = Annotated[
    str,
    StringConstraints(
        pattern=r"^(README\.md|preprocessing\.json|decision\.json|local\.json|localiser\.(safetensors|onnx)|members/[A-Za-z0-9][A-Za-z0-9_-]*\.(safetensors|onnx))$"
    ),
]


class BundleManifest(Manifest):
    """manifest.json, but for its own checksum."""

    NAME: ClassVar = "manifest.json"
    KIND: ClassVar = "bundle"
    VERSION: ClassVar = 2
    MISSING: ClassVar = "Name a folder that `flukeprint export` wrote."
    REPAIR: ClassVar = "Copy the bundle again from where it came, or make it anew (`flukeprint export`)."

    files: dict[Name, FileRecord]


REPAIR = BundleManifest.REPAIR


def write_manifest(folder: Path) -> None:
    """List every file that is in the folder, but for the gallery and its album."""
    names = [name for name, _ in _entries(folder) if not _NOT_LISTED.fullmatch(name)]
    files = {name: FileRecord.of(folder / name) for name in names}
    BundleManifest(version=BundleManifest.VERSION, files=files).write(folder)


def check_files(folder: Path) -> None:
    """Refuse a folder that does not hold the files that its manifest lists, unchanged, and no others."""
    manifest = BundleManifest.read(folder)
    for name, mode in sorted(_entries(folder)):
        if name not in manifest.files and name != manifest.NAME and not _NOT_LISTED.fullmatch(name):
            raise FlukeprintError(f"{folder}/{printable(name)} does not belong to the bundle. Remove it, or: {REPAIR}")
        if not stat.S_ISREG(mode):
            raise FlukeprintError(f"{folder}/{printable(name)} is no regular file, as a link is none. {REPAIR}")
    for name, record in manifest.files.items():
        manifest.check_file(folder / name, record)


def _entries(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield (path in the bundle, mode) of everything but its own folders; links and other folders are not entered."""
    for inner in (".", *_FOLDERS):
        for entry in _listed(folder / inner):
            # An export may just have replaced the bundle; what the manifest lists is missed later.
            with suppress(FileNotFoundError):
                name, mode = (Path(inner) / entry.name).as_posix(), entry.stat(follow_symlinks=False).st_mode
                if name not in _FOLDERS or not stat.S_ISDIR(mode):
                    yield name, mode


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return list(entries)
