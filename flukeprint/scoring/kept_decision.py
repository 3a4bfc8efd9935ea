"""A decision kept from an earlier run, for networks of the same settings that are trained on every labelled photo.

Networks that are trained on all labelled photos leave none to calibrate with. An earlier run with the same settings,
which set photos aside, fitted a decision to them: how scores of such networks become probabilities. It is taken over
where all that shapes scores is the same, but for the weights themselves, and everything that uses it says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, JsonValue

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.paths import KEPT
from flukeprint.data.selected_tables import QUERY
from flukeprint.scoring.calibration import Calibration, read_calibration

if TYPE_CHECKING:
    import pandas as pd

    from flukeprint.core.params import Params
    from flukeprint.retrieval.provenance import Provenance

_MISSING = "Copy models/decision.json of a run that set photos aside to it, or set calibrate.decision to fitted."
_INPUTS = ("size", "mean", "std", "resize", "views")


def settings_of(params: Params) -> dict[str, JsonValue]:
    """Return what shapes the scores of networks, by the keys of params.yaml: all of a training but its photos and seed.

    Declared keys: `finetune`, `full_head` and `embed` with their recipes' parts, and of the profile `backbone`,
    `members`, `image_size`, `epochs.finetune` and `epochs.full_head`.
    """
    profile = params.active
    sections: dict[str, Any] = {
        "finetune": params.finetune,
        "full_head": params.full_head,
        "embed": params.embed,
        "profiles.<profile>.backbone": profile.backbone,
        **{f"profiles.<profile>.members.{m}.backbone": own.backbone for m, own in profile.members.items()},
    }
    found = {key: value for name, section in sections.items() for key, value in _leaves(section, name)}
    epochs = {"finetune": params.finetune.epochs or profile.epochs.finetune, "full_head": profile.epochs.full_head}
    found |= {f"{name}.epochs": number for name, number in epochs.items()}
    sized = {f"members.{member}.": own for member, own in profile.members.items()} | {"": profile}
    for of, one in sized.items():
        auto = None if one.image_size is None else "auto"
        found[f"profiles.<profile>.{of}image_size"] = list(one.size) if one.size else auto
    return found


def _leaves(value: Any, key: str) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, BaseModel):
        for name, part in value:
            yield from _leaves(part, f"{key}.{name}")
    else:
        yield key, value


def digest_of_queries(table: pd.DataFrame) -> str | None:
    """Return the hex SHA-256 of the names of the photos that are scored, sorted, or None where there are none."""
    names = sorted(table.loc[table["split"] == QUERY, "Image"])
    return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else None


def keep(run: Calibration) -> Calibration:
    """Take over the decision in data/kept for a run: `run` is what can be said of it without photos set aside.

    The agreement of near-duplicates is the run's own: it is of labels, and of no network.

    Raises:
        FlukeprintError: there is no decision, or it was fitted to networks of other settings, or its run had other
            queries, to which it may have been fitted; every difference is named by its key.
    """
    kept = read_calibration(KEPT, _MISSING)
    if differences := [*_differences(kept, run)]:
        raise FlukeprintError(
            f"{KEPT} was not fitted to networks of these settings: {'; '.join(differences)}. Keep the decision of a "
            "run with the same settings, or run with those, or set calibrate.decision to fitted."
        )
    own = ("provenance", "settings", "queries", "duplicates", "named_duplicates")
    update: dict[str, Any] = {name: getattr(run, name) for name in own}
    return kept.model_copy(update=update | {"fitted_to": kept.fitted_to or kept.provenance})


def _differences(kept: Calibration, run: Calibration) -> Iterator[str]:
    if not kept.settings:
        yield "it does not name any (an older version wrote it)"
        return
    there, here = _compared(kept), _compared(run)
    for key in dict.fromkeys((*here, *there)):
        if there.get(key) != here.get(key):
            yield f"{key} was {there.get(key)!r}, here {here.get(key)!r}"
    if run.queries is not None and run.queries != kept.queries:
        yield "it was made beside other queries (select, seed), and may have been fitted to those of this run"


def _compared(calibration: Calibration) -> dict[str, Any]:
    made: Provenance = calibration.provenance
    inputs = {f"provenance.{name}": getattr(made, name) for name in _INPUTS}
    members = {"ensemble.members": list(made.weights), "evaluate.new_share": calibration.share}
    return calibration.settings | members | inputs
