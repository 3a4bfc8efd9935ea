"""start MEMBER: what its fine-tuning starts from: its backbone by name, and its head, where training does not make one.

So that a changed head, or the backbone of another member, makes stale only those fine-tunings that use it.
"""

from safetensors.numpy import save

from flukeprint.core.console import exit_cleanly, member_argument
from flukeprint.core.files import read_bytes, write_bytes, write_json
from flukeprint.core.params import load_params
from flukeprint.core.paths import BACKBONE, HEADS, MEMBER_BACKBONES, STARTS
from flukeprint.core.receipts import digest_of

KEYS = ("finetune.objective", "finetune.on", "recipes.*.finetune")
_REPAIR = (
    "Stage train has not run, or the small set has too few classes for a head (`dvc repro --force select` says so). "
    "Run `dvc repro`, lower select.threshold in params.yaml, or use recipe metric, which needs no small set."
)


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    member = member_argument()
    name = f"{member}.safetensors"
    starts_from_head = params.finetune.starts_from_head
    write_bytes(STARTS / name, read_bytes(HEADS / name, "a head", _REPAIR) if starts_from_head else save({}))
    own = MEMBER_BACKBONES / member
    backbone = own if own.is_dir() else BACKBONE
    write_json(STARTS / f"{member}.json", {"sha256": {backbone.as_posix(): digest_of(backbone)}})


if __name__ == "__main__":
    exit_cleanly(main)
