"""Matched keypoints to look at: a photo above a candidate's photo, and a line from each keypoint to its match."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup
from PIL import Image

from flukeprint.bundle.album import PICTURE, draw_picture
from flukeprint.core.safe_text import printable

if TYPE_CHECKING:
    from flukeprint.identify.answers import Identification, PhotoAnswer
    from flukeprint.identify.matching import RankedCandidate
    from flukeprint.retrieval.local_matching import Lines

# Units of the drawing: the width of both pictures, and the gap between them.
_WIDTH, _GAP = 480.0, 12.0
_BOX = Markup(
    '<details class="keypoints"><summary>{summary}</summary>'
    '<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" width="100%">'
    '{upper}{lower}<g stroke="#ffc400" fill="#ffc400">{lines}</g></svg></details>'
)
_IMAGE = Markup('<image href="{uri}" x="0" y="{top:.1f}" width="{width:g}" height="{height:.1f}"/>')
_LINE = Markup(
    '<line x1="{0:.1f}" y1="{1:.1f}" x2="{2:.1f}" y2="{3:.1f}"/>'
    '<circle cx="{0:.1f}" cy="{1:.1f}" r="2"/><circle cx="{2:.1f}" cy="{3:.1f}" r="2"/>'
)


class _Picture(NamedTuple):
    jpeg: bytes
    height: float  # of the picture, _WIDTH wide

    @classmethod
    def of(cls, jpeg: bytes) -> _Picture:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            return cls(jpeg, _WIDTH * image.height / image.width)

    def drawn(self, top: float) -> Markup:
        uri = "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()
        return _IMAGE.format(uri=uri, top=top, width=_WIDTH, height=self.height)


def keypoint_lines(answers: Identification, answer: PhotoAnswer, candidate: RankedCandidate) -> Markup:
    """Return what a page shows of a candidate's matched keypoints; nothing where none was looked for."""
    if candidate.local is None:
        return Markup()
    where = f"{printable(candidate.local.image)} of {printable(candidate.id)}"
    number = len(candidate.local.lines)
    if not number:
        return Markup('<p class="soft">no matched keypoints</p>')
    says = f"{number} matched keypoints in {where}"
    photo = next(one for one in answers.gallery.photos if one.image == candidate.local.image)
    there = answers.album.picture(photo, PICTURE)
    if there is None:
        return Markup('<p class="soft">{}</p>').format(says)
    upper, lower = _Picture.of(draw_picture(answer.path.parent, answer.record)), _Picture.of(there)
    shift = upper.height + _GAP
    return _BOX.format(
        summary=says,
        width=_WIDTH,
        height=shift + lower.height,
        label=f"{says}, drawn as lines from the query above to it below",
        upper=upper.drawn(0),
        lower=lower.drawn(shift),
        lines=_drawn(candidate.local.lines, upper.height, shift, lower.height),
    )


def _drawn(lines: Lines, upper: float, shift: float, lower: float) -> Markup:
    """Draw lines between pictures of these heights, the lower one of which begins at `shift`."""
    ends = ((x1 * _WIDTH, y1 * upper, x2 * _WIDTH, shift + y2 * lower) for x1, y1, x2, y2 in lines)
    return Markup("").join(_LINE.format(*end) for end in ends)
