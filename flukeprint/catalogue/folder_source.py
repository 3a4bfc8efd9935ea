"""Photos in folders: a folder per individual, in it perhaps one per encounter; or a folder per encounter."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flukeprint.catalogue.source_rows import Source, SourceRow, is_nobody, left_alone, photos_below
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.wording import counted

Layout = Literal["individuals", "encounters"]


def read_folder(folder: Path, layout: Layout) -> Source:
    """Read what folders' names say. A photo outside of any folder is an encounter of its own, of an unknown whale."""
    if not folder.is_dir():
        raise FlukeprintError(f"there is no folder {str(folder)!r}. Check the name.")
    photos, others = photos_below(folder)
    if not photos:
        raise FlukeprintError(f"the folder {str(folder)!r} holds no photo. Name a folder of photos, or a table.")
    rows = [_row(path, path.relative_to(folder), layout) for path in photos]
    return Source(str(folder.absolute()), rows, [*_in_no_folder(photos, folder, layout), *left_alone(others)])


def _in_no_folder(photos: list[Path], folder: Path, layout: Layout) -> list[str]:
    """Say what becomes of photos beside the folders: a folder that is an individual's itself names nobody."""
    outside = sum(path.parent == folder for path in photos)
    nobody = ", and nobody is named" if layout == "individuals" else ""
    return (
        [f"{counted(outside, 'photo')} in no inner folder: each is an encounter of its own{nobody}"] if outside else []
    )


def _row(path: Path, relative: Path, layout: Layout) -> SourceRow:
    folders = list(relative.parts[:-1])
    individual = folders.pop(0) if folders and layout == "individuals" else None
    encounter = "/".join(folders) or None
    return SourceRow(str(relative), path, None if is_nobody(individual) else individual, encounter)
