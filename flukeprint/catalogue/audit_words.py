"""What an audit found, in words."""

from flukeprint.catalogue.audit import Audit
from flukeprint.core.safe_text import printable
from flukeprint.identify.formats import PEOPLE_DECIDE, percent


def audit_text(found: Audit, place: str) -> str:
    """Say what is probably wrong; `place` is the catalogue's, for commands."""
    lines = ["One whale under two ids"]
    for name in found.second_names:
        one_whale = name.merge(place)
        lines.append(
            f"  one file  {name.id} and {name.second}: p{name.photo} stands under both. One whale: {one_whale}"
        )
    for pair in found.one_whale:
        same = pair.same_pictures
        copies = "" if same is None else f"; p{same[0]} and p{same[1]} are nearly the same picture"
        whales = f"{pair.first} and {pair.second}, similarity {pair.similarity:.3f}{copies}"
        lines.append(f"  {percent(pair.probability):>8}  {whales}")
    if found.without:
        return "\n".join([*lines, f"More was not looked at: {found.without}."])
    lines.append("Two whales under one id")
    for one in found.two_whales:
        photos = " ".join(f"p{photo}" for photo in one.photos)
        parts = f"{one.id}: {photos} and the others, similarity {one.similarity:.3f}"
        lines.append(f"  {percent(one.probability):>8}  {parts}")
    lines.append("Photos under a wrong id")
    for wrong in found.mislabelled:
        other = f", perhaps {wrong.other}" if wrong.other else ""
        lines.append(f"  {percent(wrong.probability):>8}  p{wrong.photo} of {wrong.id}{other}")
    return "\n".join([*map(printable, lines), PEOPLE_DECIDE])
