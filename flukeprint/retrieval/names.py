"""Which names a gallery takes for individuals and photos. Names come from others and end up in tables and paths."""

import re
from collections.abc import Iterable

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.photos import plain_file_name

_ID = re.compile(r"(?![.=+@-])[^\s/\\]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_ids(ids: Iterable[str]) -> None:
    """Refuse what is no name of an individual, or what a spreadsheet takes for a formula."""
    for name in set(ids):
        if name == NEW_WHALE:
            raise FlukeprintError(
                f"{NEW_WHALE!r} is no individual: two photos with that label usually show two whales. "
                "Leave the photo out of the gallery, or give the whale an id of its own."
            )
        if not (isinstance(name, str) and _ID.fullmatch(name) and name.isprintable()):
            raise FlukeprintError(
                f"the id {name!r} cannot be used: expected 1 to 64 printable characters without blanks, / and \\, "
                "not starting with . = + - @. Choose another id."
            )


def check_images(images: Iterable[str | None]) -> None:
    """Refuse photo names that are not plain file names (no folder, no leading dot, no control characters)."""
    for name in images:
        if not isinstance(name, str) or not plain_file_name(name):
            raise FlukeprintError(
                f"the photo's name {name!r} cannot be used: expected a plain file name, without a folder, a leading "
                "dot or control characters. Rename the file."
            )


def check_hashes(hashes: Iterable[str | None]) -> None:
    """Refuse what is neither null nor a hex SHA-256 in lower case."""
    for value in hashes:
        if value is not None and not (isinstance(value, str) and _SHA256.fullmatch(value)):
            raise FlukeprintError(
                f"a photo's sha256 is {value!r}, expected 64 hexadecimal digits in lower case, or null. Correct it."
            )
