"""The HTML page: each photo beside its candidates, to look at, to print and to hand on. It loads and runs nothing."""

from functools import partial
from pathlib import Path

from flukeprint.core.replacement import replacing
from flukeprint.core.safe_text import printable
from flukeprint.identify.answers import Identification
from flukeprint.identify.formats import PEOPLE_DECIDE, about_probabilities, beyond_calibration, percent
from flukeprint.identify.keypoint_lines import keypoint_lines
from flukeprint.identify.page_pictures import PagePictures
from flukeprint.pages.templates import template


def write_page(path: Path, answers: Identification) -> None:
    """Write the page, picture after picture: memory does not grow with their number."""
    context = {
        "answers": answers,
        "pictures": PagePictures(answers),
        "people_decide": PEOPLE_DECIDE,
        "about_probabilities": about_probabilities,
        "beyond_calibration": beyond_calibration,
        "percent": percent,
        "shown": printable,
        "keypoint_lines": partial(keypoint_lines, answers),
    }
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(template(__file__, "identification_page.html.j2").generate(context))
