"""embed MEMBER: one member's embeddings of every photo, from its fine-tuned backbone, frozen again."""

from pathlib import Path

from flukeprint.core.console import exit_cleanly, member_argument
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import EMBEDDINGS, FINETUNED, PIXELS
from flukeprint.core.receipts import write_receipt
from flukeprint.core.runtime import relaunched, runtime_record
from flukeprint.core.stage_processes import working_together
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.learning.embedding import embed_to_file, embedding_job
from flukeprint.learning.embedding_shards import SavedNetwork, embed_on_cluster
from flukeprint.learning.network_files import load_finetuned

KEYS = ("embed", "recipes.*.embed")


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    member = member_argument()
    weights, embeddings = FINETUNED / f"{member}.safetensors", EMBEDDINGS / member
    if cluster := params.runtime.network_workers:
        made = embed_on_cluster(
            wanted_of(member, params), SavedNetwork(load_finetuned, weights), params.runtime, cluster
        )
        write_receipt(member, (weights, embeddings), made)
        return
    if relaunched(params.runtime, "stages.embed", member):
        return
    with working_together(params.runtime, "embed", member) as accelerator:
        job = embedding_job(*load_finetuned(weights), params.runtime, accelerator)
        for path, (photos, number) in wanted_of(member, params).items():
            embed_to_file(path, photos, number, job)
        if accelerator.is_main_process:
            write_receipt(member, (weights, embeddings), runtime_record(accelerator))


def wanted_of(member: str, params: Params) -> dict[Path, tuple[PixelShards, int]]:
    """Return what to write of a member: the photos and their number of views, by file."""
    # Training flips photos at random, so train photos need both views.
    views = {"train": 2, "test": params.embed.views}
    return {EMBEDDINGS / member / f"{part}.npy": (PixelShards(PIXELS / part), views[part]) for part in views}


if __name__ == "__main__":
    exit_cleanly(main)
