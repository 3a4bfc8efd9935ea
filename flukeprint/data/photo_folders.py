"""Which files of a folder are photos: one rule for fetching, for checking and for identification.

A photo is a visible file whose name ends like a photo's, or that a table names. All else is left alone, and named.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flukeprint.core.safe_text import printable, told_apart

# What a photo's file may be, in Pillow's names, and how it is called then. Pillow's other readers (and their attack
# surface) are never tried.
SUFFIXES_OF_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
SUFFIXES = frozenset(suffix for suffixes in SUFFIXES_OF_FORMAT.values() for suffix in suffixes)
# Raw files of cameras. Each maker has formats of its own, whose colours only a raw converter makes. Some of them look
# like a TIFF file with a tiny preview, so they are told by their names.
RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
    ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
# Folders that systems make within folders of photos: thumbnails, what was deleted, what an archive adds.
_SYSTEM_FOLDERS = frozenset(
    ("@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "__macosx", "lost+found")
)
# Folders within folders that are entered. Nobody sorts photos deeper, and a path has its limits.
_DEEPEST = 32
# Names that are written out where there are many.
_FEW = 3


@dataclass(frozen=True)
class FolderContents:
    """What a folder holds, by name; a folder's name ends with a slash."""

    photos: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # left alone

    @property
    def raw(self) -> list[str]:
        """The raw files of cameras that have no photo of their name beside them."""
        photos = {file_key(name) for name in self.photos}
        return [name for name in self.others if is_raw(name) and file_key(name) not in photos]


def has_photo_suffix(name: str) -> bool:
    """Tell whether a file's name is that of a photo which can be read, and is not hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def is_raw(name: str) -> bool:
    """Tell whether a file's name is that of a camera's raw file, which is not read."""
    return Path(name).suffix.lower() in RAW_SUFFIXES and not name.startswith(".")


def list_folder(folder: Path, named: Collection[str] = ()) -> FolderContents:
    """List one folder, sorted by name; `named` are the photos that a table names. OSError if it cannot be listed."""
    photos: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_folder(entry):
                others.append(f"{entry.name}/")
            else:
                (photos if has_photo_suffix(entry.name) or entry.name in named else others).append(entry.name)
    return FolderContents(sorted(photos), sorted(others))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one; a link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def list_tree(folder: Path) -> tuple[FolderContents, int]:
    """List a folder and those within it, as paths from it; return that and how many inner folders hold photos.

    Its own photos come first, then those of each inner folder, by name. Not entered, but named, are hidden folders,
    those that systems make (@eaDir, ...), links to folders, and what lies deeper than 32 folders.
    """
    found, with_photos = FolderContents(), 0
    waiting = [Path()]
    while waiting:
        inner = waiting.pop()
        content = list_folder(folder / inner)
        folders = [name for name in content.others if _is_entered(folder / inner, name, len(inner.parts))]
        prefix = "" if inner == Path() else f"{inner}/"
        found.photos.extend(prefix + name for name in content.photos)
        found.others.extend(prefix + name for name in content.others if name not in folders)
        with_photos += bool(content.photos) and inner != Path()
        waiting += [inner / name for name in reversed(folders)]
    return found, with_photos


def _is_entered(folder: Path, name: str, depth: int) -> bool:
    usual = name.endswith("/") and not name.startswith(".") and name[:-1].lower() not in _SYSTEM_FOLDERS
    return usual and depth < _DEEPEST and not (folder / name[:-1]).is_symlink()


def said_of_others(folder: Path | str, content: FolderContents) -> str | None:
    """Say in one line what was left alone in a folder, visible names first, and what to do about it; or None."""
    if not content.others:
        return None
    text = f"{printable(folder)}: {len(content.others)} other file(s) or folder(s) left alone ({_some(content.others)})"
    if content.raw:
        text += f". {len(content.raw)} raw file(s) of cameras without a photo beside it ({_some(content.raw)}): "
        text += "export them as JPEG"
    return text


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names, key=lambda name: (Path(name).name.startswith("."), name))
    return ", ".join(map(printable, ordered[:_FEW])) + (", ..." if len(ordered) > _FEW else "")


# --- names that are nearly right --------------------------------------------------------------------------


def file_key(name: str) -> str:
    """Return what the spellings of one photo's name have in common: not case, accents' encoding, blanks and suffix."""
    key = unicodedata.normalize("NFKC", "".join(unicodedata.normalize("NFKC", name).casefold().split()))
    key = key.removesuffix("/")
    stem, _, suffix = key.rpartition(".")
    while stem and f".{suffix}" in SUFFIXES.union(RAW_SUFFIXES):
        key = stem
        stem, _, suffix = key.rpartition(".")
    return key


class NearlyNamed:
    """Finds the names that differ from one given only by what `file_key` leaves out."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            self._names[file_key(name)].append(name)

    def hint(self, name: str) -> str:
        """Return ` (there is 'NAME')`, or nothing if no name is nearly that one."""
        near = [told_apart(name, other) for other in self._names.get(file_key(name), ()) if other != name]
        return f" (there is {', '.join(near[:_FEW])})" if near else ""


def hint_beside(path: Path) -> str:
    """Return the hint to a file in a missing one's folder that is nearly called like it, or nothing."""
    try:
        content = list_folder(path.parent)
    except OSError:
        return ""
    return NearlyNamed((*content.photos, *content.others)).hint(path.name)
