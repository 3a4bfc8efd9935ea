"""finetune MEMBER: all layers of one member, from the pretrained backbone: a classifier, or an embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flukeprint.core.console import exit_cleanly, member_argument
from flukeprint.core.files import read_json
from flukeprint.core.params import Params, load_params
from flukeprint.core.paths import FINETUNED, METRICS, PIXELS, SELECTED, STARTS
from flukeprint.core.receipts import require_outputs
from flukeprint.core.replacement import replacing
from flukeprint.core.runtime import relaunched
from flukeprint.core.stage_processes import working_together
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.data.selected_tables import read_selected
from flukeprint.learning.checkpoints import clear_checkpoints
from flukeprint.learning.embedding import embedding_job
from flukeprint.learning.embedding_head import EmbedderSpec
from flukeprint.learning.finetuning import Start, finetuning_job, starting_head, trained_spread
from flukeprint.learning.heads import save_record
from flukeprint.learning.network_files import load_backbone, load_finetuned, save_finetuned
from flukeprint.learning.training import fit
from flukeprint.learning.training_data import training_data
from flukeprint.metrics.spread import warn_of_collapse

if TYPE_CHECKING:
    from accelerate import Accelerator

KEYS = ("seed", "finetune", "recipes.*.finetune", "profiles.*.epochs.finetune")


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    member = member_argument()
    if relaunched(params.runtime, "stages.finetune", member):
        return
    with working_together(params.runtime, "finetune", member) as accelerator:
        train_member(member, params, accelerator)


def train_member(member: str, params: Params, accelerator: Accelerator) -> None:
    """Train with all processes; the first one writes."""
    settings = params.finetune
    backbone, record = load_backbone(backbone_folder(member))
    table = read_selected(SELECTED / f"{settings.on}.parquet")
    trained = STARTS / f"{member}.safetensors"
    table, labels, head = starting_head(table, trained, member, record.features, params.seed, settings)
    data = training_data(PixelShards(PIXELS / "train"), table, labels, chooses=settings.schedule.keep == "best")
    epochs = settings.epochs or params.active.epochs.finetune
    job = finetuning_job(data, Start(backbone, record, head), member, epochs, params.seed, settings, accelerator)
    result = fit(job, accelerator)
    if accelerator.is_main_process:
        spec = EmbedderSpec.of(settings.embedding) if settings.metric else None
        with replacing(FINETUNED / f"{member}.safetensors") as weights:
            save_finetuned(weights, result, record, labels, spec)
            # As later stages load it: what is measured is what is kept, and what cannot be measured is not.
            spread = trained_spread(embedding_job(*load_finetuned(weights), params.runtime, accelerator), data)
        warn_of_collapse(f"finetune {member}", spread)
        save_record(METRICS / "finetune" / f"{member}.json", result, spread)
        clear_checkpoints("finetune", member)


def backbone_folder(member: str) -> Path:
    """Return the folder of the backbone that stage start names, pulled where it is missing."""
    receipt = STARTS / f"{member}.json"
    [(name, digest)] = read_json(receipt)["sha256"].items()
    require_outputs({Path(name): digest}, receipt)
    return Path(name)


if __name__ == "__main__":
    exit_cleanly(main)
