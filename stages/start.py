"""start MEMBER: what a member's fine-tuning starts from: its head, or an empty file where training makes its own.

So that a changed head makes stale only those fine-tunings that use it.
"""

import shutil
import sys

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import replacing
from flukeprint.core.params import load_params
from flukeprint.core.paths import HEADS, STARTS

KEYS = ("finetune.objective", "finetune.on", "recipes.*.finetune")


def main() -> None:
    """Run the stage for the member named on the command line."""
    params = load_params(KEYS)
    name = f"{sys.argv[1]}.safetensors"
    with replacing(STARTS / name) as temporary:
        if not params.finetune.starts_from_head:
            temporary.touch()
        elif (HEADS / name).exists():
            shutil.copyfile(HEADS / name, temporary)
        else:
            raise FlukeprintError(f"{HEADS / name} is missing. Run `dvc repro` to make it.")


if __name__ == "__main__":
    exit_cleanly(main)
