"""Local matching by networks whose weights come from files: what is loaded, what is refused, and what is paired."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from keypoint_pictures import speckled

from flukeprint.core.errors import FlukeprintError
from flukeprint.retrieval.local_matching import Keypoints

pytest.importorskip("kornia", reason="the extra local is not installed")
torch = pytest.importorskip("torch")

SIZE = (96, 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """Random weights of both networks, as torch and as safetensors write them."""
    from kornia.feature import ALIKED, LightGlue
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(ALIKED("aliked-n16").state_dict(), folder / "aliked.pth")
    state = LightGlue(features=None, input_dim=128).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "lightglue.safetensors")
    return folder / "aliked.pth", folder / "lightglue.safetensors"


@pytest.fixture(scope="module")
def matcher(files):
    from flukeprint.identify.learned_matching import LightGlueMatcher

    return LightGlueMatcher(*files)


def test_keypoints_lie_in_the_picture_and_have_128_numbers_of_length_1(matcher):
    found = matcher.describe(np.asarray(speckled(1, SIZE)))
    assert found.size == SIZE
    assert 0 < len(found.points) <= 512
    assert (found.points >= 0).all()
    assert (found.points < SIZE).all()
    assert found.descriptors.shape == (len(found.points), 128)
    assert np.allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)


def test_pairs_are_those_of_lightglue_itself(matcher, files):
    """Networks of random weights pair next to nothing: so the threshold is lowered until they do."""
    from kornia.feature import LightGlue
    from safetensors.torch import load_file

    own = LightGlue(features=None, input_dim=128, filter_threshold=0.0)
    own.load_state_dict(load_file(files[1]))
    one, other = (matcher.describe(np.asarray(speckled(seed, SIZE))) for seed in (1, 2))
    data = {
        f"image{place}": {
            "keypoints": torch.from_numpy(keypoints.points)[None],
            "descriptors": torch.from_numpy(keypoints.descriptors)[None],
            "image_size": torch.tensor([SIZE]),
        }
        for place, keypoints in enumerate((one, other))
    }
    with torch.inference_mode():
        expected = own.eval()(data)["matches"][0].numpy()
    assert len(expected) > 0
    matcher._lightglue.conf.filter_threshold = 0.0
    assert matcher.pairs(one, other).tolist() == expected.tolist()


def test_too_few_keypoints_are_not_paired(matcher):
    none = Keypoints(np.zeros((1, 2), np.float32), np.zeros((1, 128), np.float32), SIZE)
    assert matcher.pairs(none, none).shape == (0, 2)


def test_older_names_of_layers_are_read(files, tmp_path):
    """As the published weights of LightGlue for some keypoints have them; without what follows from other values."""
    from safetensors.torch import load_file

    from flukeprint.identify.learned_matching import LightGlueMatcher

    state = {}
    for key, value in load_file(files[1]).items():
        if key.startswith("transformers."):
            _, number, kind, rest = key.split(".", 3)
            state[f"{kind}.{number}.{rest}"] = value
        else:
            state[key] = value
    del state["confidence_thresholds"]
    torch.save(state, tmp_path / "old.pth")
    read = LightGlueMatcher(files[0], tmp_path / "old.pth")._lightglue.state_dict()
    assert all(torch.equal(read[key], value) for key, value in load_file(files[1]).items())


def test_other_files_are_refused(files, tmp_path):
    from flukeprint.identify.learned_matching import LightGlueMatcher

    with pytest.raises(FlukeprintError, match=r"holds the weights of another network.*--local-networks wants"):
        LightGlueMatcher(files[1], files[0])
    with pytest.raises(FlukeprintError, match=r"no file '.*gone\.pth'"):
        LightGlueMatcher(files[0], tmp_path / "gone.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps({"weights": Path("a")}))
    with pytest.raises(FlukeprintError, match=r"code\.pth is not a state dict.*would run code"):
        LightGlueMatcher(files[0], tmp_path / "code.pth")


def test_a_matcher_is_known_by_its_files(files):
    from flukeprint.core.files import sha256_of
    from flukeprint.identify.reranking import open_matcher

    assert open_matcher(files)[1].weights == [sha256_of(path) for path in files]
