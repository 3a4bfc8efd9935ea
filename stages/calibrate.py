"""calibrate: what each scorer's scores say of known and new whales, which is best, thresholds for pairs."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_npy, write_json
from flukeprint.core.params import load_params
from flukeprint.core.paths import DECISION, FINETUNED, PREDICTIONS, SELECTED, SIMILARITY
from flukeprint.data.splits import CALIBRATION, is_trained, read_selected
from flukeprint.retrieval.provenance import provenance_of
from flukeprint.scoring.calibration import fit_decisions
from flukeprint.scoring.candidates import read_candidates
from flukeprint.scoring.choice import choose
from flukeprint.scoring.copies import agreement
from flukeprint.scoring.pair_calibration import fit_verification
from flukeprint.scoring.pairs import pairs_of
from flukeprint.scoring.registry import CHOOSABLE, ENSEMBLE, scorer_names

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
    content = fit_decisions(rows, share, scorer_names(members)) | {
        # What the scores were made with: of other weights they would mean something else.
        "provenance": provenance_of(weights, params.embed.views).model_dump(),
        "best": choose(rows, share, CHOOSABLE),
        "duplicates": agreement(table[is_trained(table)]),
        "verification": fit_verification(pairs),
    }
    write_json(DECISION, content)


if __name__ == "__main__":
    exit_cleanly(main)
