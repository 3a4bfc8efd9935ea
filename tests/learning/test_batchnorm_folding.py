import pytest
import torch
from torch import nn

from flukeprint.learning.backbones import build_backbone
from flukeprint.learning.batchnorm_folding import fold_batchnorm
from flukeprint.learning.networks import batchnorms

SIZE = (64, 64)


def with_statistics(network):
    """Give every BatchNorm statistics and weights of its own."""
    generator = torch.Generator().manual_seed(0)
    for layer in batchnorms(network):
        layer.running_mean.uniform_(-0.1, 0.1, generator=generator)
        layer.running_var.uniform_(0.5, 1.5, generator=generator)
        layer.weight.data.uniform_(0.5, 1.5, generator=generator)
        layer.bias.data.uniform_(-0.2, 0.2, generator=generator)
    return network.eval()


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["mobilenet_v2", "timm/test_efficientnet", "timm/test_resnet", "timm/test_vit"])
def test_folded_networks_compute_the_same(name):
    network = with_statistics(build_backbone(name, SIZE, 0)[0])
    photos = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network(photos)
        folded = fold_batchnorm(network, SIZE)
        torch.testing.assert_close(folded(photos), before, rtol=1e-3, atol=1e-4)
    assert not batchnorms(folded)
    assert all(weights.requires_grad for weights in folded.parameters())


class Tangled(nn.Module):
    """BatchNorms that no convolution before them can take in: only `plain` follows one, alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleDict({name: nn.BatchNorm2d(3) for name in ("plain", "shared", "twice", "late")})

    def forward(self, photos):
        first, second, third, fourth = self.convolutions
        plain = self.norms["plain"](first(photos))
        shared = second(photos)
        twice = self.norms["twice"](third(photos)) + self.norms["twice"](photos)
        late = self.norms["late"](torch.relu_(fourth(photos)))  # in place: the tensor is the convolution's
        return (plain + self.norms["shared"](shared) * shared + twice + late).mean((2, 3))


@pytest.mark.numeric
def test_only_a_convolution_with_no_other_reader_takes_a_batchnorm_in():
    network = with_statistics(Tangled())
    photos = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network(photos)
        torch.testing.assert_close(fold_batchnorm(network, SIZE)(photos), before)
    kinds = {name: isinstance(layer, nn.BatchNorm2d) for name, layer in network.norms.items()}
    assert kinds == {"plain": False, "shared": True, "twice": True, "late": True}


def test_a_frozen_network_is_folded_and_stays_frozen_also_in_inference_mode():
    network = build_backbone("timm/test_efficientnet", SIZE, 0)[0].requires_grad_(False)
    with torch.inference_mode():
        fold_batchnorm(network, SIZE)
    assert not batchnorms(network)
    assert not any(weights.requires_grad for weights in network.parameters())
