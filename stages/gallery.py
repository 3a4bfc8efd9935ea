"""gallery: the labelled photos' vectors, from all members together, as a gallery to identify others with."""

import pandas as pd

from flukeprint.core.console import exit_cleanly
from flukeprint.core.files import read_frame
from flukeprint.core.params import load_params
from flukeprint.core.paths import CROP, EMBEDDINGS, FINETUNED, GALLERY, SELECTED, VALIDATED
from flukeprint.core.receipts import require_members
from flukeprint.data.cropping import read_crop
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import is_trained, read_selected
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import save_gallery
from flukeprint.retrieval.provenance import provenance_of
from flukeprint.retrieval.vectors import EmbeddedPhotos

KEYS = ("ensemble.members", "embed", "recipes.*.embed", "gallery")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    members, views = params.ensemble.members, params.embed.views
    for folder in (EMBEDDINGS, FINETUNED):
        require_members(members, folder)
    table = labelled_photos(trained_only=params.gallery.photos == "trained")
    gallery = build_gallery(
        EmbeddedPhotos([read_embeddings(member, "train") for member in members], table["pixel"].to_numpy(), views),
        table["Image"].tolist(),
        table["Id"].tolist(),
        provenance_of({member: FINETUNED / f"{member}.safetensors" for member in members}, views, crop=read_crop(CROP)),
        table["sha256"].tolist(),
        params.gallery.exact_up_to,
    )
    save_gallery(gallery, GALLERY)


def labelled_photos(*, trained_only: bool) -> pd.DataFrame:
    """Return the photos of named individuals (Image, Id, pixel, sha256), with or without those set aside."""
    table = read_selected(SELECTED / "full.parquet")
    table = table[table["Id"] != NEW_WHALE]
    if trained_only:
        table = table[is_trained(table)]
    hashes = read_frame(VALIDATED / "train.parquet", columns=["Image", "sha256"])
    return table.merge(hashes, on="Image", validate="one_to_one")


if __name__ == "__main__":
    exit_cleanly(main)
