"""A gallery's folder: `gallery.json`, and the data files that it names by their checksums.

A change writes new data files beside the old ones, then renames a new gallery.json into place: that one rename is the
change, so a reader finds the old gallery or the new one. Writers take turns by a lock file beside the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of, write_npy, write_parquet
from flukeprint.retrieval.cells import Cells
from flukeprint.retrieval.gallery import Gallery, Photo, too_long
from flukeprint.retrieval.gallery_manifest import FileRecord, GalleryManifest, Index, read_manifest, write_manifest
from flukeprint.retrieval.names import check_hashes, check_ids, check_images

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_SUFFIXES = {"vectors": ".npy", "photos": ".parquet", "centroids": ".npy", "cells": ".npy"}
_OURS = re.compile(r"(vectors|photos|centroids|cells)-[0-9a-f]{16}\.(npy|parquet)|\..*\.tmp")
# Seconds that a writer waits for another one.
_PATIENCE = 600
# Times that a reader starts again because a writer replaced the files under it.
_ATTEMPTS = 20
_REPAIR = "Copy the gallery again from where it came, or make it anew (`dvc repro`)."


class _MissingError(Exception):
    """A data file is not there: it was replaced, or it is lost."""


def save_gallery(gallery: Gallery, folder: Path) -> None:
    """Write a gallery, in place of one that is there. The same gallery gives the same bytes."""
    with locked(folder):
        _write(gallery, folder)


def update_gallery(
    folder: Path, change: Callable[[Gallery], Gallery], after: Callable[[Gallery], None] | None = None
) -> Gallery:
    """Read a gallery, change it and write it, while other writers wait: no change is lost.

    Args:
        folder: the gallery's.
        change: gets the gallery that is there and returns the new one; if it raises, nothing changes on disk.
        after: gets the new one when it is in place, before other writers have their turn.

    Raises:
        FlukeprintError: the gallery cannot be read, or another writer holds it for ten minutes.

    """
    read_manifest(Path(folder))  # a gallery that is not there leaves no lock behind
    with locked(folder):
        changed = change(load_gallery(folder))
        _write(changed, folder)
        if after is not None:
            after(changed)
    return changed


def load_gallery(folder: Path) -> Gallery:
    """Read a gallery; every file is checked before it is used. Vectors are a read-only memory map.

    Raises:
        FlukeprintError: there is none, or a file is missing, changed, truncated or not what it should be.

    """
    folder = Path(folder)
    for _ in range(_ATTEMPTS):
        manifest = read_manifest(folder)
        try:
            return _read(folder, manifest)
        except _MissingError as missing:
            if read_manifest(folder) == manifest:
                raise FlukeprintError(f"{missing} is missing. {_REPAIR}") from None
    raise FlukeprintError(f"{folder} is being changed all the time. Wait for the other programs and try again.")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the gallery's lock; the system lets go of it when a process ends, however it ends.

    Raises:
        FlukeprintError: another writer holds it for ten minutes.

    """
    from filelock import FileLock, Timeout

    # Of a link to a gallery the lock is that of the gallery.
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=_PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise FlukeprintError(
            f"another program has been changing {folder} for {_PATIENCE} s. Wait for it, or stop it, and try again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _write(gallery: Gallery, folder: Path) -> None:
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    files = {"vectors": _put(folder, "vectors", lambda path: write_npy(path, gallery.vectors))}
    files["photos"] = _put(folder, "photos", lambda path: write_parquet(path, _table(gallery.photos)))
    cells = gallery.cells
    if cells is not None:
        files["centroids"] = _put(folder, "centroids", lambda path: write_npy(path, cells.centroids))
        files["cells"] = _put(folder, "cells", lambda path: write_npy(path, cells.cell))
    write_manifest(
        folder,
        GalleryManifest.of(gallery.provenance, len(gallery), len(gallery.individuals), gallery.vectors.shape[1], files,
                    Index.of(gallery.exact_up_to, cells)),
    )  # fmt: skip
    named = {record.name for record in files.values()}
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in named:
            path.unlink()


def _put(folder: Path, stem: str, write: Callable[[Path], None]) -> FileRecord:
    """Write a data file under the name that its contents give it."""
    temporary = folder / f".{stem}.{os.getpid()}.tmp"
    try:
        write(temporary)
        digest = sha256_of(temporary)
        record = FileRecord(
            name=f"{stem}-{digest[:16]}{_SUFFIXES[stem]}", bytes=temporary.stat().st_size, sha256=digest
        )
        temporary.replace(folder / record.name)
    finally:
        temporary.unlink(missing_ok=True)
    return record


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("Image", pa.string()), ("Id", pa.string()), ("sha256", pa.string())])


def _table(photos: Sequence[Photo]) -> pa.Table:
    import pyarrow as pa

    columns = ([photo.image for photo in photos], [photo.id for photo in photos], [photo.sha256 for photo in photos])
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=_schema())


def _read(folder: Path, manifest: GalleryManifest) -> Gallery:
    """Read the data files, each after its checksum."""
    for record in manifest.files.values():
        _check_file(folder / record.name, record)
    photos = _read_photos(folder / manifest.files["photos"].name, manifest)
    shape = (manifest.photos, manifest.dimension)
    path = folder / manifest.files["vectors"].name
    vectors = _read_array(path, np.float32, shape)
    if too_long(vectors) is not None:
        raise FlukeprintError(f"{path} has a vector that is not of length 1, or not a number. {_REPAIR}")
    cells = _read_cells(folder, manifest)
    return Gallery(vectors, photos, manifest.provenance, manifest.index.exact_up_to, cells)


def _check_file(path: Path, record: FileRecord) -> None:
    try:
        if not path.is_file():
            raise _MissingError(path)
        size, digest = path.stat().st_size, sha256_of(path)
    except FileNotFoundError:
        raise _MissingError(path) from None
    if size != record.bytes:
        raise FlukeprintError(f"{path} has {size} bytes, gallery.json says {record.bytes}: truncated? {_REPAIR}")
    if digest != record.sha256:
        raise FlukeprintError(
            f"{path} was changed: its SHA-256 is {digest[:12]}..., gallery.json says {record.sha256[:12]}... {_REPAIR}"
        )


def _read_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """Map an .npy file of known type and shape; anything else in it is refused, objects are never unpickled."""
    try:
        # There is nothing to map in an empty gallery.
        array = np.load(path, allow_pickle=False) if 0 in shape else np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise _MissingError(path) from None
    except (ValueError, EOFError, OSError) as error:
        raise FlukeprintError(f"{path} is not a plain .npy file ({error}). {_REPAIR}") from None
    found = (array.dtype, array.shape, array.flags.c_contiguous)
    if found != (np.dtype(dtype), shape, True):
        raise FlukeprintError(
            f"{path} holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape} in C order. {_REPAIR}"
        )
    return np.asarray(array)


def _read_photos(path: Path, manifest: GalleryManifest) -> list[Photo]:
    """Read and check the table; its rows must be sorted, and as many as gallery.json says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
            if not schema.equals(_schema()) or rows != manifest.photos:
                raise FlukeprintError(
                    f"{path} has {rows} rows of {', '.join(schema.names)}, expected {manifest.photos} of Image, Id, "
                    f"sha256 as text. {_REPAIR}"
                )
            columns = file.read().to_pydict()
    except FileNotFoundError:
        raise _MissingError(path) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FlukeprintError(f"{path} is not a readable Parquet file ({error}). {_REPAIR}") from None
    photos = [Photo(*row) for row in zip(columns["Id"], columns["Image"], columns["sha256"], strict=True)]
    _check_photos(path, photos, manifest)
    return photos


def _check_photos(path: Path, photos: list[Photo], manifest: GalleryManifest) -> None:
    try:
        check_ids(photo.id for photo in photos)
        check_images(photo.image for photo in photos)
        check_hashes(photo.sha256 for photo in photos)
    except FlukeprintError as error:
        raise FlukeprintError(f"{path}: {error} The gallery was not made by this program. {_REPAIR}") from None
    names = {photo.image for photo in photos}
    keys = [photo[:2] for photo in photos]
    if len(names) != len(photos) or keys != sorted(keys) or len({photo.id for photo in photos}) != manifest.individuals:
        raise FlukeprintError(
            f"{path} must list each photo once, sorted by Id and Image, and the {manifest.individuals} "
            f"individuals that gallery.json counts, and does not. {_REPAIR}"
        )


def _read_cells(folder: Path, manifest: GalleryManifest) -> Cells | None:
    index = manifest.index
    if index.kind == "exact":
        return None
    centroids = _read_array(folder / manifest.files["centroids"].name, np.float32, (index.cells, manifest.dimension))
    path = folder / manifest.files["cells"].name
    cell = _read_array(path, np.int32, (manifest.photos,))
    if not np.isfinite(centroids).all() or cell.min() < 0 or cell.max() >= index.cells:
        raise FlukeprintError(
            f"{path} names cells outside 0..{index.cells - 1}, or their centres are no numbers. {_REPAIR}"
        )
    return Cells(centroids, cell, index.probes, index.trained_on)
