"""Opening a bundle: every file is checked, then networks start without torch. Nothing in a bundle is run as code."""

from __future__ import annotations

from pathlib import Path

from flukeprint.bundle.manifest import ALBUM, GALLERY, check_files
from flukeprint.bundle.networks import onnx_member
from flukeprint.bundle.preprocessing import NAME, Preprocessing, read_preprocessing
from flukeprint.core.errors import FlukeprintError
from flukeprint.gallery.fingerprint import Fingerprint, fingerprint_of
from flukeprint.identify.album import FileAlbum, read_album
from flukeprint.identify.comparison import read_thresholds
from flukeprint.identify.encoder import Encoder
from flukeprint.identify.flags import Limits
from flukeprint.identify.matching import why_uncalibrated
from flukeprint.identify.models import Model

# Threads that decode photos; those of the networks are as many as there are cores.
_WORKERS = 2
_REPAIR = "Copy the bundle again from where it came."


def open_bundle(folder: Path, gallery: Path | None = None) -> Model:
    """Open a bundle.

    Args:
        folder: what `flukeprint export` wrote.
        gallery: another gallery, made by the same model.

    Raises:
        FlukeprintError: a file is missing, changed, too many, or not what it should be.

    """
    check_files(folder)
    described = read_preprocessing(folder / NAME)
    made_by = _fingerprint(folder, described)
    _check_decision(folder / "decision.json")
    members = [
        onnx_member(_onnx(folder, member).read_bytes(), str(_onnx(folder, member))) for member in described.members
    ]
    height, width = described.size
    return Model(
        f"the model in {folder}",
        Encoder(members, (height, width), described.views),
        made_by,
        gallery or folder / GALLERY,
        folder / "decision.json",
        Limits(**described.limits.model_dump()),
        _WORKERS,
        # With the bundle's own gallery its album is the one beside the gallery, which is read for every request.
        read_album(folder / ALBUM) if gallery else FileAlbum(),
    )


def _onnx(folder: Path, member: str) -> Path:
    path = folder / "members" / f"{member}.onnx"
    if not path.is_file():
        raise FlukeprintError(f"{path} is missing, but {NAME} names the member. {_REPAIR}")
    return path


def _fingerprint(folder: Path, described: Preprocessing) -> Fingerprint:
    """Return what made the bundle's vectors, from the weights themselves."""
    weights = {member: folder / "members" / f"{member}.safetensors" for member in described.members}
    for path in weights.values():
        _check_weights(path)
    made_by = fingerprint_of(weights, described.views)
    said = described.model_dump(include={"size", "mean", "std", "resize", "views"})
    if dict(made_by.preprocessing) != said:
        raise FlukeprintError(
            f"{folder / NAME} says {said}, but the weights were made for {dict(made_by.preprocessing)}. {_REPAIR}"
        )
    return made_by


def _check_weights(path: Path) -> None:
    """Refuse what is no safetensors file; its tensors are not even read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            file.keys()
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing, but {NAME} names the member. {_REPAIR}") from None
    except SafetensorError as error:
        raise FlukeprintError(
            f"{path} is no safetensors file ({error}). Weights in another form, such as a pickle, are never loaded: "
            f"loading them could run code. {_REPAIR}"
        ) from None


def _check_decision(path: Path) -> None:
    """Refuse a decision that could not be used; a bundle without one ranks and gives no probabilities."""
    from flukeprint.scoring.decision import read_decisions
    from flukeprint.scoring.mixture import read_mixtures

    if not path.is_file():
        return
    try:
        read_decisions(path)
        read_mixtures(path)
        why_uncalibrated(path)
        read_thresholds(path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FlukeprintError(f"{path} is no decision of ours ({error!r}). {_REPAIR}") from None
