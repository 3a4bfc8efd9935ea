"""backbone: the pretrained network with its weights and the scaling they expect; and those of some members' own."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_json
from flukeprint.core.params import load_params
from flukeprint.core.paths import BACKBONE, MEMBER_BACKBONES, PHOTO_SIZE
from flukeprint.core.replacement import replacing_folder
from flukeprint.learning.backbones import family_of
from flukeprint.learning.network_files import prepare_backbone

KEYS = ("seed", "profiles.*.backbone", "profiles.*.members", "profiles.*.image_size")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    profile = params.active
    size = profile.size or published_size(profile.backbone.name)
    prepare_backbone(BACKBONE, profile.backbone, size, params.seed)
    write_json(PHOTO_SIZE, {"size": size})
    with replacing_folder(MEMBER_BACKBONES) as folder:
        for member, own in profile.members.items():
            try:
                prepare_backbone(folder / member, own.backbone, size, params.seed)
            except FlukeprintError as error:
                raise FlukeprintError(f"of profiles.{params.profile}.members.{member}: {error}") from None


def published_size(name: str) -> tuple[int, int]:
    """Return (height, width) in px of the photos that a network's published weights want."""
    return family_of(name).published(name).size


if __name__ == "__main__":
    exit_cleanly(main)
