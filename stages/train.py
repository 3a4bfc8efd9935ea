"""train: each member's head on the small set, on embeddings of the frozen pretrained backbone.

The pretrained backbone is the same for all members, so the small set is embedded once, here, in both views. A small set
of fewer than LEAST_CLASSES gives no heads; stage start refuses where one is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_json
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import BACKBONE, HEADS, METRICS, PIXELS, SELECTED
from flukeprint.core.runtime import open_accelerator
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.data.selected_tables import LEAST_CLASSES, read_selected
from flukeprint.learning.embedding import embed, embedding_job
from flukeprint.learning.heads import HeadTraining, train_heads
from flukeprint.learning.network_files import load_backbone
from flukeprint.learning.training_data import TrainingData, training_data

if TYPE_CHECKING:
    from accelerate import Accelerator

KEYS = ("seed", "train", "ensemble.members", "profiles.*.epochs.train")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    accelerator = open_accelerator(params.runtime)
    labels = read_json(SELECTED / "labels.json")["small"]
    members = params.ensemble.members if len(labels) >= LEAST_CLASSES else []
    # The same for all members; none where nobody needs it.
    data = [small_set(labels, params, accelerator) for _ in members[:1]]
    training = HeadTraining("train", params.train, params.active.epochs.train, params.seed, accelerator)
    train_heads(HEADS, METRICS / "train", lambda _: data[0], members, training)


def small_set(labels: list[str], params: Params, accelerator: Accelerator) -> TrainingData:
    """Embed the small set's photos, in both views, and pair them with their labels."""
    job = embedding_job(*load_backbone(BACKBONE), params.runtime, accelerator)
    table = read_selected(SELECTED / "small.parquet")
    photos = PixelShards(PIXELS / "train")[table["pixel"].to_numpy()]
    embeddings = embed(job, photos, 2)
    return training_data(embeddings, table.assign(position=range(len(table))), labels, "position")


if __name__ == "__main__":
    exit_cleanly(main)
