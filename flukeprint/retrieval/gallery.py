"""What a gallery holds: labelled photos and their vectors, in the one order that it has. It is never changed.

Rows are sorted by individual, then photo name. So the same photos give the same bytes, whatever the order in which
they came, and an individual's rows stand together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.metrics.spread import Spread, spread_of
from flukeprint.retrieval.codes import EXACT_UP_TO, Codes, new_codes
from flukeprint.retrieval.names import check_hashes, check_ids, check_images
from flukeprint.retrieval.provenance import Provenance
from flukeprint.retrieval.vectors import Stored, Vectors, blocks, on_all_threads, single

if TYPE_CHECKING:
    import pyarrow as pa

# Photos that are made Python objects of at a time.
_CHUNK = 1 << 12
# Individuals by which the spread of a gallery's vectors is judged.
_JUDGED = 256
# Rounding of float32; a vector is shorter only where an embedding is all zeros.
_LONGEST = 1 + 1e-3

log = logging.getLogger(__name__)


class Photo(NamedTuple):
    """One photo of a gallery."""

    id: str
    image: str  # plain file name, which no other photo of the gallery has
    sha256: str | None = None  # of the file, in hex, if known


@dataclass(frozen=True)
class PhotoList:
    """The photos of a gallery, as columns: a million objects would take half a gigabyte."""

    table: pa.Table  # Image, Id, sha256: strings, sorted by Id, then Image

    @classmethod
    def of(cls, images: Sequence[str], ids: Sequence[str], sha256: Sequence[str | None]) -> PhotoList:
        """Take photos in an order of their own."""
        import pyarrow as pa

        columns = (pa.array(column, pa.string()) for column in (images, ids, sha256))
        return cls(pa.table(list(columns), schema=photo_schema()))

    def __len__(self) -> int:
        """Return the number of photos, N."""
        return int(self.table.num_rows)

    def __getitem__(self, row: int) -> Photo:
        """Return one photo."""
        image, name, sha256 = (column[int(row)].as_py() for column in self.table.columns)
        return Photo(name, image, sha256)

    def __iter__(self) -> Iterator[Photo]:
        """Yield all photos."""
        for batch in self.table.to_batches(_CHUNK):
            images, ids, hashes = (column.to_pylist() for column in batch.columns)
            yield from map(Photo, ids, images, hashes)

    @property
    def order(self) -> NDArray[np.int64]:
        """The rows sorted by Id, then Image."""
        import pyarrow.compute as pc

        keys = [("Id", "ascending"), ("Image", "ascending")]
        return np.asarray(pc.sort_indices(self.table, keys)).astype(np.int64)

    def taken(self, rows: NDArray[np.int64]) -> PhotoList:
        """Return the photos in another order."""
        return PhotoList(self.table.take(rows))

    @cached_property
    def individuals(self) -> tuple[list[str], NDArray[np.int64]]:
        """The ids in the order in which they come first, and of each photo the place of its own."""
        ids = self.table["Id"].combine_chunks().dictionary_encode()
        return ids.dictionary.to_pylist(), ids.indices.to_numpy().astype(np.int64)


def photo_schema() -> pa.Schema:
    """Return the columns of a gallery's photos."""
    import pyarrow as pa

    return pa.schema([("Image", pa.string()), ("Id", pa.string()), ("sha256", pa.string())])


class Rows(Protocol):
    """Vectors that are looked up by rows: an array, or what makes them where they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""

    def __getitem__(self, rows: NDArray[np.int64]) -> Vectors:
        """Return some of the N."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Labelled photos and their vectors. Make one with `build_gallery` or `gallery_files.load_gallery`."""

    vectors: Stored  # N x D, of length 1, as retrieval/vectors.py makes them; in half precision where there are codes
    photos: PhotoList  # N, sorted
    provenance: Provenance
    exact_up_to: int = EXACT_UP_TO  # photos; more are searched through `codes`
    codes: Codes | None = None

    def __len__(self) -> int:
        """Return the number of photos, N."""
        return len(self.photos)

    @property
    def individuals(self) -> list[str]:
        """Sorted ids."""
        return self.photos.individuals[0]

    @property
    def individual(self) -> NDArray[np.int64]:
        """Place in `individuals` of each of N photos."""
        return self.photos.individuals[1]

    @cached_property
    def spread(self) -> Spread | None:
        """How far one vector each of some individuals spread: whether this model tells anybody apart."""
        names = self.individuals
        some = np.unique(np.linspace(0, len(names) - 1, min(len(names), _JUDGED)).round().astype(int))
        return spread_of(self.vectors[np.searchsorted(self.individual, some)], some)


def build_gallery(
    vectors: Rows,
    images: Sequence[str],
    ids: Sequence[str],
    provenance: Provenance,
    sha256: Sequence[str | None] | None = None,
    exact_up_to: int = EXACT_UP_TO,
) -> Gallery:
    """Make a gallery of labelled photos.

    Photos of new_whale must have been left out. The same file under two ids is taken, with a warning: catalogues have
    such cases, and people decide them.

    Args:
        vectors: N x D, from `photo_vectors`; a gallery searched through codes keeps them in half precision.
        images: N plain file names, no two alike.
        ids: N individuals.
        provenance: of the vectors.
        sha256: N hex digests of the photos' files, or None where unknown.
        exact_up_to: up to so many photos every search compares with all of them.
    """
    hashes = [None] * len(images) if sha256 is None else sha256
    check_ids(ids)
    check_images(images)
    check_hashes(hashes)
    _refuse_repeated(images)
    _warn_of_conflicts(images, ids, hashes)
    unsorted = PhotoList.of(images, ids, hashes)
    order, large = unsorted.order, len(images) > exact_up_to
    photos = unsorted.taken(order)
    stored = _stored(vectors, order, np.dtype(np.float16 if large else np.float32))
    return Gallery(stored, photos, provenance, exact_up_to, new_codes(stored, photos.individuals[1]) if large else None)


def _stored(vectors: Rows, order: NDArray[np.int64], dtype: np.dtype[Any]) -> Stored:
    """Return vectors in another order and C-ordered; refuse another shape, NaN and vectors that are too long."""
    if len(vectors.shape) != 2 or vectors.shape[0] != len(order):
        raise FlukeprintError(
            f"the vectors are {vectors.shape}, expected ({len(order)}, D): one per photo. "
            "Make them with photo_vectors from the members that the gallery names."
        )
    stored: Stored = np.empty(vectors.shape, dtype)
    for rows in blocks(len(order)):
        part = single(vectors[order[rows]])
        if (wrong := too_long(part)) is not None:
            raise FlukeprintError(
                f"the vector of photo {order[rows][wrong] + 1} is not of length 1, or not a number. "
                "Make it with photo_vectors."
            )
        stored[rows] = part
    return stored


def too_long(vectors: Stored) -> int | None:
    """Return the first row that is longer than 1 or has a NaN or an infinity, or None."""

    def bad(rows: slice) -> NDArray[np.int64]:
        part = single(vectors[rows])
        return np.asarray(rows.start + np.flatnonzero(~(np.einsum("nd,nd->n", part, part) <= _LONGEST**2)))

    return next((int(row) for rows in on_all_threads(bad, blocks(len(vectors))) for row in rows), None)


def _refuse_repeated(images: Sequence[str]) -> None:
    if len(set(images)) == len(images):
        return
    twice = [name for name, count in Counter(images).items() if count > 1]
    raise FlukeprintError(
        f"two photos would be called {_listed(twice)}. A gallery knows photos by name: rename one of them."
    )


def _warn_of_conflicts(images: Sequence[str], ids: Sequence[str], sha256: Sequence[str | None]) -> None:
    first: dict[str, int] = {}
    pairs = [(first.setdefault(digest, row), row) for row, digest in enumerate(sha256) if digest]
    conflicts = [(one, two) for one, two in pairs if ids[one] != ids[two]]
    if conflicts:
        one, two = conflicts[0]
        log.warning(
            "%d file(s) are in the gallery under two ids, such as %s (%s) and %s (%s)",
            len(conflicts), images[one], ids[one], images[two], ids[two],
        )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
