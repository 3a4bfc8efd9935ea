"""start MEMBER: what its fine-tuning starts from: its head, or a file without tensors where training makes its own.

So that a changed head makes stale only those fine-tunings that use it.
"""

from safetensors.numpy import save

from flukeprint.core.console import exit_cleanly, member_argument
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_bytes
from flukeprint.core.params import load_params
from flukeprint.core.paths import HEADS, STARTS

KEYS = ("finetune.objective", "finetune.on", "recipes.*.finetune")


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    name = f"{member_argument()}.safetensors"
    if params.finetune.starts_from_head and not (HEADS / name).exists():
        raise FlukeprintError(f"{HEADS / name} is missing. Run `dvc repro` to make it.")
    write_bytes(STARTS / name, (HEADS / name).read_bytes() if params.finetune.starts_from_head else save({}))


if __name__ == "__main__":
    exit_cleanly(main)
