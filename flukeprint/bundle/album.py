"""Albums: of each photo of a gallery its perceptual hash, its grey thumbnail and a small picture to look at.

A gallery holds vectors; near-duplicates are told by hashes, and people need pictures. In a project they come from
data/raw and data/validated. What was enrolled, and a bundle's whole gallery, is in a file beside the gallery's folder,
`<gallery>.album`: 64 hexadecimal digits (the SHA-256 of what follows), a newline, and a Parquet table. Photos are known
by the SHA-256 of their files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import replacing
from flukeprint.data.inspection import THUMBNAIL_SIDE, PhotoRecord, inspect_photo
from flukeprint.data.photos import read_rgb
from flukeprint.retrieval.gallery_files import load_gallery, update_gallery

if TYPE_CHECKING:
    import pyarrow as pa

    from flukeprint.retrieval.gallery import Gallery, Photo

# (width, height) in px that a small picture fits into; a fluke is about twice as wide as high.
PICTURE = (320, 160)
_QUALITY = 75
_REPAIR = "Copy the album again from where it came, or remove it: photos are then shown without pictures."


class Entry(NamedTuple):
    """What an album holds of a photo."""

    sha256: str  # of its file, in hex
    phash: int  # 64 bits
    thumbnail: bytes  # THUMBNAIL_SIDE squared grey values
    picture: bytes  # JPEG


class Album(Protocol):
    """Where to look a gallery's photos up."""

    def hashes(self, photos: Sequence[Photo]) -> dict[str, int]:
        """Return the perceptual hashes that are known, by SHA-256."""

    def entry(self, photo: Photo) -> Entry | None:
        """Return what is known of a photo."""


@dataclass
class FileAlbum:
    """The album in a file; empty where there is none. Pictures stay in the table until they are asked for."""

    table: pa.Table | None = None

    @cached_property
    def _rows(self) -> dict[str, int]:
        names = [] if self.table is None else self.table["sha256"].to_pylist()
        return {sha256: row for row, sha256 in enumerate(names)}

    def hashes(self, photos: Sequence[Photo]) -> dict[str, int]:
        """Return the perceptual hashes that are known, by SHA-256."""
        if self.table is None:
            return {}
        wanted = {photo.sha256 for photo in photos}
        both = zip(self._rows, self.table["phash"].to_pylist(), strict=True)
        return {sha256: phash for sha256, phash in both if sha256 in wanted}

    def entry(self, photo: Photo) -> Entry | None:
        """Return what is known of a photo."""
        row = self._rows.get(photo.sha256 or "")
        return None if row is None or self.table is None else Entry(**self.table.slice(row, 1).to_pylist()[0])

    def entries(self) -> list[Entry]:
        """Return what is known of all photos."""
        return [] if self.table is None else [Entry(**row) for row in self.table.to_pylist()]


@dataclass
class FolderAlbum:
    """The album of a project: the photos themselves, and the hashes that `validate` found."""

    folder: Path  # data/raw/train
    phash: dict[tuple[str, str], int]  # by (name, SHA-256)

    @classmethod
    def of(cls, folder: Path, validated: Path) -> FolderAlbum:
        """Read data/validated/train.parquet (`validated`), if it is there."""
        import pandas as pd
        import pyarrow as pa

        if not validated.is_file():
            return cls(folder, {})
        try:
            table = pd.read_parquet(validated, columns=["Image", "sha256", "phash"])
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FlukeprintError(
                f"{validated} is not a table of photos ({error}). Remove it and run `dvc repro validate`."
            ) from None
        keys = zip(table["Image"].tolist(), table["sha256"].tolist(), strict=True)
        return cls(folder, dict(zip(keys, table["phash"].tolist(), strict=True)))

    def hashes(self, photos: Sequence[Photo]) -> dict[str, int]:
        """Return the perceptual hashes that are known, by SHA-256."""
        known = ((photo.sha256, self.phash.get((photo.image, photo.sha256 or ""))) for photo in photos)
        return {sha256: phash for sha256, phash in known if sha256 and phash is not None}

    def entry(self, photo: Photo) -> Entry | None:
        """Read the photo; another file of that name, or none, has no entry."""
        record = inspect_photo(self.folder, photo.image)
        if record.fault or record.sha256 != photo.sha256:
            return None
        return entry_of(self.folder, record)


@dataclass
class Albums:
    """Several albums, asked in turn."""

    albums: Sequence[Album]

    def hashes(self, photos: Sequence[Photo]) -> dict[str, int]:
        """Return the perceptual hashes that are known, by SHA-256."""
        found: dict[str, int] = {}
        for album in self.albums:
            found = album.hashes(photos) | found
        return found

    def entry(self, photo: Photo) -> Entry | None:
        """Return what the first album that knows it says of a photo."""
        return next((entry for album in self.albums if (entry := album.entry(photo))), None)


def entry_of(folder: Path, record: PhotoRecord) -> Entry:
    """Return the entry of a photo that was inspected, with its picture drawn anew: none of its own bytes get in."""
    return Entry(record.sha256, record.phash, record.thumbnail, draw_picture(folder, record))


def draw_picture(folder: Path, record: PhotoRecord, box: tuple[int, int] = PICTURE) -> bytes:
    """Return a photo as a JPEG that fits into `box` = (width, height) px, never enlarged.

    Raises:
        FlukeprintError: the photo cannot be read.

    """
    from PIL import Image

    turned = record.orientation >= 5
    width, height = (record.height, record.width) if turned else (record.width, record.height)
    scale = min(box[0] / width, box[1] / height, 1.0)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = read_rgb(folder, record.name, size)
    stream = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return stream.getvalue()


def album_path(gallery: Path) -> Path:
    """Return the album's file of a gallery's folder."""
    gallery = gallery.resolve()
    return gallery.with_name(f"{gallery.name}.album")


def read_album(path: Path) -> FileAlbum:
    """Read an album; a missing file is an empty album.

    Raises:
        FlukeprintError: the file was changed, or is no album.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return FileAlbum()
    content = path.read_bytes()
    digest, _, payload = content.partition(b"\n")
    if digest.decode("ascii", "replace") != hashlib.sha256(payload).hexdigest():
        raise FlukeprintError(f"{path} was changed: it does not have the checksum that it names. {_REPAIR}")
    try:
        table = pq.read_table(pa.BufferReader(payload))
    except (pa.ArrowException, OSError, UnicodeDecodeError, TypeError) as error:
        raise FlukeprintError(f"{path} holds no Parquet table ({error}). {_REPAIR}") from None
    if not table.schema.equals(_schema()):
        raise FlukeprintError(f"{path} has the columns {', '.join(table.schema.names)}, not an album's. {_REPAIR}")
    _check_entries(path, table)
    return FileAlbum(table)


def _check_entries(path: Path, table: pa.Table) -> None:
    """Refuse what is none of a photo; pictures are looked at by their first bytes, and by browsers as JPEGs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        table.validate(full=True)
        good = pc.equal(pc.binary_length(table["thumbnail"]), THUMBNAIL_SIDE**2)
        for column, start in (("sha256", ""), ("picture", b"\xff\xd8\xff")):
            good = pc.and_(good, pc.starts_with(table[column], start))
        good = pc.and_kleene(good, pc.is_valid(table["phash"])).to_pylist()
        repeated = len(table) - pc.count_distinct(table["sha256"]).as_py()
    except pa.ArrowException as error:
        raise FlukeprintError(f"{path} has entries that cannot be read ({error}). {_REPAIR}") from None
    if repeated or not all(good):
        raise FlukeprintError(f"{path} has {repeated or good.count(False)} entries that are none of a photo. {_REPAIR}")


def write_album(path: Path, entries: Iterable[Entry]) -> None:
    """Write an album, in order of SHA-256; the same entries give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = sorted({entry.sha256: entry for entry in entries}.values())
    arrays = [pa.array([row[column] for row in rows], kind) for column, kind in enumerate(_schema().types)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, schema=_schema()), sink, compression="zstd")
    payload = sink.getvalue().to_pybytes()
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def merge_into(folder: Path, other: Path, *, allow_copies: bool = False) -> Gallery:
    """Add the photos of the gallery in `other` to that in `folder`, with their pictures; return what it is now.

    Raises:
        FlukeprintError: as `update_gallery` and `Gallery.merge` do. Nothing was changed then.

    """
    added = load_gallery(other)

    def change(gallery: Gallery) -> Gallery:
        merged = gallery.merge(added, allow_copies=allow_copies)
        # Before the gallery's own files: an entry too many is never looked at, one too few would be missed.
        _bring_pictures(folder, other, added.photos)
        return merged

    return update_gallery(folder, change)


def _bring_pictures(gallery: Path, other: Path, photos: Sequence[Photo]) -> None:
    """Take from the album of another gallery what it has of some photos and this gallery's album lacks."""
    wanted = {photo.sha256 for photo in photos}
    own, found = read_album(album_path(gallery)).entries(), read_album(album_path(other)).entries()
    wanted -= {entry.sha256 for entry in own}
    if new := [entry for entry in found if entry.sha256 in wanted]:
        write_album(album_path(gallery), [*own, *new])


def remove_from(folder: Path, ids: Collection[str], images: Collection[str]) -> Gallery:
    """Remove individuals and photos from the gallery in `folder`, with their pictures; return the gallery as it is now.

    Raises:
        FlukeprintError: as `update_gallery` and `Gallery.remove` do. Nothing was changed then.

    """
    # What is removed may have been asked to be removed: no picture of it stays.
    return update_gallery(folder, lambda gallery: gallery.remove(ids, images), lambda now: _drop_pictures(folder, now))


def _drop_pictures(folder: Path, gallery: Gallery) -> None:
    """Remove from a gallery's album whatever is of no photo of the gallery."""
    path, kept = album_path(folder), {photo.sha256 for photo in gallery.photos}
    entries = read_album(path).entries()
    left = [entry for entry in entries if entry.sha256 in kept]
    if len(left) < len(entries):
        write_album(path, left)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [("sha256", pa.string()), ("phash", pa.uint64()), ("thumbnail", pa.binary()), ("picture", pa.binary())]
    )
