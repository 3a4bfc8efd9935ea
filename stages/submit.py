"""submit: the five labels of the ensemble, or of the best scorer, for every test photo, in the sample's rows."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import load_params
from flukeprint.core.paths import DECISION, PREDICTIONS, RAW, SUBMISSION
from flukeprint.data.submission import MAX_LABELS, check_submission, write_submission
from flukeprint.data.tables import require_table
from flukeprint.scoring.calibrated_answers import as_ordinary_class, calibrated
from flukeprint.scoring.calibration import read_calibration
from flukeprint.scoring.candidates import read_candidates, scored_of
from flukeprint.scoring.choice import best_answers
from flukeprint.scoring.registry import ENSEMBLE

KEYS = ("submit", "recipes.*.submit")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    sample = require_table(RAW / "sample_submission.csv")
    rows = read_candidates(PREDICTIONS / "test.parquet")
    own = rows[rows["scorer"] == ENSEMBLE]
    check_submission(own, sample["Image"])
    match params.submit.decision:
        case "best":
            answers = best_answers(rows, read_calibration(DECISION), MAX_LABELS)
        case "calibrated":
            answers = calibrated(scored_of(own, ENSEMBLE), read_calibration(DECISION).of(ENSEMBLE), MAX_LABELS)
        case _:
            answers = as_ordinary_class(scored_of(own, ENSEMBLE), MAX_LABELS)
    labels = dict(zip(own["Image"], answers.labels, strict=True))
    write_submission(SUBMISSION, sample["Image"].tolist(), [labels[image] for image in sample["Image"]])


if __name__ == "__main__":
    exit_cleanly(main)
