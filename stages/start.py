"""start MEMBER: what its fine-tuning starts from: its head, or a file without tensors where training makes its own.

So that a changed head makes stale only those fine-tunings that use it.
"""

from safetensors.numpy import save

from flukeprint.core.console import exit_cleanly, member_argument
from flukeprint.core.files import read_bytes, write_bytes
from flukeprint.core.params import load_params
from flukeprint.core.paths import HEADS, STARTS

KEYS = ("finetune.objective", "finetune.on", "recipes.*.finetune")
_REPAIR = (
    "Stage train has not run, or the small set has too few classes for a head (`dvc repro --force select` says so). "
    "Run `dvc repro`, lower select.threshold in params.yaml, or use recipe metric, which needs no small set."
)


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    name = f"{member_argument()}.safetensors"
    starts_from_head = params.finetune.starts_from_head
    write_bytes(STARTS / name, read_bytes(HEADS / name, "a head", _REPAIR) if starts_from_head else save({}))


if __name__ == "__main__":
    exit_cleanly(main)
