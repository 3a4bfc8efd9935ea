"""`flukeprint export`: a project's model, gallery and calibration as one folder that needs nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.bundle.album import Entry, write_album
from flukeprint.bundle.bundle_manifest import ALBUM, GALLERY, check_files, write_manifest
from flukeprint.bundle.card import model_card
from flukeprint.bundle.model import Model
from flukeprint.bundle.onnx_members import export_localiser, export_onnx
from flukeprint.bundle.opening import finetuned_files, open_project
from flukeprint.bundle.preprocessing import NAME as PREPROCESSING
from flukeprint.bundle.preprocessing import Preprocessing
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_json
from flukeprint.core.paths import DECISION, LOCALISER, LOCALISER_WEIGHTS
from flukeprint.core.replacement import recover, replacing_folder
from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.gallery_files import save_gallery
from flukeprint.scoring.calibration import write_calibration

if TYPE_CHECKING:
    from flukeprint.scoring.local_calibration import LocalCalibration

VECTOR = (
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
    with replacing_folder(folder) as temporary:
        return _write(temporary, model, content, pictures=pictures)


def _write(folder: Path, model: Model, gallery: Gallery, *, pictures: bool) -> int:
    """Write the files of a bundle; return how many photos have a picture."""
    local = _write_local_calibration(folder, model)  # first: it may be refused
    described = Preprocessing(
        provenance=model.provenance, vector=VECTOR, pictures=pictures, limits=model.limits, crop=model.crop
    )
    write_networks(folder, finetuned_files(model.provenance.weights), described)
    if model.calibration:
        write_calibration(folder / "decision.json", model.calibration)
    save_gallery(gallery, folder / GALLERY)
    entries: list[Entry] = []
    if pictures:
        with ThreadPoolExecutor(max(model.workers, 1)) as pool:
            entries = [entry for entry in pool.map(model.album().entry, gallery.photos) if entry]
        write_album(folder / ALBUM, entries)
    (folder / "README.md").write_text(model_card(model.provenance, gallery, len(entries), local), encoding="utf-8")
    write_manifest(folder)
    return len(entries)


def _write_local_calibration(folder: Path, model: Model) -> LocalCalibration | None:
    """Write and return local.json, where somebody has fitted it; one of other weights is refused."""
    from flukeprint.scoring.local_calibration import LocalCalibration

    if not (DECISION.parent / LocalCalibration.NAME).is_file():
        return None
    fitted = LocalCalibration.read(DECISION.parent)
    fitted.refuse_other(model.provenance)
    fitted.write(folder)
    return fitted


def write_networks(folder: Path, weights: Mapping[str, Path], described: Preprocessing) -> None:
    """Write the members, and the localiser of a crop, as they are and as ONNX, and what they want to see."""
    (folder / "members").mkdir()
    for member, path in weights.items():
        shutil.copyfile(path, folder / "members" / path.name)
        export_onnx(path, folder / "members" / f"{member}.onnx")
    if described.crop:
        shutil.copyfile(LOCALISER / LOCALISER_WEIGHTS, folder / LOCALISER_WEIGHTS)
        export_localiser(LOCALISER / LOCALISER_WEIGHTS, folder / "localiser.onnx")
    write_json(folder / PREPROCESSING, described.model_dump())


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
