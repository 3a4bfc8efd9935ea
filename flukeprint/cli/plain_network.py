"""The options that describe a pretrained network in place of a bundle."""

from pathlib import Path
from typing import Annotated

from typer import Option

from flukeprint.core.errors import FlukeprintError

Backbone = Annotated[
    str | None, Option(metavar="NAME", help="In place of a bundle, a pretrained network as it is (backbone.name).")
]
Weights = Annotated[str, Option(metavar="FILE|imagenet", help="Of --backbone: a state dict, or the library's own.")]
Size = Annotated[str, Option(metavar="PX|HxW", help="Of --backbone: what photos are resized to.")]
Mean = Annotated[tuple[float, float, float], Option(help="Of --backbone: of RGB from 0 to 1, as its weights expect.")]
Std = Annotated[tuple[float, float, float], Option(help="Of --backbone: what the rest is divided by.")]

# What most ImageNet weights were trained with.
WEIGHTS, SIZE, MEAN, STD = "imagenet", "224", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# What messages of the pipeline call them. A longer name goes first.
_SAID = {
    "profiles.<profile>.backbone.name in params.yaml": "--backbone",
    "profiles.<profile>.image_size in params.yaml": "--size",
    "profiles.<profile>.backbone.": "--",
    "backbone.name": "--backbone",
}


def export_network(folder: Path, name: str, weights: str, size: str, scaling: tuple[Mean, Std]) -> None:
    """Write a bundle of a pretrained network; `scaling` is its mean and standard deviation.

    A FlukeprintError names options where the pipeline's names keys of params.yaml.
    """
    from pydantic import TypeAdapter, ValidationError

    from flukeprint.bundle.plain_export import export_plain
    from flukeprint.core.param_types import Side
    from flukeprint.core.params import BackboneParams

    mean, std = map(list, scaling)
    try:
        sides = size.split("x")
        height, width = TypeAdapter(tuple[Side, Side]).validate_python(sides * 2 if len(sides) == 1 else sides)
        wanted = BackboneParams(name=name, weights=weights, mean=mean, std=std, batchnorm="frozen")
    except ValidationError as error:
        [fault, *_] = error.errors()
        raise FlukeprintError(
            f"--size {size}, --mean {mean} or --std {std} cannot be used ({fault['msg']}, found {fault['input']!r}). "
            "Expected --size 224 or 160x320, and three numbers from 0 to 1 for --mean and --std."
        ) from None
    try:
        export_plain(folder, wanted, (height, width))
    except FlukeprintError as error:
        said = str(error)
        for key, option in _SAID.items():
            said = said.replace(key, option)
        raise FlukeprintError(said) from None
