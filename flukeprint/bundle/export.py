"""`flukeprint export`: a project's model, gallery and calibration as one folder that needs nothing else."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from flukeprint.bundle.album import Entry, write_album
from flukeprint.bundle.bundle_manifest import ALBUM, GALLERY, check_files, write_manifest
from flukeprint.bundle.card import model_card
from flukeprint.bundle.model import Model
from flukeprint.bundle.onnx_members import export_onnx
from flukeprint.bundle.opening import finetuned_files, open_project
from flukeprint.bundle.preprocessing import NAME as PREPROCESSING
from flukeprint.bundle.preprocessing import Preprocessing
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_json
from flukeprint.core.replacement import recover, replacing_folder
from flukeprint.core.safe_text import printable
from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.gallery_files import load_gallery, locked, save_gallery
from flukeprint.scoring.calibration import write_calibration

_VECTOR = (
    "each member's embedding of each view scaled to length 1, joined member after member (a member's views side by "
    "side), divided by the root of their number: the inner product of two photos is the mean cosine similarity"
)


def export_bundle(folder: Path, gallery: Path | None = None, *, pictures: bool = True) -> int:
    """Write a bundle of the project in the current folder; return how many photos of the gallery have a picture.

    `folder` is new, empty, or a bundle that is to be replaced; anything else is refused. `gallery` takes the place of
    models/gallery. `pictures` are small ones of every photo, for pages and near-duplicates.
    """
    recover(folder)  # before it is looked at: what a killed export moved aside is the bundle
    refuse_other_folder(folder)
    model = open_project(gallery)
    content = model.gallery()
    _refuse_to_lose_photos(folder, content)
    with ExitStack() as held, replacing_folder(folder) as temporary:
        shown = _write(temporary, model, content, pictures=pictures)
        if (folder / GALLERY).is_dir():
            # Somebody may have enrolled photos meanwhile; from here until the new bundle is in place nobody can.
            held.enter_context(locked(folder / GALLERY))
            _refuse_to_lose_photos(folder, content)
    return shown


def _write(folder: Path, model: Model, gallery: Gallery, *, pictures: bool) -> int:
    """Write the files of a bundle; return how many photos have a picture."""
    (folder / "members").mkdir()
    for member, path in finetuned_files(model.provenance.weights).items():
        shutil.copyfile(path, folder / "members" / path.name)
        export_onnx(path, folder / "members" / f"{member}.onnx")
    described = Preprocessing(provenance=model.provenance, vector=_VECTOR, pictures=pictures, limits=model.limits)
    write_json(folder / PREPROCESSING, described.model_dump())
    if model.calibration:
        write_calibration(folder / "decision.json", model.calibration)
    save_gallery(gallery, folder / GALLERY)
    entries: list[Entry] = []
    if pictures:
        with ThreadPoolExecutor(max(model.workers, 1)) as pool:
            entries = [entry for entry in pool.map(model.album().entry, gallery.photos) if entry]
        write_album(folder / ALBUM, entries)
    (folder / "README.md").write_text(model_card(model.provenance, gallery, len(entries)), encoding="utf-8")
    for lock in folder.glob(".*.lock"):  # what writing the gallery left beside it
        lock.unlink()
    write_manifest(folder)
    return len(entries)


def refuse_other_folder(folder: Path) -> None:
    """Refuse to replace what is not a bundle, whole and with nothing else beside it."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FlukeprintError(f"{folder} is no folder, and would be replaced. Name a new or an empty folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        check_files(folder)
    except FlukeprintError as error:
        raise FlukeprintError(
            f"{folder} holds other files than a bundle ({error}), and would be replaced. Name a new or an empty folder."
        ) from None


def _refuse_to_lose_photos(folder: Path, content: Gallery) -> None:
    """Refuse to replace a bundle into which photos were enrolled that the new one would not have."""
    if not (folder / GALLERY).is_dir():
        return
    known = set(content.photos)
    lost = [photo for photo in load_gallery(folder / GALLERY).photos if photo not in known]
    if lost:
        raise FlukeprintError(
            f"the bundle in {folder} would be replaced, and its gallery has {len(lost)} photo(s) that the new one "
            f"lacks, such as {printable(lost[0].image)} of {printable(lost[0].id)}. Name another folder, or bring them "
            f"along (`flukeprint gallery merge {folder / GALLERY}`; of two files of one name, rename one and enrol it "
            "again)."
        )
