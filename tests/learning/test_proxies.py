"""Sampled proxies: what is drawn, and that a loss with some proxies at a time trains all of them."""

import itertools

import numpy as np
import pytest
import torch
from training_cases import finetune_params

from flukeprint.learning.batches import Batch
from flukeprint.learning.objectives import MetricModel, build_loss, class_margins, metric_step
from flukeprint.learning.proxies import ClassDraw, SampledProxies

CLASSES, FEATURES, PHOTOS = 7, 4, 6


def steps(n=40, size=8, classes=1000):
    return list(np.random.default_rng(0).integers(0, classes, (n, size)))


class TestDraw:
    def test_a_step_compares_as_many_classes_as_any_other_and_its_own_are_among_them(self):
        targets = steps()
        for most in (16, 100, 900):
            drawn = list(ClassDraw(1000, most, 0).steps(targets, 1))
            assert len(drawn) == len(targets)
            for own, classes in zip(targets, drawn, strict=True):
                assert np.isin(own, classes).all()
                assert len(classes) == most
                assert (np.diff(classes) > 0).all()

    def test_it_follows_from_seed_epoch_and_step(self):
        first, again, later, other = (
            np.array(list(ClassDraw(1000, 100, seed).steps(steps(), epoch)))
            for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
        )
        assert np.array_equal(first, again)
        assert not any(np.array_equal(first[0], others[0]) for others in (later, other))
        assert not np.array_equal(first[0], first[-1])

    def test_classes_of_a_group_of_steps_take_no_more_than_a_quarter_and_share_an_array(self):
        drawn = list(ClassDraw(1000, 100, 0).steps(steps(), 1))
        groups = [len(list(group)) for _, group in itertools.groupby(drawn, id)]
        assert groups == [3] * 13 + [1]  # 3 batches of 8 are 24 of 100 classes

    def test_every_class_is_as_likely_as_any_other(self):
        draw = ClassDraw(50, 20, 0)
        times = np.zeros(50)
        for epoch in range(2000):
            [classes] = draw.steps([np.arange(10)], epoch)
            times[classes] += 1
        assert (times[:10] == 2000).all()
        np.testing.assert_allclose(times[10:], 500, atol=100)  # 10 of 40; five standard deviations

    @pytest.mark.parametrize(
        ("changes", "individuals", "expected"),
        [
            ({}, 7_000, (7_000, 7_000)),
            ({"mirrored_ids": True}, 15_000, (30_000, 8_000)),
            ({"objective": "triplet"}, 30_000, (30_000, 30_000)),
            ({"arcface": {"most_classes": 1}, "batch_size": 8}, 30, (30, 16)),
        ],
    )
    def test_it_is_what_params_ask_for(self, changes, individuals, expected):
        draw = ClassDraw.of(finetune_params(**{"objective": "arcface"} | changes), individuals, 0)
        assert (draw.classes, draw.most) == expected
        assert draw.samples == (expected[0] > expected[1])
        assert draw.samples or list(draw.steps(steps(2), 1)) == [None, None]


def losses(k: int, most: int):
    """Return a loss that holds all proxies, one that holds some, and the proxies of the latter: at first the same."""
    arcface = {"subcenters": k, "margin_factor": 1.5}
    params = finetune_params(objective="arcface" if k == 1 else "subcenter_arcface", arcface=arcface)
    targets = np.repeat(np.arange(CLASSES), np.arange(1, CLASSES + 1))
    torch.manual_seed(0)
    some = build_loss(params, targets, CLASSES, FEATURES, most)
    proxies = SampledProxies(some, class_margins(targets, CLASSES, params.arcface))
    whole = build_loss(params, targets, CLASSES, FEATURES)
    whole.W.data.copy_(by_column(proxies, whole))
    return whole, some, proxies


def by_column(proxies: SampledProxies, loss, optimizer=None, name: str = "proxies") -> torch.Tensor:
    rows = proxies.state(optimizer or torch.optim.SGD([loss.W]))[name]
    return rows.reshape(-1, FEATURES).T.clone()


OPTIMIZERS = {
    "adamw": lambda loss: torch.optim.AdamW([loss.W], 0.01, weight_decay=0.1, fused=True),
    "sgd": lambda loss: torch.optim.SGD([loss.W], 0.01, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("k", [1, 3])
def test_where_all_are_drawn_it_is_the_full_softmax(k, name):
    """Classes in another order at each step: proxies, margins and the optimizer's averages go with them."""
    whole, some, proxies = losses(k, CLASSES)
    optimizers = [OPTIMIZERS[name](loss) for loss in (whole, some)]
    generator = np.random.default_rng(0)
    for _ in range(6):
        classes, targets = generator.permutation(CLASSES), generator.integers(0, CLASSES, PHOTOS)
        embeddings = torch.from_numpy(generator.normal(size=(PHOTOS, FEATURES))).float()
        proxies.bring(classes, optimizers[1])
        slots = np.argsort(classes)[targets]
        values = [whole(embeddings, torch.from_numpy(targets)), some(embeddings, torch.from_numpy(slots))]
        assert values[1].item() == pytest.approx(values[0].item(), rel=1e-5)
        assert np.array_equal(whole.nearest == torch.from_numpy(targets), some.nearest == torch.from_numpy(slots))
        for loss, optimizer in zip(values, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.testing.assert_close(by_column(proxies, some, optimizers[1]), whole.W.detach(), rtol=1e-4, atol=1e-6)
    slot = "exp_avg_sq" if name == "adamw" else "momentum_buffer"
    expected = optimizers[0].state[whole.W][slot]
    torch.testing.assert_close(by_column(proxies, some, optimizers[1], slot), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_a_step_with_some_is_the_softmax_over_these_and_leaves_the_others_as_they_are(k):
    whole, some, proxies = losses(k, 4)
    classes, targets = np.array([1, 2, 4, 6]), torch.tensor([1, 3, 0])
    embeddings = torch.from_numpy(np.random.default_rng(0).normal(size=(3, FEATURES))).float()
    optimizer = OPTIMIZERS["adamw"](some)
    proxies.bring(classes, optimizer)
    loss = some(embeddings, targets)
    logits = whole.get_logits(embeddings)
    full = whole(embeddings, torch.from_numpy(classes)[targets])  # of which the left out classes' terms are taken away
    assert loss.item() < full.item()
    before = whole.W.detach().view(FEATURES, CLASSES, k)
    columns = before[:, classes].reshape(FEATURES, -1)
    torch.testing.assert_close(some.W.detach(), columns)
    torch.testing.assert_close(some.margins, whole.margins[classes])
    torch.testing.assert_close(some.get_logits(embeddings), logits[:, classes])
    loss.backward()
    optimizer.step()
    after = by_column(proxies, some, optimizer).view(FEATURES, CLASSES, k)
    assert torch.equal(after[:, [0, 3, 5]], before[:, [0, 3, 5]])
    assert (after[:, classes] != before[:, classes]).all()


def test_a_step_and_a_validation_step_count_targets_along_the_drawn_classes():
    _, some, proxies = losses(1, 4)
    proxies.bring(np.array([1, 2, 4, 6]), torch.optim.SGD([some.W]))
    model = MetricModel(torch.nn.Identity(), some)
    inputs = some.W.detach().T.clone()
    for mode in (True, False):
        _, right = metric_step(model.train(mode), Batch(inputs, torch.tensor([0, 1, 2, 0]), 4))
        assert right == 3


def test_an_averaged_model_gets_the_same_proxies():
    _, some, proxies = losses(1, 4)
    _, average, _ = losses(1, 4)
    proxies.bring(np.array([1, 2, 4, 6]), torch.optim.SGD([some.W]), average)
    assert torch.equal(average.W, some.W)


def test_proxies_that_validation_brought_are_trained_on_afterwards():
    """What is made in inference mode could not be changed outside of it."""
    _, some, proxies = losses(1, 4)
    optimizer = OPTIMIZERS["adamw"](some)
    for drawn in ([1, 2, 4, 6], [0, 1, 2, 3]):
        proxies.bring(np.array(drawn), optimizer)
        some(torch.ones(3, FEATURES), torch.tensor([1, 3, 0])).backward()
        optimizer.step()
        with torch.inference_mode():
            proxies.bring(np.array([0, 1, 5, 6]), optimizer)
    assert (by_column(proxies, some, optimizer, "exp_avg_sq").T[[0, 1, 2, 3, 4, 6]] > 0).any(dim=1).all()
