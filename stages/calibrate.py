"""calibrate: what each scorer's scores say of known and new whales, which is best, thresholds for pairs."""

from flukeprint.core.errors import exit_cleanly
from flukeprint.core.files import read_npy, write_json
from flukeprint.core.labels import CHOOSABLE, ENSEMBLE, ladder
from flukeprint.core.layout import DECISION, FINETUNED, PREDICTIONS, SELECTED, SIMILARITY
from flukeprint.core.params import load_params
from flukeprint.gallery.fingerprint import fingerprint_of
from flukeprint.scoring.candidates import read_candidates
from flukeprint.scoring.choice import choose
from flukeprint.scoring.copies import agreement
from flukeprint.scoring.decision import fit_decisions
from flukeprint.scoring.pairs import pairs_of
from flukeprint.scoring.verification import fit_verification
from flukeprint.selection import CALIBRATION, TRAIN, VALID, read_selected

KEYS = ("evaluate.new_share", "ensemble.members", "embed", "recipes.*.embed")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    share = params.evaluate.new_share
    rows = read_candidates(PREDICTIONS / "query.parquet")
    rows = rows[rows["split"] == CALIBRATION]
    table = read_selected(SELECTED / "full.parquet")
    pairs = pairs_of(read_npy(SIMILARITY / f"{ENSEMBLE}.npy"), table, CALIBRATION)
    members = params.ensemble.members
    weights = {member: FINETUNED / f"{member}.safetensors" for member in members}
    content = fit_decisions(rows, share, ladder(members)) | {
        # What the scores were made with: of other weights they would mean something else.
        "made_by": fingerprint_of(weights, 2 if params.embed.flip_test else 1).as_json(),
        "best": choose(rows, share, CHOOSABLE),
        "duplicates": agreement(table[table["split"].isin([TRAIN, VALID])]),
        "verification": fit_verification(pairs),
    }
    write_json(DECISION, content)


if __name__ == "__main__":
    exit_cleanly(main)
