"""start MEMBER: what a member's fine-tuning starts from: its head, or a file without tensors where training makes its own.

So that a changed head makes stale only those fine-tunings that use it.
"""

import sys

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_safetensors, write_safetensors
from flukeprint.core.params import load_params
from flukeprint.core.paths import HEADS, STARTS

KEYS = ("finetune.objective", "finetune.on", "recipes.*.finetune")


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    name = f"{sys.argv[1]}.safetensors"
    if params.finetune.starts_from_head:
        tensors, metadata = read_safetensors(HEADS / name)
        write_safetensors(STARTS / name, tensors, metadata)
    else:
        write_safetensors(STARTS / name, {})


if __name__ == "__main__":
    exit_cleanly(main)
