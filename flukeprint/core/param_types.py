"""What sections of params.yaml are made of: strict, frozen models, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def _yaml_float(value: Any) -> Any:
    """Read `1e-3` as a number: YAML 1.2 (DVC) does, YAML 1.1 (PyYAML) leaves a string."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def yaml_off(value: Any) -> Any:
    """Read `off` as a word: YAML 1.2 (DVC) does, YAML 1.1 (PyYAML) makes it False."""
    return "off" if value is False else value


# Every number of params.yaml has an upper bound, so that a slip of the finger is refused and brings no machine down.
# Each is far above what a catalogue of a million photos or a large machine needs (docs/pipeline.md lists them).
_MOST_ROWS = 10_000_000  # photos, or rows of a table
Float = Annotated[float, BeforeValidator(_yaml_float), Field(allow_inf_nan=False)]
Share = Annotated[Float, Field(ge=0, lt=1)]
OpenShare = Annotated[Float, Field(gt=0, lt=1)]
UnitInterval = Annotated[Float, Field(ge=0, le=1)]
Rows = Annotated[int, Field(ge=0, le=_MOST_ROWS)]
SomeRows = Annotated[int, Field(ge=1, le=_MOST_ROWS)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every generator of random numbers takes
Units = Annotated[int, Field(ge=1, le=1024)]  # processes, threads: of the largest machines of today
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
MemberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
# Of the three channels of a photo, scaled to 0..1: a mean, and what the rest is divided by (1/255 where a network wants
# 0..255).
Channels = Annotated[list[Annotated[Float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
PositiveChannels = Annotated[list[Annotated[Float, Field(ge=1e-3, le=10)]], Field(min_length=3, max_length=3)]
Side = Annotated[int, Field(ge=16, le=2048)]
# In files, which describe what is there: no bound but that of 64 bits, in which arrays count.
Count = Annotated[int, Field(ge=0, lt=2**63)]
AtLeastOne = Annotated[int, Field(ge=1, lt=2**63)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys and wrong types are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __getattr__(self, name: str) -> Any:
        """Refuse a key that the stage did not declare: DVC would not know that it depends on it."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"{type(self).__name__}.{name} is not among the KEYS of this stage. Add it there and to the "
            "stage's `params` in dvc.yaml, so that DVC reruns the stage when it changes."
        )
