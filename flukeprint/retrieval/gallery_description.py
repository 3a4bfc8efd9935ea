"""What a gallery holds and which model it is for."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flukeprint.core.safe_text import printable
from flukeprint.retrieval.gallery import Gallery


def describe(gallery: Gallery) -> dict[str, Any]:
    """Return what there is to say of a gallery, JSON-able."""
    per_individual = np.bincount(gallery.individual, minlength=len(gallery.individuals))
    return {
        "photos": len(gallery),
        "individuals": len(gallery.individuals),
        "with_one_photo": int((per_individual == 1).sum()),
        "most_photos": int(per_individual.max(initial=0)),
        "dimension": gallery.vectors.shape[1],
        "index": "exact" if gallery.codes is None else f"codes, {gallery.codes.fetched} compared exactly",
        "members": gallery.provenance.weights,
        "preprocessing": gallery.provenance.model_dump(exclude={"members"}),
    }


def as_text(described: Mapping[str, Any]) -> str:
    """Return a line per value; members and preprocessing have several."""
    lines = []
    for key, value in described.items():
        parts = {f"{key}.{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
        lines += [f"{printable(name):22}{printable(str(part))}" for name, part in parts.items()]
    return "\n".join(lines)
