"""A network that resizes photos itself: it sees what torch's own resize gives."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from flukeprint.learning.batches import PhotoScaler
from flukeprint.learning.networks import for_inference
from flukeprint.learning.resizing import Resized

GIVEN = (24, 40)


@pytest.mark.parametrize("wanted", [(16, 24), (48, 100), (16, 56), (23, 41)])
def test_photos_are_resized_as_by_torch(wanted):
    photos = torch.rand(2, 3, *GIVEN)
    expected = functional.interpolate(photos, wanted, mode="bilinear", antialias=True)
    torch.testing.assert_close(Resized(nn.Identity(), GIVEN, wanted)(photos), expected)


def test_half_precision_is_left_to_the_network():
    photos, wanted = torch.rand(2, 3, *GIVEN), (16, 56)
    exact = Resized(nn.Identity(), GIVEN, wanted)(photos)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(Resized(nn.Identity(), GIVEN, wanted)(photos), exact, rtol=0, atol=0)
        assert Resized(nn.Conv2d(3, 1, 1), GIVEN, wanted)(photos).dtype == torch.bfloat16


def test_training_sees_the_same_but_for_bytes_rounded_on_the_cpu():
    photos, wanted = torch.randint(0, 256, (4, 3, *GIVEN), dtype=torch.uint8), (16, 56)
    scaler = PhotoScaler((0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    seen = Resized(nn.Identity(), GIVEN, wanted)(scaler(photos))
    # By half of one of 255 steps, in each direction once.
    assert (seen - scaler(photos, size=wanted)).abs().max() <= 1.01 / 255 / 0.25


def test_it_holds_no_weights_and_batchnorm_is_folded_behind_it():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].running_mean, network[1].running_var = torch.rand(4), 1 + torch.rand(4)
    resized = Resized(network, GIVEN, (16, 56))
    assert set(resized.state_dict()) == {f"network.{name}" for name in network.state_dict()}
    faster, photos = for_inference(resized, GIVEN), torch.rand(2, 3, *GIVEN)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in faster.modules())
    torch.testing.assert_close(faster(photos), resized(photos), rtol=1e-4, atol=1e-5)
