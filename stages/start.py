"""start MEMBER: what its fine-tuning starts from: its head, or a file without tensors where training makes its own.

So that a changed head makes stale only those fine-tunings that use it.
"""

import sys

from safetensors.numpy import save

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_bytes
from flukeprint.core.params import load_params
from flukeprint.core.paths import HEADS, STARTS

KEYS = ("finetune.objective", "finetune.on", "recipes.*.finetune")


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    name = f"{sys.argv[1]}.safetensors"
    if params.finetune.starts_from_head and not (HEADS / name).exists():
        raise FlukeprintError(
            f"{HEADS / name} is missing: stage train has not run, or the small set has too few classes for a head "
            "(`dvc repro --force select` says so). Run `dvc repro`, lower select.threshold in params.yaml, or use "
            "recipe metric, which needs no small set."
        )
    write_bytes(STARTS / name, (HEADS / name).read_bytes() if params.finetune.starts_from_head else save({}))


if __name__ == "__main__":
    exit_cleanly(main)
