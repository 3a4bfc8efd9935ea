"""baseline: the pretrained backbone's embeddings of every labelled photo, for the scorer that knows no whale."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import load_params
from flukeprint.core.paths import BACKBONE, EMBEDDINGS, PIXELS, PRETRAINED
from flukeprint.core.runtime import relaunched
from flukeprint.core.stage_processes import working_together
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.learning.embedding import embed_to_file, embedding_job
from flukeprint.learning.embedding_shards import SavedNetwork, embed_on_cluster
from flukeprint.learning.network_files import load_backbone

KEYS = ()


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    path = EMBEDDINGS / PRETRAINED / "train.npy"
    if cluster := params.runtime.network_workers:
        wanted = {path: (PixelShards(PIXELS / "train"), 1)}
        embed_on_cluster(wanted, SavedNetwork(load_backbone, BACKBONE), params.runtime, cluster)
    elif not relaunched(params.runtime, "stages.baseline"):
        with working_together(params.runtime, "baseline") as accelerator:
            job = embedding_job(*load_backbone(BACKBONE), params.runtime, accelerator)
            embed_to_file(path, PixelShards(PIXELS / "train"), 1, job)


if __name__ == "__main__":
    exit_cleanly(main)
