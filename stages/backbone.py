"""backbone: the pretrained network, its weights and the scaling they expect, and those of members with their own."""

from pathlib import Path

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_json
from flukeprint.core.params import MemberParams, Params, load_params
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
            key = f"profiles.{params.profile}.members.{member}"
            try:
                prepare_member(folder / member, own, size, params)
            except FlukeprintError as error:
                raise FlukeprintError(f"of {key}: {str(error).replace('profiles.<profile>', key)}") from None


def prepare_member(folder: Path, own: MemberParams, size: tuple[int, int], params: Params) -> None:
    """Write the backbone of a member with something of its own, for photos of `size`, (height, width) in px."""
    backbone = own.backbone or params.active.backbone
    own_size = own.size or (published_size(backbone.name) if own.image_size else None)
    prepare_backbone(folder, backbone, size, params.seed, own_size)


def published_size(name: str) -> tuple[int, int]:
    """Return (height, width) in px of the photos that a network's published weights want."""
    return family_of(name).published(name).size


if __name__ == "__main__":
    exit_cleanly(main)
