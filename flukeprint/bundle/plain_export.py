"""A bundle of a pretrained network as it is: nothing was trained, nothing is calibrated, and its gallery is empty."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from flukeprint.bundle.bundle_manifest import GALLERY, write_manifest
from flukeprint.bundle.export import VECTOR, write_networks
from flukeprint.bundle.preprocessing import Preprocessing
from flukeprint.core.params import BackboneParams
from flukeprint.core.replacement import replacing_folder
from flukeprint.pages.templates import template
from flukeprint.quality.flags import Limits
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import save_gallery
from flukeprint.retrieval.provenance import provenance_of

MEMBER = "pretrained"
VIEWS = 2  # also the mirror image: flukes are seen from both sides
_SEED = 0  # of weights that are asked to be random


def export_plain(folder: Path, wanted: BackboneParams, size: tuple[int, int]) -> None:
    """Write a bundle of a network that nobody fine-tuned, in place of what `folder` is; `size` is (height, width) px.

    Raises:
        FlukeprintError: an unknown network, weights that cannot be had, a size that it cannot take, or a network that
            cannot be written as ONNX. The message names keys of params.yaml.
    """
    from flukeprint.learning.network_files import load_backbone, prepare_backbone, save_plain

    with tempfile.TemporaryDirectory() as place, replacing_folder(folder) as temporary:
        prepared, weights = Path(place) / "backbone", Path(place) / f"{MEMBER}.safetensors"
        prepare_backbone(prepared, wanted, size, _SEED)
        save_plain(weights, prepared)
        provenance = provenance_of({MEMBER: weights}, VIEWS)
        described = Preprocessing(provenance=provenance, vector=VECTOR, pictures=False, limits=Limits())
        write_networks(temporary, {MEMBER: weights}, described)
        _, record = load_backbone(prepared)
        nothing = np.zeros((0, VIEWS * record.features), np.float32)
        save_gallery(build_gallery(nothing, [], [], provenance), temporary / GALLERY)
        card = template(__file__, "plain_card.md.j2").render(wanted=wanted, source=Path(wanted.weights).name, size=size)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_manifest(temporary)
