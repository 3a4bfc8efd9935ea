"""The localiser: boxes go with what is made of a photo, its answers, what is held out, what it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import CONTENT, RUNTIME

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import check_params
from flukeprint.core.runtime import open_accelerator
from flukeprint.learning.augmentation import Draws, warped
from flukeprint.learning.localiser import answers_of, load_localiser, save_localiser
from flukeprint.learning.localiser_training import (
    box_step,
    example_maps,
    held_out_figures,
    map_onto,
    moved_boxes,
    starting_localiser,
    strips_beside,
    train_localiser,
)
from flukeprint.learning.localising import MarkedPhotos

ROOT = Path(__file__).parents[2]
SIDE = 64
ONE_THREAD = RUNTIME.model_copy(update={"threads": 1})  # several wait for one another on a busy machine
BOXES = np.array([[0.25, 0.25, 0.75, 0.5]])
IDENTITY = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)


def localize_params(**changes):
    backbone = CONTENT["localize"]["backbone"]
    section = {**CONTENT["localize"], "backbone": {**backbone, "weights": str(ROOT / backbone["weights"])}}
    section |= {"size": [SIDE, SIDE], "epochs": 2, "batch_size": 8, **changes}
    return check_params({**CONTENT, "localize": section}).localize


def patches(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy dark photos with one bright patch each, and the patches' boxes."""
    generator = np.random.default_rng(seed)
    photos = generator.integers(0, 60, (number, 3, SIDE, SIDE), dtype=np.uint8)
    first, length = generator.integers(4, 24, (number, 2)), generator.integers(16, 36, (number, 2))
    boxes = np.concatenate([first, first + length], axis=1)
    for photo, (left, top, right, bottom) in zip(photos, boxes, strict=True):
        photo[:, top:bottom, left:right] += 180
    return photos, boxes / SIDE


def measured(path: Path) -> dict:
    return held_out_figures(load_localiser(path)[0], *patches(16, 1), 0.5)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1, 0, 0], [0, 1, 0]], [0.25, 0.25, 0.75, 0.5]),
        ([[-1, 0, 0], [0, 1, 0]], [0.25, 0.25, 0.75, 0.5]),  # mirrored: in the middle anyway
        ([[-1, 0, 0], [0, -1, 0]], [0.25, 0.5, 0.75, 0.75]),  # turned by 180 degrees
        ([[0.5, 0, 0], [0, 0.5, 0]], [0.0, 0.0, 1.0, 0.5]),  # twice as near
        ([[1, 0, 0.5], [0, 1, 0]], [0.0, 0.25, 0.5, 0.5]),  # moved left by a quarter, cut at the border
        ([[0, 1, 0], [-1, 0, 0]], [0.5, 0.25, 0.75, 0.75]),  # a quarter turn
    ],
)
def test_a_box_goes_with_its_photo(matrix, expected):
    maps = np.array([matrix], np.float32)
    assert moved_boxes(BOXES, maps)[0].tolist() == pytest.approx(expected)
    photo = np.zeros((1, 3, SIDE, SIDE), np.float32)
    photo[:, :, 16:32, 16:48] = 1
    shown = warped(torch.from_numpy(photo), maps)[0, 0].numpy() > 0.5
    rows, columns = np.flatnonzero(shown.any(1)) / SIDE, np.flatnonzero(shown.any(0)) / SIDE
    around = [columns[0], rows[0], columns[-1] + 1 / SIDE, rows[-1] + 1 / SIDE]
    assert around == pytest.approx(expected, abs=1.5 / SIDE)


def test_strips_beside_a_box_show_nothing_of_it():
    strips = strips_beside(np.array([0.05, 0.3, 0.7, 0.95]))
    assert strips == [(0.0, 0.0, 1.0, 0.3), (0.7, 0.0, 1.0, 1.0)]  # the others are too narrow
    photo = np.zeros((1, 3, SIDE, SIDE), np.float32)
    photo[:, :, 19:61, 3:45] = 1
    for strip in strips:
        assert not warped(torch.from_numpy(photo), map_onto(strip)[None])[:, :, 2:-2, 2:-2].any()
    assert map_onto((0.0, 0.0, 1.0, 1.0)).tolist() == IDENTITY[0].tolist()


def test_made_examples_are_of_every_kind():
    boxes = np.repeat([[0.1, 0.3, 0.9, 0.7], [np.nan] * 4], 200, axis=0)
    maps, moved, turned = example_maps(boxes, Draws(np.random.default_rng(0), len(boxes)), 1.0)
    none = np.isnan(moved[:, 0])
    assert none[200:].all()
    assert 0.05 < none[:200].mean() < 0.3
    assert 0.15 < turned[:200].mean() < 0.35
    assert not turned[none].any()
    assert (maps[turned][:, 1, 1] < 0).all()
    assert 0.35 < (maps[:200, 0, 0] < 0).mean() < 0.65
    assert ((moved[~none] >= 0) & (moved[~none] <= 1)).all()


def test_both_views_of_a_photo_give_the_mirrored_answer(tmp_path):
    localiser, record = starting_localiser(localize_params(), 0)
    save_localiser(tmp_path / "l.safetensors", localiser.state_dict(), record)
    network, read = load_localiser(tmp_path / "l.safetensors")
    assert read == record
    photos, _ = patches(3)
    answers = answers_of(network, photos)
    mirrored = answers_of(network, photos[..., ::-1])
    assert answers.shape == (3, 6)
    assert ((answers >= 0) & (answers <= 1)).all()
    back = np.column_stack([1 - mirrored[:, 2], mirrored[:, 1], 1 - mirrored[:, 0], mirrored[:, 3:]])
    assert np.abs(answers - back).max() <= 1e-4
    assert np.abs(answers_of(network, photos[:1]) - answers[:1]).max() <= 1e-4


def test_near_duplicates_are_held_out_together():
    clusters = np.repeat(np.arange(30), 2)
    marked = MarkedPhotos(np.zeros((60, 1)), np.zeros((60, 4)), clusters)
    held = marked.held_out(0.2, 0)
    assert held.sum() == 12
    assert (held[::2] == held[1::2]).all()
    assert (held == marked.held_out(0.2, 0)).all()
    assert (held != marked.held_out(0.2, 1)).any()
    assert not marked.held_out(0.0, 0).any()


def test_the_loss_wants_the_box_the_fluke_and_its_way_up():
    from flukeprint.learning.localiser_training import BoxBatch

    boxes = torch.tensor([[0.1, 0.2, 0.8, 0.9], [0.0, 0.0, 0.0, 0.0]])
    batch = BoxBatch(torch.zeros(2), torch.tensor([1, 0]), 2, boxes, torch.tensor([True, False]))
    answer = torch.tensor([[0.1, 0.2, 0.8, 0.9, 9.0, 9.0], [0.3, 0.3, 0.6, 0.6, -9.0, 0.0]])
    loss, right = box_step(lambda _: answer, batch)
    assert (loss.item(), right.item()) == (pytest.approx(0, abs=1e-3), 2)
    for place, wrong in ((0, 0.5), (4, -9.0), (5, -9.0)):
        worse = answer.clone()
        worse[0, place] = wrong
        assert box_step(lambda _, worse=worse: worse, batch)[0] > 0.5


def test_a_localiser_learns_and_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos, boxes = patches(40)
    params = localize_params(epochs=4)
    figures, states = [], []
    for number in range(2):
        localiser, record = starting_localiser(params, 0)
        if number == 0:
            save_localiser(tmp_path / "start.safetensors", localiser.state_dict(), record)
            figures.append(measured(tmp_path / "start.safetensors"))
        result = train_localiser(localiser, record, photos, boxes, params, 0, open_accelerator(ONE_THREAD))
        states.append(result.state)
    save_localiser(tmp_path / "end.safetensors", states[0], record)
    figures.append(measured(tmp_path / "end.safetensors"))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert figures[1]["iou"] > figures[0]["iou"] + 0.1
    assert figures[1]["flukes"] == 16


def test_a_backbone_without_a_map_is_refused():
    params = localize_params(backbone={**CONTENT["localize"]["backbone"], "name": "alexnet", "weights": "random"})
    with pytest.raises(FlukeprintError, match=r"localize\.backbone\.name is 'alexnet', which goes on with"):
        starting_localiser(params, 0)
