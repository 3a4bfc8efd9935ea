"""backbone: the pretrained network with its weights and the scaling they expect."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import load_params
from flukeprint.core.paths import BACKBONE
from flukeprint.learning.network_files import prepare_backbone

KEYS = ("seed", "profiles.*.backbone", "profiles.*.image_size")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    prepare_backbone(BACKBONE, params.active.backbone, params.active.size, params.seed)


if __name__ == "__main__":
    exit_cleanly(main)
