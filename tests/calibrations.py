"""Content of models/decision.json for tests."""

from gallery_folder import PROVENANCE

from flukeprint.scoring.calibration import BestScorer, Calibration, CopyAgreement, NoVerification, OpenSetCalibration


def open_set(a: float, b: float, c: float, d: float | None) -> OpenSetCalibration:
    return OpenSetCalibration(
        inverse_temperature=a, other=b, new=c, new_score_weight=d, known_queries=1, new_queries=1, log_loss=0.0
    )


def calibration_of(**changes) -> Calibration:
    """What calibrate writes where there is nothing to calibrate with, but for the changes."""
    counts = {"queries": 0, "individuals": 0, "same_pairs": 0, "different_pairs": 0}
    fields = {
        "share": 0.325,
        "scorers": {},
        "fusions": {},
        "without": {},
        "provenance": PROVENANCE,
        "best": BestScorer(scorer=None, map5={}, folds=0),
        "duplicates": CopyAgreement(photos=0, agreeing=0, probability=0.5),
        "named_duplicates": CopyAgreement(photos=8, agreeing=8, probability=0.9),
        "verification": NoVerification(**counts, without="no pairs"),
    }
    return Calibration(**fields | changes)
