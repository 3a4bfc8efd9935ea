"""select: the small set, the full set, and what is set aside for evaluation."""

import logging

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame, write_figures, write_frame, write_json
from flukeprint.core.params import load_params
from flukeprint.core.paths import METRICS, SELECTED, VALIDATED
from flukeprint.data.labels import ENCOUNTER, TAKEN_AT
from flukeprint.data.leaks import refuse_trained_copies, with_trained_copies
from flukeprint.data.selected_tables import SPLITS, class_labels
from flukeprint.data.splits import assign_splits, selection_counts, shortfalls

KEYS = ("seed", "select")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    validated = read_frame(VALIDATED / "train.parquet").astype({"Id": str})
    table = validated.filter(["Image", "Id", "cluster", ENCOUNTER, TAKEN_AT]).assign(pixel=range(len(validated)))
    counts = selection_counts(table, params.select)
    small, full = assign_splits(table, params.select, params.seed)
    for text in shortfalls(small, full, params.select):
        logging.getLogger(__name__).warning("select: %s", text)
    if params.select.protocol != "mlebench":  # whose queries are given, and ignore near-duplicates
        refuse_trained_copies(small, full)
    splits = {f"full_{split}": int((full["split"] == split).sum()) for split in SPLITS}
    splits["aside_with_trained_copies"] = int(with_trained_copies(small, full).sum())
    write_frame(SELECTED / "small.parquet", small)
    write_frame(SELECTED / "full.parquet", full)
    write_json(SELECTED / "labels.json", {"small": class_labels(small), "full": class_labels(full)})
    write_figures(METRICS / "selection.json", counts | splits)


if __name__ == "__main__":
    exit_cleanly(main)
