"""The registry of backbone families. A family is a module of this package that keeps to `BackboneFamily`.

Add one by writing its module and naming it in FAMILIES. A family imports its library only inside its functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Protocol

import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.backbones import timm_family, torchvision_family
from flukeprint.learning.backbones.published import Published

# Names that an error message lists; of a family of more, those that look like the name asked for.
_MOST_LISTED = 200


class BackboneFamily(Protocol):
    """What a family gives for each of its networks."""

    TITLE: str  # whose networks these are, for messages
    SURPLUS: tuple[str, ...]  # first letters of keys that published weights have and a backbone has not

    def knows(self, name: str, /) -> bool:
        """Tell whether the family can build a network, without the network."""

    def names(self) -> list[str]:
        """Return what `backbone.name` may be, as far as that can be listed."""

    def published(self, name: str, /) -> Published:
        """Return what is published of a network; a FlukeprintError says why it cannot be had."""

    def build(self, name: str, size: tuple[int, int], options: Mapping[str, Any], /) -> tuple[nn.Module, str]:
        """Return a network for photos of (height, width) px without its last layer, and that layer's name.

        `options` are those of `published`.
        """

    def pretrained_weights(self, name: str, size: tuple[int, int], /) -> dict[str, torch.Tensor]:
        """Return the published weights for photos of a size; a FlukeprintError says why they cannot be had."""

    def feature_map(self, backbone: nn.Module, size: tuple[int, int], /) -> tuple[nn.Module, int]:
        """Return what gives maps, N x C x H x W, before the pooling, and C; a ValueError says why it cannot."""


FAMILIES: tuple[BackboneFamily, ...] = (timm_family, torchvision_family)


def family_of(name: str) -> BackboneFamily:
    """Return the family that knows a network; an unknown name is a FlukeprintError that lists those there are."""
    for family in FAMILIES:
        if family.knows(name):
            return family
    known = "; ".join(f"{family.TITLE} are {_listed(family.names(), name)}" for family in FAMILIES)
    raise FlukeprintError(
        f"backbone.name is {name!r}; {known}. Set profiles.<profile>.backbone.name in params.yaml to one of these."
    )


def _listed(names: list[str], name: str) -> str:
    if len(names) <= _MOST_LISTED:
        return ", ".join(names)
    near = get_close_matches(name, names, n=8, cutoff=0.4)
    return ", ".join([*near, f"... ({len(names)} in all)"])


def build_backbone(
    name: str, size: tuple[int, int], seed: int, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, str]:
    """Build a network without its last layer (N x 3 x H x W -> N x D) and return it with that layer's name.

    Its weights are random, from `seed`; the global generator is left as it was. `size` is (height, width) in px,
    `options` are those of the family's `published`. A name that no family knows is a FlukeprintError.
    """
    family = family_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(name, size, options or {})
