"""A gallery's folder: `gallery.json`, and the data files that it names by their checksums.

It is written whole or not at all, and never changed afterwards: the pipeline and `flukeprint export` replace it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import read_npy, read_parquet, write_npy, write_parquet
from flukeprint.core.manifests import FileRecord
from flukeprint.core.replacement import replacing_folder
from flukeprint.retrieval.codes import Codes
from flukeprint.retrieval.gallery import Gallery, PhotoList, photo_schema, too_long
from flukeprint.retrieval.gallery_manifest import CodesRecord, GalleryManifest, Part, data_file_name
from flukeprint.retrieval.names import check_hashes, check_ids, check_images
from flukeprint.retrieval.vectors import Stored, on_all_threads

if TYPE_CHECKING:
    import pyarrow as pa


_REPAIR = GalleryManifest.REPAIR
# Names and hashes that names.py takes, as most are.
_PLAIN_IMAGE, _HASH = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", "^[0-9a-f]{64}$"


def save_gallery(gallery: Gallery, folder: Path) -> None:
    """Write a gallery, in place of one that is there. The same gallery gives the same bytes."""
    writers: dict[Part, Callable[[Path], None]] = {
        "vectors": partial(write_npy, array=gallery.vectors),
        "photos": partial(write_parquet, table=gallery.photos.table),
    }
    if codes := gallery.codes:
        writers["axes"] = partial(write_npy, array=codes.axes)
        writers["codes"] = partial(write_npy, array=codes.codes)
    with replacing_folder(folder) as temporary:
        GalleryManifest(
            version=GalleryManifest.VERSION,
            provenance=gallery.provenance,
            photos=len(gallery),
            individuals=len(gallery.individuals),
            dimension=gallery.vectors.shape[1],
            exact_up_to=gallery.exact_up_to,
            codes=CodesRecord(axes=len(codes.axes), fetched=codes.fetched) if codes else None,
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


def _read(folder: Path, manifest: GalleryManifest) -> Gallery:
    """Read the data files, each once it has the contents that gallery.json says."""
    readers: list[Callable[[Path, GalleryManifest], Any]] = [_read_photos, _read_vectors, _read_codes]
    photos, vectors, codes = on_all_threads(lambda read: read(folder, manifest), readers)
    return Gallery(vectors, photos, manifest.provenance, manifest.exact_up_to, codes)


def _checked(folder: Path, manifest: GalleryManifest, part: Part) -> Path:
    path = manifest.path(folder, part)
    manifest.check_file(path, manifest.files[part])
    return path


def _read_vectors(folder: Path, manifest: GalleryManifest) -> Stored:
    path, dtype = _checked(folder, manifest, "vectors"), np.float16 if manifest.codes else np.float32
    vectors: Stored = np.asarray(read_npy(path, dtype, (manifest.photos, manifest.dimension), _REPAIR))
    if too_long(vectors) is not None:
        raise FlukeprintError(f"{path} has a vector that is not of length 1, or not a number. {_REPAIR}")
    return vectors


def _read_photos(folder: Path, manifest: GalleryManifest) -> PhotoList:
    """Read and check the table; its rows must be sorted, and as many as gallery.json says."""
    path = _checked(folder, manifest, "photos")
    photos = PhotoList(read_parquet(path, photo_schema(), repair=_REPAIR, rows=manifest.photos).combine_chunks())
    images, ids, hashes = photos.table.columns
    try:
        check_ids(ids.unique().to_pylist())
        check_images(_unlike(images, _PLAIN_IMAGE))
        check_hashes(_unlike(hashes, _HASH))
    except FlukeprintError as error:
        raise FlukeprintError(f"{path}: {error} The gallery was not made by this program. {_REPAIR}") from None
    if not _in_order(photos) or len(photos.individuals[0]) != manifest.individuals:
        raise FlukeprintError(
            f"{path} must list each of {manifest.photos} photos once, sorted by Id and Image, and the "
            f"{manifest.individuals} individuals that gallery.json counts, and does not. {_REPAIR}"
        )
    return photos


def _unlike(column: pa.ChunkedArray, pattern: str) -> list[str | None]:
    """Return the values that are not of the plainest form, which need a closer look: most of a million are."""
    import pyarrow.compute as pc

    plain = pc.fill_null(pc.match_substring_regex(column, pattern), False)
    return list(column.filter(pc.invert(plain)).to_pylist())


def _in_order(photos: PhotoList) -> bool:
    """Tell whether photos are sorted by Id, then Image, and no Image comes twice."""
    import pyarrow.compute as pc

    images = photos.table["Image"].combine_chunks()
    ids, place = photos.individuals
    later = np.asarray(pc.less(images[:-1], images[1:]))
    steps = np.diff(place)
    return (
        ids == sorted(ids)
        and bool((later | (steps > 0)).all() and (steps >= 0).all())
        and (pc.count_distinct(images).as_py() == len(images))
    )


def _read_codes(folder: Path, manifest: GalleryManifest) -> Codes | None:
    record = manifest.codes
    if record is None:
        return None
    path = _checked(folder, manifest, "axes")
    axes = np.asarray(read_npy(path, np.float32, (record.axes, manifest.dimension + 1), _REPAIR))
    if not np.isfinite(axes).all():
        raise FlukeprintError(f"{path} holds values that are no numbers. {_REPAIR}")
    codes = read_npy(_checked(folder, manifest, "codes"), np.uint8, (manifest.photos, record.axes // 2), _REPAIR)
    return Codes(axes, np.asarray(codes), record.fetched)
