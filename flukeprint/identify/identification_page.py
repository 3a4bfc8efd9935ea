"""The HTML page: each photo beside its candidates, to look at, to print and to hand on. It loads and runs nothing."""

import base64
from functools import partial
from pathlib import Path

from flukeprint.bundle.album import draw_picture
from flukeprint.core.replacement import replacing
from flukeprint.core.safe_text import printable
from flukeprint.identify.answers import Identification, PhotoAnswer
from flukeprint.identify.formats import PEOPLE_DECIDE, about_probabilities, beyond_calibration, percent
from flukeprint.identify.keypoint_lines import keypoint_lines
from flukeprint.identify.matching import RankedCandidate
from flukeprint.pages.templates import template

# (width, height) in px that a query's picture fits into.
_QUERY = (480, 240)


def write_page(path: Path, answers: Identification) -> None:
    """Write the page, photo after photo: memory does not grow with their number."""
    photos = {photo.image: photo for photo in answers.gallery.photos}

    def candidate_picture(candidate: RankedCandidate) -> str | None:
        entry = answers.album.entry(photos[candidate.photo])
        return _uri(entry.picture) if entry else None

    context = {
        "answers": answers,
        "query_picture": _query_picture,
        "candidate_picture": candidate_picture,
        "people_decide": PEOPLE_DECIDE,
        "about_probabilities": about_probabilities,
        "beyond_calibration": beyond_calibration,
        "percent": percent,
        "shown": printable,
        "keypoint_lines": partial(keypoint_lines, answers),
    }
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(template(__file__, "identification_page.html.j2").generate(context))


def _query_picture(answer: PhotoAnswer) -> str:
    return _uri(draw_picture(answer.path.parent, answer.record, _QUERY))


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
