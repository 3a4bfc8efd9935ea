import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from training_cases import finetune_params, random_backbone

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_safetensors
from flukeprint.learning.augmentation import ERASED_AREA, Draws, affine_maps, augment, warped
from flukeprint.learning.embedding_head import Embedder, EmbedderSpec, GeM, feature_map
from flukeprint.learning.network_files import load_finetuned, save_finetuned
from flukeprint.learning.networks import for_inference
from flukeprint.learning.records import BackboneRecord
from flukeprint.learning.training import Result

SIZE = (64, 64)


def backbone(name, *, folded=False):
    network, record = random_backbone(name, SIZE, folded=folded)
    return network.eval(), record


def spec(**changes):
    values = {"pooling": "gem", "gem_p": 3.0, "dimension": 8, "batchnorm_neck": True, "l2": False}
    return EmbedderSpec(**values | changes)


def test_gem_is_the_generalised_mean_and_the_average_for_p_1():
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    for p in (1.0, 3.0):
        expected = [[np.mean(maps[n, c].numpy() ** p) ** (1 / p) for c in range(3)] for n in range(2)]
        np.testing.assert_allclose(GeM(p)(maps).detach(), expected, rtol=1e-5)


@pytest.mark.numeric
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "shufflenet_v2_x0_5", "efficientnet_b0", "densenet121"])
def test_the_map_of_features_averages_to_the_backbones_own_embedding(name):
    network, record = backbone(name)
    photos = torch.rand(2, 3, *SIZE)
    whole = network(photos)
    cut, channels = feature_map(network, record)
    maps = cut.eval()(photos)
    assert channels == record.features == maps.shape[1]
    torch.testing.assert_close(maps.mean((2, 3)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg11", "vit_b_16"])
def test_gem_is_refused_where_weights_follow_the_pooling(name):
    network, record = backbone(name)
    with pytest.raises(FlukeprintError, match=rf"pooling is gem, but backbone '{name}'.*Set it to average"):
        feature_map(network, record)


def test_l2_gives_unit_vectors_and_average_keeps_the_backbones_pooling():
    network, record = backbone("resnet18")
    embedder = Embedder(network, spec(pooling="average", dimension=None, batchnorm_neck=False, l2=True), record).eval()
    photos = torch.rand(3, 3, *SIZE)
    torch.testing.assert_close(embedder(photos), torch.nn.functional.normalize(network(photos)))
    assert embedder.features == 512


@pytest.mark.numeric
@pytest.mark.parametrize("folded", [True, False])
def test_a_saved_embedding_network_comes_back(tmp_path, folded):
    network, record = backbone("mobilenet_v2", folded=folded)
    own = EmbedderSpec.of(finetune_params(objective="arcface", embedding={"pooling": "gem", "dimension": 8}).embedding)
    embedder = Embedder(network, own, record).eval()
    state = {f"embedder.{key}": value for key, value in embedder.state_dict().items()} | {"loss.W": torch.zeros(2)}
    path = Path(tmp_path / "m1.safetensors")
    save_finetuned(path, Result(state, 1, [], {}), record, ["a"], own)
    loaded, back = load_finetuned(path)
    photos = torch.rand(2, 3, *SIZE)
    torch.testing.assert_close(loaded.eval()(photos), embedder(photos), rtol=0, atol=0)
    torch.testing.assert_close(for_inference(loaded, SIZE)(photos), embedder(photos), rtol=1e-3, atol=1e-4)
    assert back.features == 8


@pytest.mark.parametrize("embedder", [True, False])
def test_a_saved_network_with_a_size_of_its_own_resizes_photos_itself(tmp_path, embedder):
    network, record = backbone("resnet18")
    record = replace(record, size=(40, 96), own_size=SIZE)
    kept, name = (Embedder(network, spec(), record).eval(), "embedder") if embedder else (network, "backbone")
    state = {f"{name}.{key}": value for key, value in kept.state_dict().items()}
    save_finetuned(tmp_path / "m1", Result(state, 1, [], {}), record, ["a"], spec() if embedder else None)
    loaded, back = load_finetuned(tmp_path / "m1")
    photos = torch.rand(2, 3, 40, 96)
    resized = functional.interpolate(photos, SIZE, mode="bilinear", antialias=True)
    torch.testing.assert_close(loaded.eval()(photos), kept(resized))
    assert (back.size, back.own_size, back.features) == ((40, 96), SIZE, 8 if embedder else 512)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"own_size": [64, 4096]}, "less than or equal to 2048"),
        ({"own_size": [64, "64"]}, "a valid integer"),
        ({"own_size": [64]}, "Field required"),
        ({"own_size": None}, "NoneType"),
        ({"own_sizes": [64, 64]}, "own_sizes"),
    ],
)
def test_a_record_with_another_size_than_there_can_be_or_another_key_is_refused(tmp_path, change, said):
    _, record = backbone("resnet18")
    write_safetensors(tmp_path / "m1", {}, {"backbone": record.to_json() | change, "embedder": None, "labels": []})
    with pytest.raises(FlukeprintError, match=rf"m1 is not a fine-tuned member \(.*{said}"):
        load_finetuned(tmp_path / "m1")


def test_a_record_without_a_size_of_its_own_says_nothing_of_it():
    _, record = backbone("resnet18")
    assert not {"own_size", "options"} & set(record.to_json())
    assert BackboneRecord.from_json(record.to_json()) == record
    own = replace(record, own_size=(16, 2048))
    assert BackboneRecord.from_json(json.loads(json.dumps(own.to_json()))) == own


def draws(photos, seed):
    return Draws(np.random.default_rng(seed), len(photos))


class TestAugmentation:
    def params(self, **changes):
        return finetune_params(augmentation=changes).augmentation

    def test_nothing_is_changed_by_amounts_of_zero(self):
        photos = torch.rand(3, 3, 8, 10)
        assert torch.equal(augment(photos, self.params(), draws(photos, 0)), photos)

    @given(st.floats(0, 90), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(0, 2**32))
    @settings(max_examples=30, deadline=None)
    def test_maps_stay_within_the_amounts(self, rotate, zoom, shear, shift, seed):
        params = self.params(rotate=rotate, zoom=zoom, shear=shear, shift=shift)
        maps = affine_maps(params, Draws(np.random.default_rng(seed), 20))
        assert maps.shape == (20, 2, 3)
        assert np.abs(maps[:, :, 2]).max() <= 2 * shift + 1e-6
        angle = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
        wide = np.hypot(maps[:, 0, 0], maps[:, 1, 0])
        assert np.abs(angle).max() <= rotate + 1e-3
        assert np.abs(wide - 1).max() <= zoom + 1e-5

    def test_a_shift_moves_by_its_share_of_the_photo(self):
        photos = torch.arange(8.0).expand(1, 3, 8, 8).contiguous()
        seen = {
            round(float(augment(photos, self.params(shift=0.25), draws(photos, seed))[0, 0, 4, 4]) - 4, 3)
            for seed in range(40)
        }
        assert min(seen) < -1 < 1 < max(seen)
        assert all(abs(value) <= 2 for value in seen)

    def test_grey_contrast_and_brightness_by_hand(self):
        photos = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        grey = augment(photos, self.params(grey=0.5), draws(photos, 0))
        is_grey = (grey == grey[:, :1]).all(dim=(1, 2, 3))
        assert 10 < is_grey.sum() < 40
        torch.testing.assert_close(grey[is_grey][:, 0], photos[is_grey].mean(1))
        torch.testing.assert_close(grey[~is_grey], photos[~is_grey])
        changed = augment(photos, self.params(contrast=0.3, brightness=0.2), draws(photos, 0))
        means, before = changed.mean((1, 2, 3)), photos.mean((1, 2, 3))
        scale = (changed - means.view(-1, 1, 1, 1)) / (photos - before.view(-1, 1, 1, 1))
        assert (means - before).abs().max() <= 0.2
        assert torch.allclose(scale.amax((1, 2, 3)), scale.amin((1, 2, 3)), atol=1e-3)
        assert ((scale.mean((1, 2, 3)) - 1).abs() <= 0.3 + 1e-4).all()

    def test_one_rectangle_of_the_declared_area_is_erased(self):
        photos = torch.rand(400, 3, 40, 60) + 1
        changed = augment(photos, self.params(erase=0.5), draws(photos, 0))
        erased = (changed == 0).all(1)
        assert torch.equal(changed[~erased[:, None].expand_as(photos)], photos[~erased[:, None].expand_as(photos)])
        areas = erased.float().mean((1, 2))
        assert 150 < (areas > 0).sum() < 250
        assert areas.max() <= ERASED_AREA[1] + 0.02
        for one in erased[areas > 0]:
            rows, columns = one.any(1), one.any(0)
            assert torch.equal(one, rows[:, None] & columns)
            for edge in (rows, columns):
                assert (edge.int().diff() != 0).sum() <= 2

    def test_a_rotation_is_one_in_pixels_also_where_photos_are_wide(self):
        height, width = 40, 100
        maps = affine_maps(self.params(rotate=30.0), Draws(np.random.default_rng(0), 5), height / width)
        to_pixels = np.diag([width / 2, height / 2])
        for linear in maps[:, :, :2]:
            turn = to_pixels @ linear @ np.linalg.inv(to_pixels)
            np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-6)

    def test_a_map_shows_what_torchs_own_grid_does(self):
        photos = torch.rand(4, 3, 9, 14, generator=torch.Generator().manual_seed(0))
        maps = affine_maps(self.params(rotate=40.0, zoom=0.2, shear=0.2, shift=0.1), draws(photos, 0), 9 / 14)
        grid = functional.affine_grid(torch.from_numpy(maps), [*photos.shape], align_corners=False)
        expected = functional.grid_sample(photos, grid, padding_mode="border", align_corners=False)
        torch.testing.assert_close(warped(photos, maps), expected)

    @pytest.mark.numeric
    def test_a_part_of_a_batch_is_changed_as_in_the_whole(self):
        photos = torch.rand(9, 3, 16, 16)
        params = self.params(rotate=10.0, zoom=0.1, grey=0.5, contrast=0.2, brightness=0.1, erase=0.5)
        whole = augment(photos, params, draws(photos, 3))
        part = augment(photos[4:7], params, Draws(np.random.default_rng(3), 9, slice(4, 7)))
        torch.testing.assert_close(part, whole[4:7])

    def test_the_same_generator_gives_the_same_changes(self):
        photos, params = torch.rand(4, 3, 16, 16), self.params(rotate=10.0, zoom=0.1, grey=0.5, contrast=0.2, erase=0.5)
        one, two = (augment(photos, params, draws(photos, 3)) for _ in range(2))
        assert torch.equal(one, two)
