"""train: each member's head on the small set, on embeddings of the frozen pretrained backbone.

The pretrained backbone is the same for all members, so the small set is embedded once, here, in both views.
"""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_json, read_npy
from flukeprint.core.params import load_params
from flukeprint.core.paths import BACKBONE, HEADS, METRICS, PIXELS, SELECTED
from flukeprint.core.runtime import open_accelerator
from flukeprint.data.selected_tables import read_selected
from flukeprint.learning.embedding import embed, embedding_job
from flukeprint.learning.heads import HeadTraining, train_heads
from flukeprint.learning.network_files import load_backbone
from flukeprint.learning.training_data import training_data

KEYS = ("seed", "train", "ensemble.members", "profiles.*.epochs.train")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    accelerator = open_accelerator(params.runtime)
    job = embedding_job(*load_backbone(BACKBONE), params.runtime, accelerator)
    table = read_selected(SELECTED / "small.parquet")
    photos = read_npy(PIXELS / "train.npy")[table["pixel"].to_numpy()]
    embeddings = embed(job, photos, 2)
    labels = read_json(SELECTED / "labels.json")["small"]
    data = training_data(embeddings, table.assign(position=range(len(table))), labels, "position")
    training = HeadTraining("train", params.train, params.active.epochs.train, params.seed, accelerator)
    train_heads(HEADS, METRICS / "train", lambda _: data, params.ensemble.members, training)


if __name__ == "__main__":
    exit_cleanly(main)
