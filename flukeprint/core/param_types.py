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


Float = Annotated[float, BeforeValidator(_yaml_float), Field(allow_inf_nan=False)]
Positive = Annotated[Float, Field(gt=0)]
Share = Annotated[Float, Field(ge=0, lt=1)]
OpenShare = Annotated[Float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
MemberName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Channels = Annotated[list[Float], Field(min_length=3, max_length=3)]
PositiveChannels = Annotated[list[Positive], Field(min_length=3, max_length=3)]
Side = Annotated[int, Field(ge=16, le=2048)]


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
