"""What made a gallery's vectors: the members' weights and the preprocessing. Vectors of two makes do not compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of

# How photos.read_rgb resizes. A change there that changes pixels needs another word here.
RESIZE = "upright, RGB, aspect not kept, bilinear with antialiasing"


@dataclass(frozen=True)
class Provenance:
    """The members in the order in which their embeddings are joined, and what a photo goes through before."""

    members: Mapping[str, str]  # name -> hex SHA-256 of the file with its weights
    preprocessing: Mapping[str, Any]  # JSON-able: size, mean, std, resize, views

    @property
    def preprocessing_sha256(self) -> str:
        """Hex SHA-256 of the description as compact JSON with sorted keys."""
        return hashlib.sha256(_canonical(self.preprocessing).encode()).hexdigest()

    def refuse_other(self, other: Provenance, name: str = "the query") -> None:
        """Refuse vectors that were made otherwise than the gallery's.

        Args:
            other: how they were made.
            name: what to call them in the message.

        Raises:
            FlukeprintError: it names every member and field that differs.

        """
        differences = list(_differences(self, other, name))
        if differences:
            raise FlukeprintError(
                f"{name} and the gallery do not compare: {'; '.join(differences)}. Embed both with the same weights "
                "and preprocessing: use the gallery's own model, or make the gallery anew (`dvc repro`)."
            )

    def as_json(self) -> dict[str, Any]:
        """Return what gallery.json holds. Members are a list, because their order counts."""
        return {
            "members": [{"name": name, "sha256": digest} for name, digest in self.members.items()],
            "preprocessing": dict(self.preprocessing),
            "preprocessing_sha256": self.preprocessing_sha256,
        }


def provenance_of(weights: Mapping[str, Path], views: int) -> Provenance:
    """Return the provenance of vectors made by fine-tuned members.

    Args:
        weights: member -> its file in models/finetuned, in the order in which embeddings are joined.
        views: 1, or 2 with the mirror image.

    Raises:
        FlukeprintError: a file is missing or unreadable, or the members want different inputs.

    """
    described = {member: _preprocessing(path) for member, path in weights.items()}
    first, *others = described
    for member in others:
        if described[member] != described[first]:
            raise FlukeprintError(
                f"{weights[first]} and {weights[member]} want different inputs ({_canonical(described[first])} and "
                f"{_canonical(described[member])}). Train all members with one profile: run `dvc repro`."
            )
    hashes = {member: sha256_of(path) for member, path in weights.items()}
    return Provenance(hashes, {**described[first], "resize": RESIZE, "views": views})


def _preprocessing(path: Path) -> dict[str, Any]:
    """Read size, mean and std from the file's metadata; the tensors are not loaded."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            record = json.loads(file.metadata()["json"])["backbone"]
        return {key: list(record[key]) for key in ("size", "mean", "std")}
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing. Run `dvc repro` to make it.") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FlukeprintError(
            f"{path} is not a fine-tuned member of ours ({error!r}). Remove it and run `dvc repro` again."
        ) from None


def _differences(own: Provenance, other: Provenance, name: str) -> Iterator[str]:
    """Say what differs, one thing at a time."""
    for member in dict.fromkeys((*own.members, *other.members)):
        mine, theirs = own.members.get(member), other.members.get(member)
        if mine is None or theirs is None:
            yield f"member {member} is only in {name if mine is None else 'the gallery'}"
        elif mine != theirs:
            yield f"weights of member {member}: SHA-256 {theirs[:12]}..., the gallery has {mine[:12]}..."
    if set(own.members) == set(other.members) and list(own.members) != list(other.members):
        yield f"members: in the order {', '.join(other.members)}, the gallery has {', '.join(own.members)}"
    for field in sorted({*own.preprocessing, *other.preprocessing}):
        mine, theirs = (_canonical(each.preprocessing.get(field)) for each in (own, other))
        if mine != theirs:
            yield f"preprocessing, {field}: {theirs}, the gallery has {mine}"


def _canonical(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, sort_keys=True, separators=(",", ":"))
