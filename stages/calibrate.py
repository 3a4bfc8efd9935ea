"""calibrate: what each scorer's scores say of known and new whales, which is best, thresholds for pairs."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_npy
from flukeprint.core.params import load_params
from flukeprint.core.paths import CENTRES, CROP, DECISION, FINETUNED, PREDICTIONS, SELECTED, SIMILARITY
from flukeprint.core.receipts import require_members
from flukeprint.data.cropping import read_crop
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import CALIBRATION, is_trained, read_selected
from flukeprint.retrieval.provenance import provenance_of
from flukeprint.scoring.calibration import Calibration, write_calibration
from flukeprint.scoring.calibration_fitting import fit_scorers
from flukeprint.scoring.candidates import read_candidates
from flukeprint.scoring.choice import choose
from flukeprint.scoring.copies import agreement
from flukeprint.scoring.pairs import fit_verification, pairs_of
from flukeprint.scoring.registry import CHOOSABLE, ENSEMBLE, scorer_names
from flukeprint.scoring.small_galleries import FullGallery

KEYS = ("evaluate.new_share", "ensemble.members", "embed", "recipes.*.embed")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    share = params.evaluate.new_share
    rows = read_candidates(PREDICTIONS / "query.parquet")
    rows = rows[rows["split"] == CALIBRATION]
    table = read_selected(SELECTED / "full.parquet")
    similarity, centres = (read_npy(SIMILARITY / f"{name}.npy") for name in (ENSEMBLE, CENTRES))
    pairs = pairs_of(similarity, table, CALIBRATION)
    full = FullGallery.of(similarity, centres, table, CALIBRATION)
    members = params.ensemble.members
    require_members(members, FINETUNED)
    weights = {member: FINETUNED / f"{member}.safetensors" for member in members}
    fitted = fit_scorers(rows, share, scorer_names(members), full)
    labelled = table[is_trained(table)]
    calibration = Calibration(
        share=share,
        **fitted._asdict(),
        provenance=provenance_of(weights, params.embed.views, crop=read_crop(CROP)),
        best=choose(rows, share, CHOOSABLE),
        duplicates=agreement(labelled),
        named_duplicates=agreement(labelled[labelled["Id"] != NEW_WHALE]),
        verification=fit_verification(pairs),
    )
    write_calibration(DECISION, calibration)


if __name__ == "__main__":
    exit_cleanly(main)
