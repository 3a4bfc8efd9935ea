"""What a gallery holds, and how it changes: every change gives a new gallery, in the one order that it has.

Rows are sorted by individual, then photo name. So the same photos give the same bytes, whatever the order in which
they came, and an individual's rows stand together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flukeprint.core.errors import FlukeprintError
from flukeprint.metrics.spread import Spread, spread_of
from flukeprint.retrieval.cells import EXACT_UP_TO, Cells, cells_for
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

    def add(
        self,
        vectors: NDArray[np.float32],
        images: Sequence[str],
        ids: Sequence[str],
        sha256: Sequence[str | None] | None = None,
        *,
        allow_copies: bool = False,
    ) -> Gallery:
        """Return the gallery with n more photos, of its individuals or of others; arguments as for `build_gallery`.

        The vectors are made with the gallery's provenance (`provenance.refuse_other` tells). `allow_copies` also takes
        a photo whose file is there already under another name.
        """
        return self._joined(vectors, _photos(images, ids, sha256), allow_copies=allow_copies)

    def _joined(self, vectors: NDArray[np.float32], photos: list[Photo], *, allow_copies: bool) -> Gallery:
        vectors = _checked_vectors(vectors, len(photos), self.vectors.shape[1])
        if not allow_copies:
            _refuse_copies(self.photos, photos)
        _refuse_repeated([*self.photos, *photos])
        return self._with(np.concatenate([self.vectors, vectors]), [*self.photos, *photos], range(len(self)))

    def remove(self, ids: Iterable[str] = (), images: Iterable[str] = ()) -> Gallery:
        """Return the gallery without these individuals (all their photos) and photos; unknown names are refused."""
        ids, images = set(ids), set(images)
        _refuse_unknown("individual", ids - set(self.individuals))
        _refuse_unknown("photo", images - {photo.image for photo in self.photos})
        kept = [n for n, photo in enumerate(self.photos) if photo.id not in ids and photo.image not in images]
        return self._with(self.vectors[np.array(kept, np.int64)], [self.photos[row] for row in kept], kept)

    def rename(self, old: str, new: str) -> Gallery:
        """Return the gallery with individual `old` called `new`. If there is a `new` already, both become one."""
        check_ids([new])
        _refuse_unknown("individual", {old} - set(self.individuals))
        photos = [photo._replace(id=new) if photo.id == old else photo for photo in self.photos]
        return self._with(self.vectors, photos, range(len(self)))

    def merge(self, other: Gallery, *, allow_copies: bool = False) -> Gallery:
        """Return the gallery with another one's photos. A photo with the same id and file in both is kept once."""
        self.provenance.refuse_other(other.provenance, "the other gallery")
        own = {(photo.id, photo.sha256) for photo in self.photos if photo.sha256}
        rows = [row for row, photo in enumerate(other.photos) if (photo.id, photo.sha256) not in own]
        vectors = other.vectors[np.array(rows, np.int64)]
        return self._joined(vectors, [other.photos[row] for row in rows], allow_copies=allow_copies)

    def _with(self, vectors: NDArray[np.float32], photos: Sequence[Photo], kept: Sequence[int]) -> Gallery:
        """Return a gallery of other rows, of which the first ones are this one's rows `kept`."""
        cell = None if self.cells is None else (self.cells, self.cells.cell[np.array(kept, np.int64)])
        return _arranged(vectors, photos, self.provenance, self.exact_up_to, cell)


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
    vectors = _checked_vectors(vectors, len(photos), None)
    _refuse_repeated(photos)
    _warn_of_conflicts(photos)
    return _arranged(vectors, photos, provenance, exact_up_to, None)


def _arranged(
    vectors: NDArray[np.float32],
    photos: Sequence[Photo],
    provenance: Provenance,
    exact_up_to: int,
    old: tuple[Cells, NDArray[np.int32]] | None,
) -> Gallery:
    """Sort the rows and give them cells. `old`: cells there were, and the cell of each of the first rows."""
    order = sorted(range(len(photos)), key=lambda row: photos[row][:2])
    if order != list(range(len(photos))):
        vectors = vectors[order]
    cells = None
    if len(photos) > exact_up_to:
        known = np.full(len(photos), -1, np.int32)
        if old is not None:
            known[: len(old[1])] = old[1]
        cells = cells_for(vectors, None if old is None else old[0], known[order])
    return Gallery(vectors, [photos[row] for row in order], provenance, exact_up_to, cells)


def _photos(images: Sequence[str], ids: Sequence[str], sha256: Sequence[str | None] | None) -> list[Photo]:
    hashes = [None] * len(images) if sha256 is None else sha256
    check_ids(ids)
    check_images(images)
    check_hashes(hashes)
    return [Photo(*row) for row in zip(ids, images, hashes, strict=True)]


def _checked_vectors(vectors: NDArray[np.float32], photos: int, dimension: int | None) -> NDArray[np.float32]:
    """Return C-ordered float32 vectors; refuse another shape, NaN and vectors that are too long."""
    if vectors.ndim != 2 or vectors.shape[0] != photos or dimension not in (None, vectors.shape[1]):
        wanted = "D" if dimension is None else str(dimension)
        raise FlukeprintError(
            f"the vectors are {vectors.shape}, expected ({photos}, {wanted}): one per photo. "
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
            f"two photos would be called {_listed(twice)}. Rename the new one's file, or remove the old one first."
        )


def _refuse_copies(own: Sequence[Photo], new: Sequence[Photo]) -> None:
    """Refuse a file that is there already: it would weigh twice, or name two individuals."""
    known = {photo.sha256: photo for photo in own if photo.sha256}
    for photo in new:
        there = known.get(photo.sha256) if photo.sha256 else None
        if there:
            same, other = "Leave it out.", "Decide which id is right; remove the other photo first."
            raise FlukeprintError(
                f"{photo.image!r} for {photo.id!r} is the same file as {there.image!r} of {there.id!r} in the gallery. "
                + (same if photo.id == there.id else other)
            )
        if photo.sha256:
            known[photo.sha256] = photo


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


def _refuse_unknown(kind: str, names: set[str]) -> None:
    if names:
        raise FlukeprintError(f"the gallery has no {kind} {_listed(sorted(names))}. Check the spelling.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
