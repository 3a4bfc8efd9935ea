"""The pictures of a page that is mailed: as large as all of them together may be.

A photo of the gallery is drawn once, however many queries it is shown beside: as the background of a CSS class.
"""

from __future__ import annotations

import base64
import io
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from flukeprint.bundle.album import draw_picture
from flukeprint.identify.answers import Identification, PhotoAnswer
from flukeprint.identify.matching import RankedCandidate
from flukeprint.retrieval.gallery import Gallery, Photo

# What most mail servers take, and of it what the words about one photo need.
_PAGE_BYTES, _WORDS_BYTES = 11_500_000, 3_000
# (width, height) in px that a query's picture fits into; those of the gallery are as the album has them.
_QUERY = (1280, 640)
_BEST, _USUAL = 80, 50  # JPEG qualities: where there is room, and where pictures are made smaller
_NARROWEST = 160  # px: no picture is made narrower
# How many bytes pictures get, in proportion: a query's, its first candidate's, others', a candidate's further ones.
_OF_QUERY, _OF_FIRST, _OF_OTHERS, _OF_FURTHER = 4, 3, 2, 1
# Photos of a candidate; fewer where one part would get fewer bytes than this.
_MOST_PHOTOS, _PART_BYTES = 3, 3_500


@dataclass
class PagePictures:
    """Which photos of the gallery a page shows, and how many bytes each picture may take."""

    answers: Identification
    drawn: set[int] = field(default_factory=set)  # rows of the gallery; filled in by `rules`

    def rows_of(self, place: int, candidate: RankedCandidate) -> list[int]:
        """Return the rows of the candidate's photos to show beside the query at `place`, the most similar first."""
        return self._rows[place, candidate.id][: self._plan[0]]

    def photo(self, row: int) -> Photo:
        """Return a photo of the gallery."""
        return self.answers.gallery.photos[row]

    def rules(self) -> Iterator[Markup]:
        """Yield a CSS rule for every photo of the gallery that is shown, if there is a picture of it."""
        number, part = self._plan
        for row, share in sorted(self._shares(number).items()):
            entry = self.answers.album.entry(self.photo(row))
            if entry is not None:
                self.drawn.add(row)
                picture = _uri(_within(entry.picture, part * share))
                yield Markup(".p{}{{background-image:url({})}}\n").format(row, picture)

    def query(self, answer: PhotoAnswer) -> str:
        """Return a query's picture as a data URI."""
        largest = draw_picture(answer.path.parent, answer.record, _QUERY, _BEST)
        return _uri(_within(largest, self._plan[1] * _OF_QUERY))

    @cached_property
    def _plan(self) -> tuple[int, int]:
        """How many photos a candidate has at most, and how many bytes one part is."""
        queries = len(self.answers.answers)
        room = (_PAGE_BYTES - queries * _WORDS_BYTES) * 3 // 4  # as base64 it is a third more
        for number in range(_MOST_PHOTOS, 0, -1):
            parts = queries * _OF_QUERY + sum(self._shares(number).values())
            if number == 1 or room // max(parts, 1) >= _PART_BYTES:
                break
        return number, max(room, 0) // max(parts, 1)

    def _shares(self, number: int) -> dict[int, int]:
        """Return how many parts each photo of the gallery gets: those of where it is shown largest."""
        shares: dict[int, int] = {}
        for place, answer in enumerate(self.answers.answers):
            for rank, one in enumerate(answer.match.candidates):
                for further, row in enumerate(self._rows[place, one.id][:number]):
                    share = _OF_FURTHER if further else _OF_OTHERS if rank else _OF_FIRST
                    shares[row] = max(shares.get(row, 0), share)
        return shares

    @cached_property
    def _rows(self) -> dict[tuple[int, str], list[int]]:
        """The rows of a candidate's photos, by the query's place and the candidate's id."""
        return {
            (place, one.id): _nearest_rows(self.answers.gallery, self.answers.vectors[place], one)
            for place, answer in enumerate(self.answers.answers)
            for one in answer.match.candidates
        }


def _nearest_rows(gallery: Gallery, vector: NDArray[np.float32], candidate: RankedCandidate) -> list[int]:
    """Return the rows of an individual's photos, those most similar to a vector of length D; the candidate's first."""
    place = bisect_left(gallery.individuals, candidate.id)
    start, stop = np.searchsorted(gallery.individual, [place, place + 1])
    similarity = gallery.vectors[start:stop] @ vector
    rows = [int(start + row) for row in np.argsort(-similarity, kind="stable")]
    return sorted(rows, key=lambda row: gallery.photos[row].image != candidate.photo)[:_MOST_PHOTOS]


def _within(jpeg: bytes, most: int) -> bytes:
    """Return a picture as it is if it has at most so many bytes; else drawn anew, smaller, but never tiny."""
    # Bytes grow nearly with the area, and by a half from _USUAL to _BEST.
    scale, drawn = min(1.0, (1.5 * most / len(jpeg)) ** 0.5), jpeg
    with Image.open(io.BytesIO(jpeg)) as image:
        while len(drawn) > most:
            width = max(round(image.width * scale), min(_NARROWEST, image.width))
            drawn = _jpeg(image, (width, max(1, round(image.height * width / image.width))))
            if width <= _NARROWEST:
                break
            scale *= min((most / len(drawn)) ** 0.5, 0.95)
    return drawn


def _jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    resized = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    resized.save(stream, "JPEG", quality=_USUAL, optimize=True)
    return stream.getvalue()


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
