"""calibrate: what each scorer's scores say of known and new whales, which is best, thresholds for pairs."""

import pandas as pd

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import CROP, DECISION, EMBEDDINGS, FINETUNED, PREDICTIONS, SELECTED
from flukeprint.core.receipts import require_members
from flukeprint.data.cropping import read_crop
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.leaks import learned_individuals, refuse_learned
from flukeprint.data.selected_tables import CALIBRATION, is_trained, read_selected
from flukeprint.retrieval.provenance import provenance_of
from flukeprint.scoring.calibration import Calibration, write_calibration
from flukeprint.scoring.calibration_fitting import fit_scorers
from flukeprint.scoring.candidates import read_candidates
from flukeprint.scoring.choice import choose
from flukeprint.scoring.copies import agreement
from flukeprint.scoring.kept_decision import digest_of_queries, keep, settings_of
from flukeprint.scoring.labelled_photos import ComparedQueries
from flukeprint.scoring.pairs import fit_verification, pairs_of
from flukeprint.scoring.registry import CHOOSABLE, scorer_names
from flukeprint.scoring.small_galleries import FullGallery

KEYS = (
    "calibrate",
    "evaluate.new_share",
    "ensemble.members",
    "embed",
    "recipes.*.embed",
    # What shapes the scores, which a decision names:
    "finetune",
    "recipes.*.finetune",
    "full_head",
    "recipes.*.full_head",
    "profiles.*.backbone",
    "profiles.*.members",
    "profiles.*.image_size",
    "profiles.*.epochs.finetune",
    "profiles.*.epochs.full_head",
)


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    table = read_selected(SELECTED / "full.parquet")
    rows = read_candidates(PREDICTIONS / "query.parquet")
    fitted = fit(params, table, rows[rows["split"] == CALIBRATION])
    write_calibration(DECISION, keep(fitted) if params.calibrate.decision == "kept" else fitted)


def fit(params: Params, table: pd.DataFrame, rows: pd.DataFrame) -> Calibration:
    """Fit all scorers to their rows of query.parquet, and the thresholds of pairs; `table` is the full set."""
    members, share = params.ensemble.members, params.evaluate.new_share
    for folder in (EMBEDDINGS, FINETUNED):
        require_members(members, folder)
    weights = {member: FINETUNED / f"{member}.safetensors" for member in members}
    refuse_learned(table, learned_individuals(weights.values()))
    parts = [read_embeddings(member, "train") for member in members]
    compared = ComparedQueries.of(table, parts, params.embed.views, CALIBRATION)
    labelled = table[is_trained(table)]
    return Calibration(
        share=share,
        **fit_scorers(rows, share, scorer_names(members), FullGallery.of(compared))._asdict(),
        provenance=provenance_of(weights, params.embed.views, crop=read_crop(CROP)),
        best=choose(rows, share, CHOOSABLE),
        duplicates=agreement(labelled),
        named_duplicates=agreement(labelled[labelled["Id"] != NEW_WHALE]),
        verification=fit_verification(pairs_of(compared)),
        settings=settings_of(params),
        queries=digest_of_queries(table),
    )


if __name__ == "__main__":
    exit_cleanly(main)
