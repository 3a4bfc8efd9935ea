"""The HTML page: each photo beside its candidates, to look at, to print and to hand on. It loads and runs nothing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.bundle.album import draw_picture
from flukeprint.core.files import replacing
from flukeprint.core.text import printable
from flukeprint.identify.formats import PEOPLE_DECIDE, percent
from flukeprint.pages.templates import template

if TYPE_CHECKING:
    from flukeprint.identify.answers import Identification
    from flukeprint.identify.matching import RankedCandidate

# (width, height) in px that a query's picture fits into.
_QUERY = (480, 240)


@dataclass
class _PhotoPictures:
    """Pictures as data URIs, each drawn or looked up when the template asks for it."""

    answers: Identification

    def __post_init__(self) -> None:
        self._photos = {photo.image: photo for photo in self.answers.gallery.photos}

    def of_query(self, path: Path, place: int) -> str:
        """Return the picture of an answered photo."""
        return _uri(draw_picture(path.parent, self.answers.answers[place].record, _QUERY))

    def of_candidate(self, candidate: RankedCandidate) -> str | None:
        """Return the picture of a candidate's most similar photo, if the album has it."""
        entry = self.answers.album.entry(self._photos[candidate.photo])
        return _uri(entry.picture) if entry else None


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def write_page(path: Path, answers: Identification) -> None:
    """Write the page, photo after photo: memory does not grow with their number.

    Raises:
        FlukeprintError: a photo cannot be read any more.

    """
    context = {
        "answers": answers,
        "pictures": _PhotoPictures(answers),
        "people_decide": PEOPLE_DECIDE,
        "percent": percent,
        "shown": printable,
    }
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(template(__file__, "identification_page.html.j2").generate(context))
