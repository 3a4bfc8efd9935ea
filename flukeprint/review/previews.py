"""Photos as the pages show them: JPEGs drawn anew, upright, at most so large, kept beside the photos."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from sqlalchemy import select

from flukeprint.catalogue.catalogues import Catalogue, is_url
from flukeprint.catalogue.entities import PhotoRow
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_bytes
from flukeprint.core.replacement import replacing
from flukeprint.data.photos import MAX_PIXELS, as_seen, open_photo, photo_path, quiet, reason

Size = Literal["small", "large"]
# Longest side in px. The large one fills half a wide screen, and holds more for zooming.
SIDES: dict[str, int] = {"small": 320, "large": 1600}
_QUALITY = {"small": 75, "large": 88}


@dataclass(frozen=True)
class Previews:
    """The previews of a catalogue's photos."""

    catalogue: Catalogue

    @property
    def _folder(self) -> Path | None:
        place = self.catalogue.store if is_url(self.catalogue.place) else Path(self.catalogue.place)
        return None if place is None else place / "previews"

    def of(self, sha256: str, size: Size) -> bytes:
        """Return the preview of a photo.

        Raises:
            FlukeprintError: there is no such photo in the catalogue, or its file cannot be read.
        """
        kept = None if self._folder is None else self._folder / sha256[:2] / f"{sha256}-{size}.jpg"
        if kept is not None and kept.is_file():
            return read_bytes(kept, "a preview")
        drawn = drawn_preview(self._file(sha256), size)
        if kept is not None:
            with replacing(kept) as temporary:
                temporary.write_bytes(drawn)
        return drawn

    def _file(self, sha256: str) -> Path:
        query = select(PhotoRow.stored, PhotoRow.path).where(PhotoRow.sha256 == sha256)
        with self.catalogue.database.reading() as connection:
            found = connection.execute(query).one_or_none()
        if found is None:
            raise FlukeprintError(f"there is no photo {sha256} in the catalogue.")
        return self.catalogue.file_of(found.stored, found.path)


def drawn_preview(path: Path, size: Size) -> bytes:
    """Draw a photo's preview; none of its own bytes get into it."""
    try:
        with photo_path(path.parent, path.name).open("rb") as stream, quiet(), open_photo(stream, MAX_PIXELS) as image:
            seen = as_seen(image).convert("RGB")
    except Exception as error:  # noqa: BLE001 - decoders of hostile bytes raise anything, even MemoryError
        raise FlukeprintError(f"cannot read the photo {str(path)!r}: {reason(error)}. Put the file back.") from None
    seen.thumbnail((SIDES[size], SIDES[size]), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    seen.save(written, "JPEG", quality=_QUALITY[size], optimize=True)
    return written.getvalue()
