"""What a gallery holds: labelled photos and their vectors, in the one order that it has. It is never changed.

Rows are sorted by individual, then photo name. So the same photos give the same bytes, whatever the order in which
they came, and an individual's rows stand together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.metrics.spread import Spread, spread_of
from flukeprint.retrieval.cells import EXACT_UP_TO, Cells, new_cells
from flukeprint.retrieval.names import check_hashes, check_ids, check_images
from flukeprint.retrieval.provenance import Provenance

_CHUNK = 1 << 16
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


@dataclass(frozen=True, eq=False)
class Gallery:
    """Labelled photos and their vectors. Make one with `build_gallery` or `gallery_files.load_gallery`."""

    vectors: NDArray[np.float32]  # N x D, of length 1, as retrieval/vectors.py makes them
    photos: Sequence[Photo]  # N, sorted
    provenance: Provenance
    exact_up_to: int = EXACT_UP_TO  # photos; more are searched through `cells`
    cells: Cells | None = None

    def __len__(self) -> int:
        """Return the number of photos, N."""
        return len(self.photos)

    @cached_property
    def individuals(self) -> list[str]:
        """Sorted ids."""
        return list(dict.fromkeys(photo.id for photo in self.photos))

    @cached_property
    def individual(self) -> NDArray[np.int64]:
        """Place in `individuals` of each of N photos."""
        place = {name: index for index, name in enumerate(self.individuals)}
        return np.fromiter((place[photo.id] for photo in self.photos), np.int64, len(self))

    @cached_property
    def spread(self) -> Spread | None:
        """How far one vector each of some individuals spread: whether this model tells anybody apart."""
        names = self.individuals
        some = np.unique(np.linspace(0, len(names) - 1, min(len(names), _JUDGED)).round().astype(int))
        return spread_of(self.vectors[np.searchsorted(self.individual, some)], some)


def build_gallery(
    vectors: NDArray[np.float32],
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
        vectors: float32, N x D, from `photo_vectors`.
        images: N plain file names, no two alike.
        ids: N individuals.
        provenance: of the vectors.
        sha256: N hex digests of the photos' files, or None where unknown.
        exact_up_to: up to so many photos every search compares with all of them.
    """
    photos = _photos(images, ids, sha256)
    vectors = _checked_vectors(vectors, len(photos))
    _refuse_repeated(photos)
    _warn_of_conflicts(photos)
    order = sorted(range(len(photos)), key=lambda row: photos[row][:2])
    if order != list(range(len(photos))):
        vectors = vectors[order]
    cells = new_cells(vectors) if len(photos) > exact_up_to else None
    return Gallery(vectors, [photos[row] for row in order], provenance, exact_up_to, cells)


def _photos(images: Sequence[str], ids: Sequence[str], sha256: Sequence[str | None] | None) -> list[Photo]:
    hashes = [None] * len(images) if sha256 is None else sha256
    check_ids(ids)
    check_images(images)
    check_hashes(hashes)
    return [Photo(*row) for row in zip(ids, images, hashes, strict=True)]


def _checked_vectors(vectors: NDArray[np.float32], photos: int) -> NDArray[np.float32]:
    """Return C-ordered float32 vectors; refuse another shape, NaN and vectors that are too long."""
    if vectors.ndim != 2 or vectors.shape[0] != photos:
        raise FlukeprintError(
            f"the vectors are {vectors.shape}, expected ({photos}, D): one per photo. "
            "Make them with photo_vectors from the members that the gallery names."
        )
    array = np.ascontiguousarray(vectors, np.float32)
    wrong = too_long(array)
    if wrong is not None:
        raise FlukeprintError(
            f"the vector of photo {wrong + 1} is not of length 1, or not a number. Make it with photo_vectors."
        )
    return array


def too_long(vectors: NDArray[np.float32]) -> int | None:
    """Return the first row that is longer than 1 or has a NaN or an infinity, or None."""
    for start in range(0, len(vectors), _CHUNK):
        chunk = vectors[start : start + _CHUNK]
        good = np.einsum("nd,nd->n", chunk, chunk) <= _LONGEST**2
        if not good.all():
            return start + int(np.argmin(good))
    return None


def _refuse_repeated(photos: Sequence[Photo]) -> None:
    twice = [name for name, count in Counter(photo.image for photo in photos).items() if count > 1]
    if twice:
        raise FlukeprintError(
            f"two photos would be called {_listed(twice)}. A gallery knows photos by name: rename one of them."
        )


def _warn_of_conflicts(photos: Sequence[Photo]) -> None:
    first: dict[str | None, Photo] = {}
    pairs = [(first.setdefault(photo.sha256, photo), photo) for photo in photos if photo.sha256]
    conflicts = [(one, two) for one, two in pairs if one.id != two.id]
    if conflicts:
        one, two = conflicts[0]
        log.warning(
            "%d file(s) are in the gallery under two ids, such as %s (%s) and %s (%s)",
            len(conflicts), one.image, one.id, two.image, two.id,
        )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
