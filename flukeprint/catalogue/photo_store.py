"""The photo store: every photo once, under its SHA-256, as `ab/abcdef....jpg`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flukeprint.core.replacement import replacing
from flukeprint.data.photo_folders import SUFFIXES
from flukeprint.data.photos import UnusableError

_BLOCK = 1 << 20  # bytes


def stored_name(sha256: str, name: str) -> str:
    """Return where a photo is in the store: its suffix is that of the file that was imported, if it is a photo's."""
    suffix = Path(name).suffix.lower()
    return f"{sha256[:2]}/{sha256}{suffix if suffix in SUFFIXES else ''}"


def keep_photo(store: Path, source: Path, sha256: str) -> str:
    """Copy a photo into the store, if it is not there; return where it is, relative to the store.

    Raises:
        UnusableError: the file is no longer the one of that SHA-256.
    """
    name = stored_name(sha256, source.name)
    if (store / name).is_file():
        return name
    with replacing(store / name) as temporary:
        digest = hashlib.sha256()
        with source.open("rb") as reader, temporary.open("wb") as writer:
            while block := reader.read(_BLOCK):
                digest.update(block)
                writer.write(block)
        if digest.hexdigest() != sha256:
            raise UnusableError("the file was changed while it was being imported")
    return name
