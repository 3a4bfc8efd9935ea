import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_safetensors
from flukeprint.learning import backbones
from flukeprint.learning.backbones import build_backbone, family_of, torchvision_family
from flukeprint.learning.networks import (
    Classifier,
    embedding_size,
    for_inference,
    freeze,
    has_folded_batchnorm,
    new_head,
    parts_of,
)
from flukeprint.learning.pretrained_weights import load_weights, read_state

SIZE = (32, 32)
# ImageNet weights with BatchNorm folded in are 14 MB that no package carries, so drawn ones stand in for them. Where
# the file lies beside the repository, the same is asked of the file.
REAL_WEIGHTS = Path(__file__).parents[3] / "shared/weights/mobilenet_v2_imagenet.pth"
FOLDED_WEIGHTS = ["drawn", *(["real"] if REAL_WEIGHTS.exists() else [])]


@pytest.mark.parametrize(
    ("name", "features"),
    [("resnet18", 512), ("mobilenet_v2", 1280), ("squeezenet1_1", 512), ("shufflenet_v2_x0_5", 1024), ("vgg11", 4096)],
)
def test_a_classifier_without_its_last_layer_is_a_backbone(name, features):
    backbone, last_layer = build_backbone(name, SIZE, 0)
    assert embedding_size(backbone, SIZE, name) == features
    assert isinstance(backbone.get_submodule(last_layer), nn.Identity)


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    states = [build_backbone("resnet18", SIZE, seed)[0].state_dict()["conv1.weight"] for seed in (3, 3, 4)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_backbone_names_those_that_exist():
    with pytest.raises(FlukeprintError, match=r"'resnet19'.*resnet18.*vit_b_16"):
        build_backbone("resnet19", SIZE, 0)
    assert family_of("resnet18") is torchvision_family


class LinearFamily:
    """A second family: one network, a linear layer on the mean colour."""

    TITLE = "the networks of this test"
    SURPLUS = ("teacher.",)

    def names(self):
        return ["linear"]

    def knows(self, name):
        return name == "linear"

    def build(self, *_):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5), nn.Identity()), "3"

    def pretrained_weights(self, *_):
        weights = {"2.weight": torch.ones(5, 3), "2.bias": torch.zeros(5)}
        return weights | {"3.weight": torch.ones(9), "teacher.2.weight": torch.ones(9)}

    def feature_map(self, *_):
        raise ValueError("has none")


def test_another_family_is_one_more_entry_of_the_registry(monkeypatch):
    monkeypatch.setattr(backbones, "FAMILIES", (*backbones.FAMILIES, LinearFamily()))
    backbone, last_layer = build_backbone("linear", SIZE, 0)
    load_weights(backbone, "imagenet", "linear", last_layer, SIZE)
    assert backbone(torch.ones(1, 3, *SIZE)).tolist() == [[3.0] * 5]
    assert embedding_size(backbone, SIZE, "linear") == 5
    with pytest.raises(FlukeprintError, match=r"'other'.*torchvision's classifiers are .*of this test are linear"):
        build_backbone("other", SIZE, 0)


def test_a_state_is_split_by_the_first_name_of_its_keys():
    assert parts_of({"head.0.bias": 1, "head.0.weight": 2, "loss.W": 3}) == {
        "head": {"0.bias": 1, "0.weight": 2},
        "loss": {"W": 3},
    }


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "swin_t", "vit_b_32"])
def test_a_backbone_takes_its_own_state_back_and_published_heads_are_left_out(tmp_path, name):
    backbone, last_layer = build_backbone(name, (96, 96), 0)
    state = {key: value + 1 for key, value in backbone.state_dict().items() if "num_batches" not in key}
    extra = {f"{last_layer}.weight": torch.ones(2), "aux1.conv.conv.weight": torch.ones(2)}
    write_safetensors(tmp_path / "weights.safetensors", state | extra)
    load_weights(backbone, str(tmp_path / "weights.safetensors"), name, last_layer, SIZE)
    assert all(torch.equal(backbone.state_dict()[key], value) for key, value in state.items())


def test_a_size_that_the_backbone_cannot_take_is_refused():
    backbone, _ = build_backbone("alexnet", (16, 16), 0)
    with pytest.raises(FlukeprintError, match=r"alexnet.*16x16 px"):
        embedding_size(backbone, (16, 16), "alexnet")


def test_weights_file_round_trip_without_the_last_layer(tmp_path):
    import torchvision

    source = torchvision.models.resnet18(num_classes=7)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    backbone, last_layer = build_backbone("resnet18", SIZE, 0)
    load_weights(backbone, str(tmp_path / "weights.pth"), "resnet18", last_layer, SIZE)
    assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], source.state_dict()["layer4.1.conv2.weight"])


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_stored_in_half_precision_come_back_as_float32(tmp_path, half, name):
    state = {"weight": torch.tensor([0.5, -2.0], dtype=half), "counter": torch.tensor(3)}
    save = write_safetensors if name.endswith(".safetensors") else lambda path, tensors: torch.save(tensors, path)
    save(tmp_path / name, state)
    found = read_state(tmp_path / name)
    assert {key: value.dtype for key, value in found.items()} == {"weight": torch.float32, "counter": torch.int64}
    assert found["weight"].tolist() == [0.5, -2.0]


def test_weights_of_another_network_are_refused_by_key_and_shape(tmp_path):
    import torchvision

    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "weights.pth")
    backbone, last_layer = build_backbone("resnet18", SIZE, 0)
    with pytest.raises(FlukeprintError, match=r"not those of 'resnet18'.*layer1\.2"):
        load_weights(backbone, str(tmp_path / "weights.pth"), "resnet18", last_layer, SIZE)
    wide = torchvision.models.resnet18().state_dict() | {"conv1.weight": torch.ones(64, 3, 5, 5)}
    torch.save(wide, tmp_path / "weights.pth")
    with pytest.raises(FlukeprintError, match=r"not those of 'resnet18'.*conv1.weight.*5, 5"):
        load_weights(backbone, str(tmp_path / "weights.pth"), "resnet18", last_layer, SIZE)


class Mischief:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_disguised_as_weights_runs_no_code(tmp_path, capsys):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps({"conv1.weight": Mischief()}))
    backbone, last_layer = build_backbone("resnet18", SIZE, 0)
    with pytest.raises(FlukeprintError, match="loading them would run code"):
        load_weights(backbone, str(tmp_path / "weights.pth"), "resnet18", last_layer, SIZE)
    assert "code ran" not in capsys.readouterr().out


def test_missing_weights_file_is_named():
    backbone, last_layer = build_backbone("resnet18", SIZE, 0)
    with pytest.raises(FlukeprintError, match=r"'no/such\.pth'.*no such file"):
        load_weights(backbone, "no/such.pth", "resnet18", last_layer, SIZE)


def test_imagenet_weights_out_of_reach_name_the_ways_out(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("network is unreachable")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    backbone, last_layer = build_backbone("resnet18", SIZE, 0)
    with pytest.raises(FlukeprintError, match=r"could not be downloaded.*resnet18-.*set profiles"):
        load_weights(backbone, "imagenet", "resnet18", last_layer, SIZE)


@pytest.mark.numeric
def test_inference_copy_computes_the_same():
    backbone, _ = build_backbone("resnet18", SIZE, 0)
    with torch.no_grad():
        for layer in backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.uniform_(-0.1, 0.1)
                layer.running_var.uniform_(0.8, 1.2)
    photos = torch.randn(2, 3, *SIZE)
    backbone = freeze(backbone)
    np.testing.assert_allclose(for_inference(backbone, SIZE)(photos), backbone(photos), rtol=1e-3, atol=1e-4)


def test_folded_batchnorm_is_recognised_and_stays_in_eval_mode():
    backbone, _ = build_backbone("resnet18", SIZE, 0)
    assert has_folded_batchnorm(backbone)  # freshly built: the identity too
    model = Classifier(backbone, new_head(512, 2, 0), frozen_batchnorm=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    model(torch.randn(4, 3, *SIZE))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.frozen_batchnorm = False
    model.train()
    model(torch.randn(4, 3, *SIZE))
    assert not has_folded_batchnorm(backbone)


def folded_weights(path: Path) -> nn.Module:
    """Save a MobileNet whose BatchNorm is folded into its convolutions; return it as it was before."""
    plain, last_layer = build_backbone("mobilenet_v2", SIZE, 1)
    generator = torch.Generator().manual_seed(0)
    layers = {name: layer for name, layer in plain.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    for layer in layers.values():
        layer.weight.data.uniform_(0.5, 1.5, generator=generator)
        layer.bias.data.uniform_(-0.2, 0.2, generator=generator)
        layer.momentum = 1.0
    # The statistics of some photos, as after training: with others nothing of a photo would reach the embedding.
    with torch.no_grad():
        plain.train()(torch.rand(16, 3, 96, 96, generator=generator) * 2 - 1)
    state = plain.state_dict()
    for name, layer in layers.items():
        # The convolution before a BatchNorm is the layer before it: block.0 and block.1, conv.2 and conv.3.
        owner, _, number = name.rpartition(".")
        scale = layer.weight / (layer.running_var + layer.eps).sqrt()
        convolution = f"{owner}.{int(number) - 1}.weight"
        state[convolution] = (state[convolution] * scale.view(-1, 1, 1, 1)).detach()
        state[f"{name}.bias"] = (layer.bias - layer.running_mean * scale).detach()
        state[f"{name}.weight"] = torch.ones_like(scale)
        state[f"{name}.running_mean"] = torch.zeros_like(scale)
        state[f"{name}.running_var"] = torch.full_like(scale, 1 - layer.eps)
    head = {f"{last_layer}.weight": torch.zeros(3, 1280), f"{last_layer}.bias": torch.zeros(3)}
    torch.save(state | head, path)
    return plain


@pytest.mark.numeric
@pytest.mark.parametrize("kind", FOLDED_WEIGHTS)
def test_weights_with_folded_batchnorm_are_loaded_recognised_and_compute_the_same(kind, tmp_path):
    path = REAL_WEIGHTS if kind == "real" else tmp_path / "weights.pth"
    plain = None if kind == "real" else freeze(folded_weights(path))
    backbone, last_layer = build_backbone("mobilenet_v2", SIZE, 0)
    load_weights(backbone, str(path), "mobilenet_v2", last_layer, SIZE)
    assert has_folded_batchnorm(backbone)
    photos = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        features = freeze(backbone)(photos)
        np.testing.assert_allclose(for_inference(backbone, SIZE)(photos), features, rtol=1e-2, atol=1e-3)
        if plain is not None:
            assert not has_folded_batchnorm(plain)
            np.testing.assert_allclose(features, plain(photos), rtol=1e-2, atol=1e-3)
    assert (features[0] - features[1]).abs().max() > 0.1  # photos are told apart, by far more than the tolerance
