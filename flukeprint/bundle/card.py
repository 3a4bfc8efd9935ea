"""The model card of a bundle: what it is for, what it was made of, how good it is, and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.bundle.opening import finetuned_files
from flukeprint.core.files import read_json, read_safetensors_metadata
from flukeprint.core.paths import DECISION, METRICS
from flukeprint.pages.templates import template
from flukeprint.retrieval.gallery import Gallery
from flukeprint.retrieval.provenance import Provenance
from flukeprint.scoring import registry
from flukeprint.scoring.calibration import read_calibration

if TYPE_CHECKING:
    from flukeprint.scoring.local_calibration import LocalCalibration

# The scorers that a reader compares, with what they are.
_SCORERS = {
    registry.GALLERY: "this bundle: similarity to an individual's photos in the gallery",
    registry.DUPLICATES: "for comparison: nothing but copying the labels of near-duplicates",
    registry.ALL_NEW: "for comparison: always answering that the whale is new",
}


def model_card(provenance: Provenance, gallery: Gallery, pictures: int, local: LocalCalibration | None = None) -> str:
    """Return the card as Markdown, from what the project's last run left in metrics/ and models/decision.json.

    `pictures` is how many photos of the gallery have a picture in the bundle, `local` its calibration of keypoints.
    """
    weights = finetuned_files(provenance.weights)
    evaluation = _read(METRICS / "evaluation.json")
    calibration = read_calibration(DECISION) if DECISION.is_file() else None
    return template(__file__, "card.md.j2").render(
        provenance=provenance,
        gallery=gallery,
        pictures=pictures,
        reference=all(read_safetensors_metadata(path)["embedder"] is None for path in weights.values()),
        selection=_read(METRICS / "selection.json"),
        evaluation=evaluation,
        scorers=[(name, says, evaluation[name]) for name, says in _SCORERS.items() if evaluation.get(name)],
        verification=_read(METRICS / "verification.json"),
        calibrated=calibration is not None and registry.GALLERY in calibration.scorers,
        share=None if calibration is None else calibration.share,
        note=None if calibration is None else calibration.note,
        local=local,
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a file's content, or nothing where the run left no such file."""
    content: dict[str, Any] = read_json(path) if path.is_file() else {}
    return content
