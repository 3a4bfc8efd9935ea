"""Albums: of each photo of a gallery its perceptual hash, its grey thumbnail and a small picture to look at.

A gallery holds vectors; near-duplicates are told by hashes, and people need pictures. In a project they come from
data/raw and data/validated. `flukeprint export` writes them to a file beside a bundle's gallery, `gallery.album`: 64
hexadecimal digits (the SHA-256 of what follows), a newline, and a Parquet table. Photos are known by the SHA-256 of
their files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import read_bytes, read_parquet, write_bytes
from flukeprint.data.inspection import THUMBNAIL_SIDE, PhotoRecord, inspect_photo
from flukeprint.data.photos import read_rgb
from flukeprint.retrieval.gallery import Photo

Box = tuple[int, int]  # (width, height) in px that a picture fits into

# Of a small picture; a fluke is about twice as wide as high.
PICTURE = (480, 240)
_QUALITY = 65
_LARGEST_PICTURE = 3 * PICTURE[0] * PICTURE[1]  # bytes: of its pixels, which no JPEG of it comes near
_SCHEMA = pa.schema(
    [("sha256", pa.string()), ("phash", pa.uint64()), ("thumbnail", pa.binary()), ("picture", pa.binary())]
)
_REPAIR = "Copy the album again from where it came, or remove it: photos are then shown without pictures."


class Entry(NamedTuple):
    """What an album holds of a photo."""

    sha256: str  # of its file, in hex
    phash: int  # 64 bits
    thumbnail: bytes  # THUMBNAIL_SIDE squared grey values
    picture: bytes  # JPEG


class Album(Protocol):
    """Where to look a gallery's photos up."""

    @property
    def hashes(self) -> Mapping[str, int]:
        """The perceptual hashes that are known, by SHA-256."""

    def entry(self, photo: Photo) -> Entry | None:
        """Return what is known of a photo."""

    def picture(self, photo: Photo, box: Box) -> bytes | None:
        """Return a photo as a JPEG that fits into `box`; a FlukeprintError where only smaller ones are kept."""


@dataclass
class FileAlbum:
    """The album in a file. Pictures stay in the table until one of them is wanted."""

    table: pa.Table

    @cached_property
    def hashes(self) -> dict[str, int]:
        """The perceptual hashes, by SHA-256, in the order of the table."""
        return dict(zip(self.table["sha256"].to_pylist(), self.table["phash"].to_pylist(), strict=True))

    @cached_property
    def _row(self) -> dict[str, int]:
        return {sha256: row for row, sha256 in enumerate(self.hashes)}

    def entry(self, photo: Photo) -> Entry | None:
        """Return what is known of a photo."""
        row = self._row.get(photo.sha256 or "")
        return None if row is None else Entry(**self.table.slice(row, 1).to_pylist()[0])

    def picture(self, photo: Photo, box: Box) -> bytes | None:
        """Return the picture that is kept; a larger one than that is refused."""
        if box[0] > PICTURE[0] or box[1] > PICTURE[1]:
            raise FlukeprintError(
                f"this album keeps pictures of {PICTURE[0]} x {PICTURE[1]} px, wanted are some of {box[0]} x {box[1]}. "
                "Ask in the project, whose photos are there, or fit to small pictures (`flukeprint fit-local`)."
            )
        entry = self.entry(photo)
        return entry.picture if entry else None


@dataclass
class FolderAlbum:
    """The album of a project: the photos themselves, and the hashes that `validate` found."""

    folder: Path  # data/raw/train
    hashes: dict[str, int]

    @classmethod
    def of(cls, folder: Path, validated: Path) -> FolderAlbum:
        """Read data/validated/train.parquet (`validated`), if it is there."""
        try:
            table = read_parquet(validated, columns=["sha256", "phash"])
        except MissingFileError:
            return cls(folder, {})
        known = zip(table["sha256"].to_pylist(), table["phash"].to_pylist(), strict=True)
        return cls(folder, {sha256: phash for sha256, phash in known if sha256 and phash is not None})

    def entry(self, photo: Photo) -> Entry | None:
        """Read the photo; another file of that name, or none, has no entry."""
        record = self._record(photo)
        return entry_of(self.folder, record) if record else None

    def picture(self, photo: Photo, box: Box) -> bytes | None:
        """Draw the photo."""
        record = self._record(photo)
        return draw_picture(self.folder, record, box) if record else None

    def _record(self, photo: Photo) -> PhotoRecord | None:
        record = inspect_photo(self.folder, photo.image)
        return None if record.fault or record.sha256 != photo.sha256 else record


@dataclass
class Albums:
    """Several albums, looked into in turn; without any it is an empty album."""

    albums: Sequence[Album] = ()

    @property
    def hashes(self) -> Mapping[str, int]:
        """The perceptual hashes that are known, by SHA-256."""
        return {key: phash for album in reversed(self.albums) for key, phash in album.hashes.items()}

    def entry(self, photo: Photo) -> Entry | None:
        """Return what the first album that knows it says of a photo."""
        return next((entry for album in self.albums if (entry := album.entry(photo))), None)

    def picture(self, photo: Photo, box: Box) -> bytes | None:
        """Return the picture of the first album that has it; those that keep too small ones are asked last."""
        ordered = sorted(self.albums, key=lambda album: isinstance(album, FileAlbum))
        return next((picture for album in ordered if (picture := album.picture(photo, box))), None)


def entry_of(folder: Path, record: PhotoRecord) -> Entry:
    """Return the entry of a photo that was inspected, with its picture drawn anew: none of its own bytes get in."""
    return Entry(record.sha256, record.phash, record.thumbnail, draw_picture(folder, record))


def draw_picture(folder: Path, record: PhotoRecord, box: Box = PICTURE, quality: int = _QUALITY) -> bytes:
    """Return a photo as a JPEG that fits into `box` = (width, height) px, never enlarged."""
    from PIL import Image

    turned = record.orientation >= 5
    width, height = (record.height, record.width) if turned else (record.width, record.height)
    scale = min(box[0] / width, box[1] / height, 1.0)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = read_rgb(folder, record.name, size)
    stream = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def album_path(gallery: Path) -> Path:
    """Return the album's file of a gallery's folder."""
    gallery = gallery.resolve()
    return gallery.with_name(f"{gallery.name}.album")


def read_album(path: Path) -> FileAlbum:
    """Read an album; a missing file is an empty album, one that was changed a FlukeprintError."""
    try:
        digest, _, payload = read_bytes(path, "an album", _REPAIR).partition(b"\n")
    except MissingFileError:
        return FileAlbum(_SCHEMA.empty_table())
    if digest != _digest(payload):
        raise FlukeprintError(f"{path} was changed: it does not have the checksum that it names. {_REPAIR}")
    table = read_parquet(path, _SCHEMA, repair=_REPAIR, source=pa.py_buffer(payload))
    if not _of_photos(table):
        raise FlukeprintError(f"{path} has entries that are none of a photo, or are there twice. {_REPAIR}")
    return FileAlbum(table)


def _of_photos(table: pa.Table) -> bool:
    """Tell whether entries can be of photos; pictures are looked at by their first bytes, and by browsers as JPEGs."""
    import pyarrow.compute as pc

    thumbnails = pc.equal(pc.binary_length(table["thumbnail"]), THUMBNAIL_SIDE**2)
    pictures = pc.starts_with(table["picture"], b"\xff\xd8\xff")
    small = pc.less_equal(pc.binary_length(table["picture"]), _LARGEST_PICTURE)
    return (
        not any(column.null_count for column in table.columns)
        and pc.all(pc.and_(pc.and_(thumbnails, pictures), small), min_count=0).as_py()
        and pc.count_distinct(table["sha256"]).as_py() == len(table)
    )


def write_album(path: Path, entries: Iterable[Entry]) -> None:
    """Write an album, in order of SHA-256; the same entries give the same bytes."""
    import pyarrow.parquet as pq

    rows = sorted({entry.sha256: entry for entry in entries}.values())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row._asdict() for row in rows], _SCHEMA), sink, compression="zstd")
    payload = sink.getvalue().to_pybytes()
    write_bytes(path, _digest(payload) + b"\n" + payload)


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).hexdigest().encode()
