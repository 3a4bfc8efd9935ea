"""The registry of backbone families. A family is a module of this package that keeps to `BackboneFamily`.

Add one by writing its module and naming it in FAMILIES. A family imports its library only inside its functions.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.learning.backbones import torchvision_family


class BackboneFamily(Protocol):
    """What a family gives for each of its networks."""

    TITLE: str  # whose networks these are, for messages
    SURPLUS: tuple[str, ...]  # first letters of keys that published weights have and a backbone has not

    def names(self) -> list[str]:
        """Return what `backbone.name` may be."""

    def build(self, name: str, size: tuple[int, int]) -> tuple[nn.Module, str]:
        """Return a network for photos of (height, width) px without its last layer, and that layer's name."""

    def pretrained_weights(self, name: str) -> dict[str, torch.Tensor]:
        """Return the family's own ImageNet weights; a FlukeprintError says why they cannot be had."""

    def feature_map(self, backbone: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, int]:
        """Return what gives maps, N x C x H x W, before the pooling, and C; a ValueError says why it cannot."""


FAMILIES: tuple[BackboneFamily, ...] = (torchvision_family,)


def family_of(name: str) -> BackboneFamily:
    """Return the family that knows a network; an unknown name is a FlukeprintError that lists those there are."""
    for family in FAMILIES:
        if name in family.names():
            return family
    known = "; ".join(f"{family.TITLE} are {', '.join(family.names())}" for family in FAMILIES)
    raise FlukeprintError(
        f"backbone.name is {name!r}; {known}. Set profiles.<profile>.backbone.name in params.yaml to one of these."
    )


def build_backbone(name: str, size: tuple[int, int], seed: int) -> tuple[nn.Module, str]:
    """Build a network without its last layer (N x 3 x H x W -> N x D) and return it with that layer's name.

    Its weights are random, from `seed`; the global generator is left as it was. `size` is (height, width) in px. A name
    that no family knows is a FlukeprintError.
    """
    family = family_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(name, size)
