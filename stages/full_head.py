"""full_head: each member's head of every class, on the member's cached embeddings."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_json
from flukeprint.core.params import load_params
from flukeprint.core.paths import EMBEDDINGS, FULL_HEADS, METRICS, SELECTED
from flukeprint.core.receipts import require_members
from flukeprint.core.runtime import open_accelerator
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.selected_tables import read_selected
from flukeprint.learning.heads import HeadTraining, train_heads
from flukeprint.learning.training_data import training_data

KEYS = ("seed", "full_head", "recipes.*.full_head", "ensemble.members", "profiles.*.epochs.full_head")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    accelerator = open_accelerator(params.runtime)
    require_members(params.ensemble.members, EMBEDDINGS)
    table = read_selected(SELECTED / "full.parquet")
    labels = read_json(SELECTED / "labels.json")["full"]
    settings, epochs = params.full_head, params.active.epochs.full_head
    training = HeadTraining("full_head", settings, epochs, params.seed, accelerator, settings.most_classes)
    train_heads(
        FULL_HEADS,
        METRICS / "full_head",
        lambda member: training_data(read_embeddings(member, "train"), table, labels),
        params.ensemble.members,
        training,
    )


if __name__ == "__main__":
    exit_cleanly(main)
