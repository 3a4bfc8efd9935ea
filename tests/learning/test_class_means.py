"""The head of class means: what it is, that it tells Gaussians apart, and where it takes the place of a trained one."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from flukeprint.core.training_params import FullHeadParams
from flukeprint.learning import class_means, heads
from flukeprint.learning.training_data import Labelled, TrainingData

CLASSES, DIMENSION = 30, 12


def gaussians(photos: int, seed: int = 0, noise: float = 0.5) -> TrainingData:
    """Photos of classes around means of their own, two views each; class 0 has as many as all others together."""
    generator = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(CLASSES, DIMENSION))
    targets = np.concatenate([np.zeros(photos // 2, int), generator.integers(1, CLASSES, photos - photos // 2)])
    views = means[targets][:, None] + noise * generator.normal(size=(photos, 2, DIMENSION))
    rows = generator.permutation(photos)
    train, valid = (Labelled(part, targets[part]) for part in (rows[: photos // 2], rows[photos // 2 :]))
    return TrainingData(views.astype(np.float32), train, valid, [f"w_{one}" for one in range(CLASSES)])


def logits_of(data: TrainingData, accelerator) -> torch.Tensor:
    state = class_means.head_of_means(data, "full_head m1", accelerator).state
    photos = torch.from_numpy(data.array[data.valid.rows, 0])
    return photos @ state["weight"].T + state["bias"]


def test_means_are_over_photos_and_views_whatever_is_read_at_a_time(monkeypatch):
    data = gaussians(200)
    found, counts = class_means.class_means(data.array, data.train, CLASSES)
    own = data.train.rows[data.train.targets == 3]
    np.testing.assert_allclose(found[3], data.array[own].mean(axis=(0, 1)), rtol=1e-5)
    assert counts.tolist() == np.bincount(data.train.targets, minlength=CLASSES).tolist()
    monkeypatch.setattr(class_means, "_PHOTOS", 7)
    np.testing.assert_array_equal(class_means.class_means(data.array, data.train, CLASSES)[0], found)


def test_it_is_near_the_best_classifier_there_is():
    """Of Gaussians with known means, priors and covariance the posterior is known."""
    data, true = gaussians(6000), np.random.default_rng(99).normal(size=(CLASSES, DIMENSION))
    found = logits_of(data, Accelerator(cpu=True))
    x = data.array[data.valid.rows, 0].astype(float)
    prior = np.log([0.5, *[0.5 / (CLASSES - 1)] * (CLASSES - 1)])
    best = torch.from_numpy((x @ true.T - (true**2).sum(axis=1) / 2) / 0.5**2 + prior)
    wanted = torch.from_numpy(data.valid.targets)
    losses = [float(torch.nn.functional.cross_entropy(one, wanted)) for one in (found, best)]
    assert losses[0] == pytest.approx(losses[1], abs=0.01)


def test_the_record_is_of_the_photos_that_fit_the_memory(monkeypatch):
    data = gaussians(400)
    whole = class_means.head_of_means(data, "full_head m1", Accelerator(cpu=True))
    assert (whole.best_epoch, len(whole.history)) == (1, 1)
    logits = logits_of(data, Accelerator(cpu=True))
    wanted = torch.from_numpy(data.valid.targets)
    assert whole.history[0].valid_loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, wanted)))
    assert whole.history[0].valid_accuracy == pytest.approx(float((logits.argmax(dim=1) == wanted).float().mean()))
    shapes = []
    monkeypatch.setattr(class_means, "_LOGITS", 50 * CLASSES)
    figures = class_means._figures
    monkeypatch.setattr(class_means, "_figures", lambda one, other: shapes.append(one.shape) or figures(one, other))
    class_means.head_of_means(data, "full_head m1", Accelerator(cpu=True))
    assert shapes == [(50, CLASSES)] * 2


@pytest.mark.parametrize(("most", "trained"), [(CLASSES, True), (CLASSES - 1, False)])
def test_more_classes_than_are_trained_get_their_means(tmp_path, monkeypatch, most, trained):
    monkeypatch.chdir(tmp_path)
    params = FullHeadParams(
        optimizer="adam", lr=0.01, weight_decay=0.0, batch_size=16, step_size=3, gamma=0.1, flip=0.5, most_classes=most
    )
    result = heads.train_head(
        gaussians(60), "m1", heads.HeadTraining("full_head", params, 2, 0, Accelerator(cpu=True), most)
    )
    assert len(result.history) == (2 if trained else 1)
    assert result.state["weight"].shape == (CLASSES, DIMENSION)
