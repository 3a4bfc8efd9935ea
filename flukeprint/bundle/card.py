"""The model card of a bundle: what it is for, what it was made of, how good it is, and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.core.files import read_json
from flukeprint.core.paths import DECISION, METRICS
from flukeprint.pages.templates import template
from flukeprint.scoring import registry
from flukeprint.scoring.calibration import read_calibration

if TYPE_CHECKING:
    from flukeprint.retrieval.gallery import Gallery
    from flukeprint.retrieval.provenance import Provenance

# The scorers that a reader compares, with what they are.
_SCORERS = {
    registry.GALLERY: "this bundle: similarity to an individual's photos in the gallery",
    registry.DUPLICATES: "for comparison: nothing but copying the labels of near-duplicates",
    registry.ALL_NEW: "for comparison: always answering that the whale is new",
}


def model_card(provenance: Provenance, gallery: Gallery, pictures: int) -> str:
    """Return the card as Markdown, from what the project's last run left in metrics/ and models/decision.json.

    Args:
        provenance: the weights and the preprocessing.
        gallery: the bundle's.
        pictures: photos of the gallery that have a picture in the bundle.

    """
    evaluation = _read(METRICS / "evaluation.json")
    calibration = read_calibration(DECISION) if DECISION.is_file() else None
    return template(__file__, "card.md.j2").render(
        provenance=provenance,
        gallery=gallery,
        pictures=pictures,
        selection=_read(METRICS / "selection.json"),
        evaluation=evaluation,
        scorers=[(name, says, evaluation[name]) for name, says in _SCORERS.items() if evaluation.get(name)],
        verification=_read(METRICS / "verification.json"),
        calibrated=calibration is not None and registry.GALLERY in calibration.scorers,
        share=None if calibration is None else calibration.share,
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a file's content, or nothing where the run left no such file."""
    content: dict[str, Any] = read_json(path) if path.is_file() else {}
    return content
