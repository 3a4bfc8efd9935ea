"""`flukeprint export`: a project's model, gallery and calibration as one folder that needs nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.bundle.album import Albums, FolderAlbum, album_path, read_album, write_album
from flukeprint.bundle.bundle_manifest import ALBUM, GALLERY, check_files, write_manifest
from flukeprint.bundle.card import model_card
from flukeprint.bundle.onnx_members import export_onnx
from flukeprint.bundle.preprocessing import NAME as PREPROCESSING
from flukeprint.bundle.preprocessing import Preprocessing, limits_record, write_preprocessing
from flukeprint.core import paths
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import replacing_folder
from flukeprint.core.text import printable
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.gallery_files import load_gallery, locked, save_gallery
from flukeprint.retrieval.provenance import Provenance, provenance_of

if TYPE_CHECKING:
    from flukeprint.retrieval.gallery import Gallery, Photo

_VECTOR = (
    "each member's embedding of each view scaled to length 1, joined member after member (a member's views side by "
    "side), divided by the root of their number: the inner product of two photos is the mean cosine similarity"
)


def export_bundle(folder: Path, gallery: Path | None = None, *, pictures: bool = True) -> int:
    """Write a bundle of the project in the current folder.

    Args:
        folder: new, empty, or a bundle that is to be replaced.
        gallery: in place of models/gallery.
        pictures: also write a small picture of every photo of the gallery, for pages and near-duplicates.

    Returns:
        How many photos of the gallery have a picture.

    Raises:
        FlukeprintError: the folder holds something else, a file of the project is missing, or a member cannot be
            written as ONNX.

    """
    from flukeprint.core.params import load_params

    params = load_params(("ensemble.members", "embed", "recipes.*.embed", "validate"))
    refuse_other_folder(folder)
    views = params.embed.views
    weights = {member: paths.FINETUNED / f"{member}.safetensors" for member in params.ensemble.members}
    provenance = provenance_of(weights, views)
    source = gallery or paths.GALLERY
    content = load_gallery(source)
    content.provenance.refuse_other(provenance, "this project's model")
    _refuse_to_lose_photos(folder, content)
    with ExitStack() as held, replacing_folder(folder) as temporary:
        _write_members(temporary / "members", weights)
        limits = Limits.of(params.validate)
        write_preprocessing(temporary / PREPROCESSING, _described(provenance, limits, pictures=pictures))
        if paths.DECISION.is_file():
            shutil.copyfile(paths.DECISION, temporary / "decision.json")
        save_gallery(content, temporary / GALLERY)
        shown = _write_pictures(temporary / ALBUM, source, content.photos, params.runtime.workers) if pictures else 0
        (temporary / "README.md").write_text(model_card(provenance, content, shown), encoding="utf-8")
        _remove_locks(temporary)
        write_manifest(temporary)
        if (folder / GALLERY).is_dir():
            # Somebody may have enrolled photos meanwhile; from here until the new bundle is in place nobody can.
            held.enter_context(locked(folder / GALLERY))
            _refuse_to_lose_photos(folder, content)
    return shown


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


def _described(provenance: Provenance, limits: Limits, *, pictures: bool) -> Preprocessing:
    fields = provenance.model_dump(exclude={"members"})
    return Preprocessing(
        **fields, members=list(provenance.weights), vector=_VECTOR, pictures=pictures, limits=limits_record(limits)
    )


def _write_members(folder: Path, weights: Mapping[str, Path]) -> None:
    """Write each member's weights as they are, and its network as ONNX."""
    folder.mkdir()
    for member, path in weights.items():
        shutil.copyfile(path, folder / path.name)
        export_onnx(path, folder / f"{member}.onnx")


def _write_pictures(path: Path, gallery: Path, photos: Sequence[Photo], workers: int) -> int:
    """Write the album of a bundle, from that of a gallery and the project's photos; return how many pictures it has."""
    raw = FolderAlbum.of(paths.RAW / "train", paths.VALIDATED / "train.parquet")
    album = Albums([read_album(album_path(gallery)), raw])
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        entries = [entry for entry in pool.map(album.entry, photos) if entry]
    write_album(path, entries)
    return len(entries)


def _remove_locks(folder: Path) -> None:
    """Remove what writing the gallery left beside it."""
    for path in folder.glob(".*.lock"):
        path.unlink()
