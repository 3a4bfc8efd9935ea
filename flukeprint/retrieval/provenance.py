"""How vectors were made: the members' weights and the preprocessing. Vectors of two makes do not compare."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import REPAIR, read_safetensors_metadata, sha256_of
from flukeprint.core.manifests import Record, Sha256, validated
from flukeprint.core.param_types import Channels, MemberName, PositiveChannels, Side
from flukeprint.data.cropping import Crop

# How photos.read_rgb resizes. A change there that changes pixels needs another word here.
RESIZE = "upright, RGB, aspect not kept, bilinear with antialiasing"


class MemberRecord(Record):
    """A member and its weights."""

    name: MemberName
    sha256: Sha256  # of the file with its weights
    mean: Channels | None = None  # of its own, where its network wants others than the first member's
    std: PositiveChannels | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if value is not None}


class Provenance(Record):
    """What `provenance` holds in gallery.json, decision.json and a bundle's preprocessing.json."""

    members: Annotated[list[MemberRecord], Field(min_length=1)]  # in the order in which their embeddings are joined
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]  # height, width in px
    mean: Channels  # of RGB scaled to 0..1, as the first member wants it
    std: PositiveChannels
    resize: str  # in words
    views: Annotated[int, Field(ge=1, le=2)]  # 2: also the mirror image

    @field_validator("members")
    @classmethod
    def _once(cls, members: list[MemberRecord]) -> list[MemberRecord]:
        if len({member.name for member in members}) != len(members):
            message = "a member is there twice"
            raise ValueError(message)
        return members

    @property
    def weights(self) -> dict[str, str]:
        """Member -> hex SHA-256 of the file with its weights, in order."""
        return {member.name: member.sha256 for member in self.members}

    def refuse_other(self, other: Provenance, name: str = "the query") -> None:
        """Refuse vectors (`name` in the message) that were made otherwise than the gallery's; say all that differs."""
        differences = list(_differences(self, other, name))
        if differences:
            raise FlukeprintError(
                f"{name} and the gallery do not compare: {'; '.join(differences)}. Embed both with the same weights "
                "and preprocessing: use the gallery's own model, or make the gallery anew (`dvc repro`)."
            )


def provenance_of(
    weights: Mapping[str, Path], views: int, repair: str = REPAIR, crop: Crop | None = None
) -> Provenance:
    """Return the provenance of vectors made by fine-tuned members; refuse members that want photos of other sizes.

    `weights` are their files in models/finetuned, in the order in which embeddings are joined; `crop` is how photos are
    cropped before they are resized.
    """
    described = {member: _input_of(path, repair) for member, path in weights.items()}
    first = next(iter(described))
    common = described[first]
    for member, own in described.items():
        if own["size"] != common["size"]:
            raise FlukeprintError(
                f"{weights[first]} and {weights[member]} want photos of different sizes ({_compact(common['size'])} "
                f"and {_compact(own['size'])}). Train all members with one profile: run `dvc repro`."
            )
    members = [
        {"name": member, "sha256": sha256_of(weights[member])}
        | {key: value for key, value in own.items() if value != common[key]}
        for member, own in described.items()
    ]
    resize = RESIZE if crop is None else f"{crop.in_words()}; {RESIZE}"
    content = {**common, "members": members, "resize": resize, "views": views}
    return validated(weights[first], Provenance, content, repair)


def _input_of(path: Path, repair: str) -> dict[str, Any]:
    """Read the size, mean and standard deviation of a member's inputs from its metadata; tensors are not loaded."""
    metadata = read_safetensors_metadata(path, repair)
    try:
        return {key: metadata["backbone"][key] for key in ("size", "mean", "std")}
    except (KeyError, TypeError) as error:
        raise FlukeprintError(f"{path} is not a fine-tuned member of ours ({error!r}). {repair}") from None


def _differences(own: Provenance, other: Provenance, name: str) -> Iterator[str]:
    """Say what differs, one thing at a time."""
    mine, theirs = own.weights, other.weights
    for member in dict.fromkeys((*mine, *theirs)):
        if member not in mine or member not in theirs:
            yield f"member {member} is only in {'the gallery' if member in mine else name}"
        elif mine[member] != theirs[member]:
            given, ours = theirs[member][:12], mine[member][:12]
            yield f"weights of member {member}: SHA-256 {given}..., the gallery has {ours}..."
    if set(mine) == set(theirs) and list(mine) != list(theirs):
        yield f"members: in the order {', '.join(theirs)}, the gallery has {', '.join(mine)}"
    for field in ("size", "mean", "std", "resize", "views"):
        ours, given = getattr(own, field), getattr(other, field)
        if ours != given:
            yield f"preprocessing, {field}: {_compact(given)}, the gallery has {_compact(ours)}"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
