import re
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, write_safetensors
from flukeprint.core.params import BackboneParams
from flukeprint.learning.backbones import build_backbone, family_of, timm_family
from flukeprint.learning.embedding_head import Embedder, EmbedderSpec
from flukeprint.learning.network_files import load_backbone, prepare_backbone
from flukeprint.learning.networks import embedding_size
from flukeprint.learning.pretrained_weights import load_weights

SIZE = (64, 64)
NAME = "timm/test_efficientnet"
# Float ImageNet weights are 14 MB that no package of ours carries: asked of where they lie beside the repository.
REAL_WEIGHTS = Path(__file__).parents[3] / "shared/weights/tf_efficientnet_lite0_imagenet.safetensors"


def wanted(**changes):
    values = {"name": NAME, "weights": "random", "mean": "auto", "std": "auto", "batchnorm": "train"}
    return BackboneParams(**values | changes)


def no_network(*_, **__):
    raise FileNotFoundError("cannot find the requested files\nin the local cache")


def test_a_network_of_timm_is_a_backbone_by_its_name():
    backbone, last_layer = build_backbone(NAME, SIZE, 0)
    assert (embedding_size(backbone, SIZE, NAME), last_layer) == (256, "classifier")
    assert family_of(NAME) is timm_family
    assert family_of(f"{NAME}.r160_in1k") is timm_family
    assert family_of("hf-hub:BVRA/MegaDescriptor-T-224") is timm_family
    assert NAME in timm_family.names()


def test_a_network_that_timm_has_not_names_those_that_look_like_it():
    with pytest.raises(
        FlukeprintError, match=r"'timm/efficientnet_lite9'.*timm's networks are .*timm/efficientnet_lite"
    ):
        family_of("timm/efficientnet_lite9")
    with pytest.raises(FlukeprintError, match=r"'hf-hub:nobody'"):
        family_of("hf-hub:nobody")


def test_what_the_weights_want_is_read_from_the_networks_own_record(tmp_path):
    prepare_backbone(tmp_path / "auto", wanted(), SIZE, 0)
    _, record = load_backbone(tmp_path / "auto")
    assert (record.mean, record.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    prepare_backbone(tmp_path / "given", wanted(std=[0.5] * 3), SIZE, 0)
    _, record = load_backbone(tmp_path / "given")
    assert (record.mean, record.std) == ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
    for name, mean in (("timm/tf_efficientnet_lite0", 0.5), ("resnet18", 0.485), ("vit_b_16", 0.485)):
        published = family_of(name).published(name)
        assert (published.mean[0], published.size) == (mean, (224, 224))


@pytest.mark.numeric
@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
def test_a_written_backbone_comes_back(tmp_path, batchnorm):
    prepare_backbone(tmp_path / "backbone", wanted(batchnorm=batchnorm), SIZE, 3)
    network, record = load_backbone(tmp_path / "backbone")
    assert record.folded_batchnorm == (batchnorm == "frozen")
    assert record.folded_batchnorm == ("conv_stem.bias" in network.state_dict())
    assert "options" not in read_json(tmp_path / "backbone/backbone.json")
    photos = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(photos), build_backbone(NAME, SIZE, 3)[0].eval()(photos))


@pytest.mark.numeric
@pytest.mark.parametrize("name", [NAME, "timm/test_resnet"])
def test_maps_of_features_average_to_the_embedding(name):
    network, _ = build_backbone(name, SIZE, 0)
    photos = torch.rand(2, 3, *SIZE)
    maps, channels = timm_family.feature_map(network.eval(), SIZE)
    assert maps(photos).shape[:2] == (2, channels)
    torch.testing.assert_close(maps(photos).mean((2, 3)), network(photos), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "why"),
    [("timm/test_vit", "features of 3 dimensions, no maps"), ("timm/test_convnext", "more after its last maps")],
)
def test_gem_is_refused_without_maps_and_where_more_follows_them(tmp_path, name, why):
    prepare_backbone(tmp_path / "backbone", wanted(name=name), SIZE, 0)
    network, record = load_backbone(tmp_path / "backbone")
    spec = EmbedderSpec("gem", 3.0, None, batchnorm_neck=False, l2=False)
    with pytest.raises(FlukeprintError, match=rf"pooling is gem, but backbone '{name}' .*{why}"):
        Embedder(network, spec, record)


def test_weights_of_a_file_lose_their_last_layer_and_those_of_another_network_are_refused(tmp_path):
    network, last_layer = build_backbone(NAME, SIZE, 1)
    head = {"classifier.weight": torch.ones(2, 256), "classifier.bias": torch.ones(2)}
    write_safetensors(tmp_path / "weights.safetensors", network.state_dict() | head)
    other, _ = build_backbone(NAME, SIZE, 0)
    load_weights(other, str(tmp_path / "weights.safetensors"), NAME, last_layer, SIZE)
    assert torch.equal(other.conv_stem.weight, network.conv_stem.weight)
    resnet, last_layer = build_backbone("timm/test_resnet", SIZE, 0)
    with pytest.raises(FlukeprintError, match="not those of 'timm/test_resnet' of timm's networks"):
        load_weights(resnet, str(tmp_path / "weights.safetensors"), "timm/test_resnet", last_layer, SIZE)


@pytest.mark.parametrize("weights", ["imagenet", "pretrained"])
def test_published_weights_without_a_network_name_the_way_out(monkeypatch, weights):
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", no_network)
    network, last_layer = build_backbone(NAME, SIZE, 0)
    with pytest.raises(FlukeprintError, match=r"test_efficientnet' could not be downloaded.*set profiles.*weights to"):
        load_weights(network, weights, NAME, last_layer, SIZE)


def test_published_weights_that_hold_code_are_refused(monkeypatch):
    def pickled(*_, **__):
        raise UnpicklingError("Weights only load failed")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", pickled)
    network, last_layer = build_backbone(NAME, SIZE, 0)
    with pytest.raises(FlukeprintError, match="hold other things than tensors, which could run code"):
        load_weights(network, "pretrained", NAME, last_layer, SIZE)


def test_a_name_of_the_hub_without_a_network_names_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr("timm.models._hub.download_from_hf", no_network)
    with pytest.raises(
        FlukeprintError, match=r"'hf-hub:a/b' could not be downloaded.*backbone\.name to timm/<its arch"
    ):
        prepare_backbone(tmp_path / "backbone", wanted(name="hf-hub:a/b"), SIZE, 0)
    assert not (tmp_path / "backbone").exists()


@pytest.mark.parametrize("name", ["hf-hub:no such/name", "hf-hub:/x", "hf-hub:../x", "hf-hub:a/"])
def test_a_name_that_the_hub_cannot_have_is_refused_as_one_that_it_has_not(tmp_path, name):
    with pytest.raises(FlukeprintError, match=rf"'{re.escape(name)}' could not be downloaded \(Repo id must"):
        prepare_backbone(tmp_path / "backbone", wanted(name=name), SIZE, 0)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("[", "Expecting value"),
        ("{}", "its record has no 'architecture'"),
        (
            '{"architecture": "test_efficientnet", "pretrained_cfg": {"num_classes": 0}}',
            "its record has no 'input_size'",
        ),
    ],
)
def test_a_record_of_the_hub_that_is_none_is_refused(monkeypatch, tmp_path, record, reason):
    (tmp_path / "config.json").write_text(record)
    monkeypatch.setattr("timm.models._hub.download_from_hf", lambda *_, **__: tmp_path / "config.json")
    with pytest.raises(FlukeprintError, match=rf"'hf-hub:a/b' could not be downloaded \({reason}"):
        prepare_backbone(tmp_path / "backbone", wanted(name="hf-hub:a/b"), SIZE, 0)


def test_a_network_of_the_hub_is_built_again_without_it(monkeypatch, tmp_path):
    config = {
        "architecture": "test_resnet",
        "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.1] * 3, "std": [0.2] * 3, "classifier": "fc"},
        "num_features": 96,
    }
    source, _ = build_backbone("timm/test_resnet", SIZE, 5)
    source.layer1[0].bn1.running_mean += 1  # statistics, so that it does not count as folded
    write_safetensors(tmp_path / "model.safetensors", source.state_dict())
    with monkeypatch.context() as hub:
        hub.setattr("timm.models._hub.download_from_hf", lambda *_, **__: tmp_path / "config.json")
        hub.setattr("timm.models._hub.load_cfg_from_json", lambda _: dict(config))
        prepare_backbone(
            tmp_path / "b", wanted(name="hf-hub:a/b", weights=str(tmp_path / "model.safetensors")), SIZE, 0
        )
    monkeypatch.setattr("timm.models._hub.download_from_hf", no_network)
    network, record = load_backbone(tmp_path / "b")
    assert (record.mean, record.std, record.options) == ((0.1,) * 3, (0.2,) * 3, {"architecture": "test_resnet"})
    assert all(torch.equal(network.state_dict()[key], value) for key, value in source.state_dict().items())


@pytest.mark.numeric
@pytest.mark.skipif(not REAL_WEIGHTS.exists(), reason="ImageNet weights of Lite0 are not beside the project")
def test_float_imagenet_weights_load_fold_and_tell_photos_apart(tmp_path):
    name = "timm/tf_efficientnet_lite0"
    photos = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for batchnorm in ("train", "frozen"):
        folder = tmp_path / batchnorm
        prepare_backbone(folder, wanted(name=name, weights=str(REAL_WEIGHTS), batchnorm=batchnorm), SIZE, 0)
        network, record = load_backbone(folder)
        assert (record.mean, record.features, record.folded_batchnorm) == ((0.5,) * 3, 1280, batchnorm == "frozen")
        with torch.no_grad():
            found.append(network.eval()(photos))
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-3)
    assert (found[0][0] - found[0][1]).abs().max() > 0.1
