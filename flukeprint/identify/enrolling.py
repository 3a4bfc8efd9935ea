"""Enrolment: photos of an individual join the gallery, without any training."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flukeprint.bundle.album import add_to_album, entry_of
from flukeprint.bundle.encoder import Encoded
from flukeprint.bundle.model import Model
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import GALLERY
from flukeprint.core.safe_text import printable, told_apart
from flukeprint.data.spellings import looks_like, unknown_among
from flukeprint.identify.gallery_duplicates import near_duplicates_of
from flukeprint.quality.flags import flags_of
from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.gallery_files import update_gallery
from flukeprint.retrieval.names import check_ids, check_images


@dataclass(frozen=True)
class Enrolled:
    """What an enrolment did."""

    images: list[str]
    id: str
    before: int  # photos that the individual had
    gallery: Gallery  # as it is now
    warnings: list[str]


def enroll(model: Model, paths: Sequence[Path], identity: str, *, force: bool = False) -> Enrolled:
    """Add photos of one individual to the model's gallery: all of them, or none if one is refused.

    Their file names are their names in the gallery, so no two may have the same. `force` also takes photos that are
    nearly the same picture as one of another individual.
    """
    check_ids([identity])
    check_images([path.name for path in paths])
    _refuse_equal_names(paths)
    encoded = model.encode(paths)
    encoded.refuse_failed("nothing was enrolled")
    entries = [entry_of(photo.path.parent, photo.record) for photo in encoded.photos]
    warnings: list[str] = []

    def change(gallery: Gallery) -> Gallery:
        gallery.provenance.refuse_other(model.provenance, model.name)
        warnings.extend(_doubts_about(identity, gallery, model.limits.unknown_words))
        warnings.extend(_warnings(model, encoded, gallery, identity, force=force))
        changed = gallery.add(
            encoded.vectors,
            [photo.path.name for photo in encoded.photos],
            [identity] * len(paths),
            [photo.record.sha256 for photo in encoded.photos],
            allow_copies=force,
        )
        add_to_album(model.gallery_folder, entries)
        return changed

    changed = update_gallery(model.gallery_folder, change)
    before = sum(photo.id == identity for photo in changed.photos) - len(paths)
    return Enrolled([path.name for path in paths], identity, before, changed, warnings)


def _refuse_equal_names(paths: Sequence[Path]) -> None:
    """Refuse two photos of one name, from two folders: in the gallery they would be the same."""
    first: dict[str, Path] = {}
    for path in paths:
        if (other := first.setdefault(path.name, path)) != path:
            raise FlukeprintError(
                f"nothing was enrolled, because {str(other)!r} and {str(path)!r} have the same name, and a gallery "
                "knows photos by name. Rename one of them, or leave it out."
            )


def _doubts_about(identity: str, gallery: Gallery, unknown_words: Sequence[str]) -> list[str]:
    """Return why an id may not be what was meant."""
    doubts = [
        f"{identity!r} looks like {told_apart(identity, other)}: one whale under two ids?"
        for other in looks_like(identity, gallery.individuals)
    ]
    if unknown_among([identity], unknown_words):
        doubts.append(f"{identity!r} says that nobody knows the whale. Give each unknown whale an id of its own.")
    return doubts


def _warnings(model: Model, encoded: Encoded, gallery: Gallery, identity: str, *, force: bool) -> list[str]:
    """Return what is odd about the photos; refuse near-duplicates of other individuals unless `force`."""
    records = [photo.record for photo in encoded.photos]
    found = near_duplicates_of(records, gallery.photos, model.album(), model.limits)
    pairs = [(record, same) for record, duplicates in zip(records, found, strict=True) for same in duplicates]
    others = [(record, same) for record, same in pairs if same.photo.id != identity]
    if others and not force:
        record, same = others[0]
        raise FlukeprintError(
            f"{printable(record.name)} is nearly the same picture as {same} in the gallery, and would be enrolled as "
            f"{identity}. One picture shows one whale: compare both. If {printable(same.photo.id)} is right, enrol it "
            "under that id or leave it out; --force enrols it all the same."
        )
    return [f"{printable(record.name)} is nearly the same picture as {same}" for record, same in pairs] + [
        f"{printable(record.name)}: {flag.says}" for record in records for flag in flags_of(record, model.limits)
    ]


def as_text(done: Enrolled, folder: Path) -> str:
    """Say what was done to the gallery in `folder`, and how to undo it."""
    had = f"which had {done.before}" if done.before else "which is new"
    images = [f"--image={image}" for image in done.images]  # names may start with a dash
    lines = [f"! {warning}" for warning in done.warnings]
    lines += [
        f"{folder}: {len(done.images)} photo(s) added to {done.id}, {had}; now {len(done.gallery)} photos of "
        f"{len(done.gallery.individuals)} individuals",
        "To undo: " + shlex.join(["flukeprint", "gallery", "remove", *images, "--gallery", str(folder)]),
    ]
    if folder == GALLERY:
        lines.append(
            f"{GALLERY} is an output of the pipeline: the next `dvc repro` makes it anew, without these "
            "photos. To keep them, add them to the raw data, or work on a copy of the folder (--gallery DIR)."
        )
    return "\n".join(lines)
