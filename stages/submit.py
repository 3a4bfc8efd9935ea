"""submit: the five labels of the ensemble, or of the best scorer, for every test photo, in the sample's rows.

Where there is no photo to label, data/submission.csv has its header alone.
"""

import logging

import pandas as pd

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import load_params
from flukeprint.core.paths import DECISION, PREDICTIONS, RAW, SUBMISSION
from flukeprint.data.submission import MAX_LABELS, check_submission, write_submission
from flukeprint.data.tables import require_table
from flukeprint.scoring.calibrated_answers import as_ordinary_class, calibrated
from flukeprint.scoring.calibration import Calibration, read_calibration
from flukeprint.scoring.candidates import read_candidates, scored_of
from flukeprint.scoring.choice import best_answers
from flukeprint.scoring.registry import ENSEMBLE

KEYS = ("submit", "recipes.*.submit")
logger = logging.getLogger(__name__)
BY_SIMILARITY = (
    "submit: too few photos were set aside to choose and calibrate a scorer (select.holdout), so answers are by "
    "similarity alone: the individual of the most similar photo, then new_whale, then the next ones."
)


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    images = require_table(RAW / "sample_submission.csv")["Image"].tolist()
    labels = labels_of(read_candidates(PREDICTIONS / "test.parquet"), images, params.submit.decision) if images else {}
    write_submission(SUBMISSION, images, [labels[image] for image in images])


def labels_of(rows: pd.DataFrame, images: list[str], decision: str) -> dict[str, list[str]]:
    """Return the five labels of each photo; `rows` are those of test.parquet, about exactly these photos."""
    own = rows[rows["scorer"] == ENSEMBLE]
    check_submission(own, images)
    match decision:
        case "best":
            answers = best_answers(rows, read_decision(best=True), MAX_LABELS)
        case "calibrated":
            answers = calibrated(scored_of(own, ENSEMBLE), read_decision(best=False).of(ENSEMBLE), MAX_LABELS)
        case _:
            answers = as_ordinary_class(scored_of(own, ENSEMBLE), MAX_LABELS)
    return dict(zip(own["Image"], answers.labels, strict=True))


def read_decision(*, best: bool) -> Calibration:
    """Read decision.json; say it where it is an earlier run's, or (best) no scorer was chosen."""
    calibration = read_calibration(DECISION)
    if best and calibration.best.scorer is None:
        logger.warning(BY_SIMILARITY)
    if calibration.note:
        logger.warning("submit: answers are %s", calibration.note)
    return calibration


if __name__ == "__main__":
    exit_cleanly(main)
