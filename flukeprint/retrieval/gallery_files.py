"""A gallery's folder: `gallery.json`, and the data files that it names by their checksums.

It is written whole or not at all, and never changed afterwards: the pipeline and `flukeprint export` replace it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import read_npy, read_parquet, write_npy, write_parquet
from flukeprint.core.manifests import FileRecord
from flukeprint.core.replacement import replacing_folder
from flukeprint.retrieval.cells import Cells
from flukeprint.retrieval.gallery import Gallery, Photo, too_long
from flukeprint.retrieval.gallery_manifest import CellsRecord, GalleryManifest, Part, data_file_name
from flukeprint.retrieval.names import check_hashes, check_ids, check_images

if TYPE_CHECKING:
    import pyarrow as pa


_REPAIR = GalleryManifest.REPAIR


def save_gallery(gallery: Gallery, folder: Path) -> None:
    """Write a gallery, in place of one that is there. The same gallery gives the same bytes."""
    cells = gallery.cells
    writers: dict[Part, Callable[[Path], None]] = {
        "vectors": partial(write_npy, array=gallery.vectors),
        "photos": partial(write_parquet, table=_table(gallery.photos)),
    }
    record = None
    if cells:
        writers["centroids"] = partial(write_npy, array=cells.centroids)
        writers["cells"] = partial(write_npy, array=cells.cell)
        record = CellsRecord(number=len(cells.centroids), probes=cells.probes, trained_on=len(gallery))
    with replacing_folder(folder) as temporary:
        GalleryManifest(
            version=GalleryManifest.VERSION,
            provenance=gallery.provenance,
            photos=len(gallery),
            individuals=len(gallery.individuals),
            dimension=gallery.vectors.shape[1],
            exact_up_to=gallery.exact_up_to,
            cells=record,
            files={part: _put(temporary, part, write) for part, write in writers.items()},
        ).write(temporary)


def load_gallery(folder: Path) -> Gallery:
    """Read a gallery; every file is checked before it is used. Vectors are a read-only memory map."""
    manifest = GalleryManifest.read(folder)
    try:
        return _read(folder, manifest)
    except MissingFileError:
        replaced = GalleryManifest.read(folder)
        if replaced == manifest:
            raise
        return _read(folder, replaced)


def _put(folder: Path, part: Part, write: Callable[[Path], None]) -> FileRecord:
    """Write a data file under the name that its contents give it."""
    write(folder / part)
    record = FileRecord.of(folder / part)
    (folder / part).rename(folder / data_file_name(part, record))
    return record


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([("Image", pa.string()), ("Id", pa.string()), ("sha256", pa.string())])


def _table(photos: Sequence[Photo]) -> pa.Table:
    import pyarrow as pa

    columns = {"Image": [p.image for p in photos], "Id": [p.id for p in photos], "sha256": [p.sha256 for p in photos]}
    return pa.table(columns, schema=_schema())


def _read(folder: Path, manifest: GalleryManifest) -> Gallery:
    """Read the data files, once all of them have the contents that gallery.json says."""
    for part, record in manifest.files.items():
        manifest.check_file(manifest.path(folder, part), record)
    photos, vectors = _read_photos(folder, manifest), _read_vectors(folder, manifest)
    cells = _read_cells(folder, manifest)
    return Gallery(vectors, photos, manifest.provenance, manifest.exact_up_to, cells)


def _read_vectors(folder: Path, manifest: GalleryManifest) -> NDArray[np.float32]:
    path = manifest.path(folder, "vectors")
    vectors = np.asarray(read_npy(path, np.float32, (manifest.photos, manifest.dimension), _REPAIR))
    if too_long(vectors) is not None:
        raise FlukeprintError(f"{path} has a vector that is not of length 1, or not a number. {_REPAIR}")
    return vectors


def _read_photos(folder: Path, manifest: GalleryManifest) -> list[Photo]:
    """Read and check the table; its rows must be sorted, and as many as gallery.json says."""
    path = manifest.path(folder, "photos")
    columns = read_parquet(path, _schema(), repair=_REPAIR, rows=manifest.photos).to_pydict()
    photos = [Photo(*row) for row in zip(columns["Id"], columns["Image"], columns["sha256"], strict=True)]
    try:
        check_ids(photo.id for photo in photos)
        check_images(photo.image for photo in photos)
        check_hashes(photo.sha256 for photo in photos)
    except FlukeprintError as error:
        raise FlukeprintError(f"{path}: {error} The gallery was not made by this program. {_REPAIR}") from None
    keys = [photo[:2] for photo in photos]
    counts = (len(photos), len({photo.image for photo in photos}), len({photo.id for photo in photos}))
    if keys != sorted(keys) or counts != (manifest.photos, manifest.photos, manifest.individuals):
        raise FlukeprintError(
            f"{path} must list each of {manifest.photos} photos once, sorted by Id and Image, and the "
            f"{manifest.individuals} individuals that gallery.json counts, and does not. {_REPAIR}"
        )
    return photos


def _read_cells(folder: Path, manifest: GalleryManifest) -> Cells | None:
    cells = manifest.cells
    if cells is None:
        return None
    centroids = read_npy(manifest.path(folder, "centroids"), np.float32, (cells.number, manifest.dimension), _REPAIR)
    path = manifest.path(folder, "cells")
    cell = read_npy(path, np.int32, (manifest.photos,), _REPAIR)
    if not np.isfinite(centroids).all() or cell.min() < 0 or cell.max() >= cells.number:
        raise FlukeprintError(
            f"{path} names cells outside 0..{cells.number - 1}, or their centres are no numbers. {_REPAIR}"
        )
    return Cells(np.asarray(centroids), np.asarray(cell), cells.probes)
