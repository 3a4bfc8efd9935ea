"""What a gallery holds and which model it is for."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flukeprint.core.safe_text import printable
from flukeprint.retrieval.gallery import Gallery


def describe(gallery: Gallery) -> dict[str, Any]:
    """Return what there is to say of a gallery, JSON-able."""
    per_individual = np.bincount(gallery.individual, minlength=len(gallery.individuals))
    cells = gallery.cells
    return {
        "photos": len(gallery),
        "individuals": len(gallery.individuals),
        "with_one_photo": int((per_individual == 1).sum()),
        "most_photos": int(per_individual.max(initial=0)),
        "dimension": gallery.vectors.shape[1],
        "index": "exact" if cells is None else f"{cells.probes} of {len(cells.centroids)} cells",
        "members": gallery.provenance.weights,
        "preprocessing": gallery.provenance.model_dump(exclude={"members"}),
    }


def as_text(described: Mapping[str, Any]) -> str:
    """Return a line per value; members and preprocessing have several."""
    return "\n".join(f"{printable(key):22}{printable(str(value))}" for key, value in _values(described))


def _values(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in described.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", part) for name, part in value.items())
        else:
            yield key, value
