"""Activations in place: what torch computes, bit by bit, without a copy of their input."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from flukeprint.learning.activations import without_copies


def network(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), activation, nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), deepcopy(activation))


def trained_once(model: nn.Module) -> list[torch.Tensor]:
    """Return the output for photos whose features lie on both sides of the bounds, and all gradients."""
    photos = 20 * torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    output = model(photos)
    output.square().mean().backward()
    return [output, *(weights.grad for weights in model.parameters())]


def copies(model: nn.Module) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        trained_once(model)
    return sum(event.count for event in profile.key_averages() if event.key == "aten::clone")


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.ReLU])
def test_results_and_gradients_are_torchs_bit_by_bit_and_nothing_is_copied(activation):
    stock = network(activation(inplace=True))
    lean = without_copies(deepcopy(stock))
    assert all(torch.equal(a, b) for a, b in zip(trained_once(stock), trained_once(lean), strict=True))
    assert lean.state_dict().keys() == stock.state_dict().keys()
    assert copies(lean) == 0
    assert copies(stock) == (0 if activation is nn.ReLU else 2)


def test_without_gradients_the_input_stays_as_it_is():
    layer, values = without_copies(nn.ReLU6(inplace=True)), torch.tensor([-1.0, 3.0, 7.0])
    assert layer(values).tolist() == [0, 3, 6]
    assert values.tolist() == [-1, 3, 7]


def test_what_does_not_work_in_place_is_left_alone():
    plain = nn.ReLU6()
    assert type(without_copies(nn.Sequential(plain))[0]) is nn.ReLU6
