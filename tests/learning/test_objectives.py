"""Losses, distances and miners against plain recomputations in float64, photo by photo."""

import math

import numpy as np
import pytest
import torch
from training_cases import finetune_params

from flukeprint.learning.batches import Batch
from flukeprint.learning.objectives import (
    MetricModel,
    build_loss,
    build_miner,
    build_validation_loss,
    class_margins,
    metric_step,
    pair_distance,
)

CLASSES, FEATURES = 5, 6
PAIRS = {"distance": "cosine", "miner": "none", "triplet_margin": 0.3, "positive_margin": 0.9, "negative_margin": 0.1}


def batch(n=12, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, CLASSES, n)
    return torch.from_numpy(generator.normal(size=(n, FEATURES))).float(), torch.from_numpy(targets)


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def cross_entropy(logits, target):
    highest = max(logits)
    return highest + math.log(sum(math.exp(value - highest) for value in logits)) - logits[target]


@pytest.mark.parametrize(("objective", "k"), [("arcface", 1), ("subcenter_arcface", 3)])
def test_arcface_is_the_papers_formula_with_margins_by_class_size(objective, k):
    params = finetune_params(
        objective=objective, arcface={"subcenters": k, "margin_factor": 2.5, "margin_base": 0.1, "margin_power": -0.5}
    )
    counted = np.array([0] * 9 + [1] * 4 + [2, 3, 4])
    loss = build_loss(params, counted, CLASSES, FEATURES).train()
    embeddings, targets = batch()
    # One photo right on its proxy's far side: there the continued branch counts.
    embeddings[0] = -loss.W.detach()[:, int(targets[0]) * k]
    proxies, directions = unit(loss.W.detach().T), unit(embeddings)
    sizes, expected, continued = {0: 9, 1: 4, 2: 1, 3: 1, 4: 1}, [], 0
    for direction, target in zip(directions, targets.tolist(), strict=True):
        cosines = [max(float(direction @ proxies[c * k + i]) for i in range(k)) for c in range(CLASSES)]
        margin = 0.1 + 2.5 * sizes[target] ** -0.5
        angle = math.acos(np.clip(cosines[target], -1 + 1e-6, 1 - 1e-6))
        beyond = angle > math.pi - margin
        continued += beyond
        cosines[target] = math.cos(angle) - margin * math.sin(margin) if beyond else math.cos(angle + margin)
        expected.append(cross_entropy([20.96 * value for value in cosines], target))
    assert 0 < continued < len(expected)
    assert loss(embeddings, targets).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_class_margins_are_those_of_the_published_formula():
    params = finetune_params().arcface
    np.testing.assert_allclose(
        class_margins(np.array([0] * 16 + [1]), 3, params),
        [0.271 * 16**-0.364 + 0.05, 0.321, 0.321],
        rtol=1e-6,
    )


def test_a_photo_exactly_on_its_proxy_has_a_finite_gradient():
    loss = build_loss(finetune_params(objective="arcface"), np.arange(CLASSES), CLASSES, FEATURES)
    embeddings = loss.W.detach().T.clone().requires_grad_(True)
    loss(embeddings, torch.arange(CLASSES)).backward()
    assert torch.isfinite(embeddings.grad).all()


def distance_of(name, a, b):
    a, b = unit(a), unit(b)
    return float(a @ b) if name == "cosine" else float(np.linalg.norm(a - b))


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_distances_are_of_unit_vectors(name):
    embeddings, _ = batch()
    matrix = pair_distance(name)(embeddings)
    for i in range(12):
        for j in range(12):
            assert matrix[i, j].item() == pytest.approx(
                distance_of(name, embeddings[i].numpy(), embeddings[j].numpy()), abs=2e-3 if i == j else 1e-5
            )


def gap(name, ap, an):
    """How much further the negative is than the positive should be; similarities are the other way round."""
    return an - ap if name == "cosine" else ap - an


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_triplet_is_the_mean_over_violating_triplets(name):
    params = finetune_params(objective="triplet", pairs=PAIRS | {"distance": name})
    embeddings, targets = batch()
    rows, labels = embeddings.numpy(), targets.tolist()
    values = []
    for a in range(12):
        for p in range(12):
            for n in range(12):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    ap, an = (distance_of(name, rows[a], rows[other]) for other in (p, n))
                    values.append(max(0.0, gap(name, ap, an) + 0.3))
    positive = [value for value in values if value > 0]
    loss = build_loss(params, np.array(labels), CLASSES, FEATURES)(embeddings, targets)
    assert loss.item() == pytest.approx(np.mean(positive), rel=1e-4)


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_contrastive_sums_the_means_over_violating_pairs_of_either_kind(name):
    margins = {"positive_margin": 0.9, "negative_margin": 0.1}
    if name == "euclidean":
        margins = {"positive_margin": 0.2, "negative_margin": 1.2}
    params = finetune_params(objective="contrastive", pairs=PAIRS | margins | {"distance": name})
    embeddings, targets = batch()
    rows, labels = embeddings.numpy(), targets.tolist()
    kinds = {True: [], False: []}
    for i in range(12):
        for j in range(12):
            if i != j:
                same, value = labels[i] == labels[j], distance_of(name, rows[i], rows[j])
                margin = margins["positive_margin" if same else "negative_margin"]
                excess = (margin - value) if same == (name == "cosine") else (value - margin)
                kinds[same].append(max(0.0, excess))
    expected = sum(np.mean([value for value in values if value > 0]) for values in kinds.values())
    loss = build_loss(params, np.array(labels), CLASSES, FEATURES)(embeddings, targets)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_batch_hard_takes_the_furthest_positive_and_the_nearest_negative(name):
    miner = build_miner(finetune_params(pairs=PAIRS | {"miner": "batch_hard", "distance": name}).pairs)
    embeddings, targets = batch()
    rows, labels = embeddings.numpy(), targets.tolist()
    sign = -1 if name == "cosine" else 1  # larger is further
    found = {int(a): (int(p), int(n)) for a, p, n in zip(*miner(embeddings, targets), strict=True)}
    for a in range(12):
        others = {j: sign * distance_of(name, rows[a], rows[j]) for j in range(12) if j != a}
        positives = {j: value for j, value in others.items() if labels[j] == labels[a]}
        negatives = {j: value for j, value in others.items() if labels[j] != labels[a]}
        if positives:
            assert found[a] == (max(positives, key=positives.get), min(negatives, key=negatives.get))
        else:
            assert a not in found


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_semihard_takes_negatives_that_are_further_but_within_the_margin(name):
    miner = build_miner(finetune_params(pairs=PAIRS | {"miner": "semihard", "distance": name}).pairs)
    embeddings, targets = batch(30)
    rows, labels = embeddings.numpy(), targets.tolist()
    found = {tuple(int(x) for x in triple) for triple in zip(*miner(embeddings, targets), strict=True)}
    expected = set()
    for a in range(30):
        for p in range(30):
            for n in range(30):
                if a != p and labels[a] == labels[p] and labels[a] != labels[n]:
                    ap, an = (distance_of(name, rows[a], rows[other]) for other in (p, n))
                    if -0.3 < gap(name, ap, an) <= 0:
                        expected.add((a, p, n))
    assert found
    assert found == expected


@pytest.mark.parametrize("name", ["cosine", "euclidean"])
def test_multi_similarity_takes_pairs_harder_than_the_hardest_of_the_other_kind(name):
    miner = build_miner(finetune_params(pairs=PAIRS | {"miner": "multi_similarity", "distance": name}).pairs)
    sign = 1 if name == "cosine" else -1  # larger is more similar
    embeddings, targets = batch()
    rows, labels = embeddings.numpy(), targets.tolist()
    a1, p, a2, n = miner(embeddings, targets)
    positives, negatives = (
        set(zip(a1.tolist(), p.tolist(), strict=True)),
        set(zip(a2.tolist(), n.tolist(), strict=True)),
    )
    for a in range(12):
        similarity = {j: sign * distance_of(name, rows[a], rows[j]) for j in range(12) if j != a}
        same = {j: value for j, value in similarity.items() if labels[j] == labels[a]}
        other = {j: value for j, value in similarity.items() if labels[j] != labels[a]}
        hard_positives = {j for j, value in same.items() if value - 0.1 < max(other.values())}
        hard_negatives = {j for j, value in other.items() if same and value + 0.1 > min(same.values())}
        assert {j for i, j in positives if i == a} == hard_positives
        assert {j for i, j in negatives if i == a} == hard_negatives


class Rows(torch.nn.Module):
    """Stands in for a network: the embedding is a linear map of the input."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(FEATURES, FEATURES)

    def forward(self, inputs):
        return self.linear(inputs)


@pytest.mark.parametrize("objective", ["triplet", "contrastive"])
@pytest.mark.parametrize("miner", ["none", "batch_hard", "semihard", "multi_similarity"])
def test_a_batch_without_any_pair_of_one_class_trains_on(objective, miner):
    params = finetune_params(objective=objective, pairs=PAIRS | {"miner": miner, "negative_margin": 1.0})
    loss = build_loss(params, np.arange(CLASSES), CLASSES, FEATURES)
    model = MetricModel(Rows(), loss, build_miner(params.pairs)).train()
    total, _ = metric_step(model, Batch(batch(5)[0], torch.arange(5), 5))
    total.backward()
    gradient = model.embedder.linear.weight.grad
    assert torch.isfinite(total)
    assert torch.isfinite(gradient).all()
    if objective == "triplet":
        assert total.item() == 0


def test_a_step_gives_sums_and_leaves_out_photos_that_do_not_count():
    params = finetune_params(objective="arcface")
    model = MetricModel(Rows(), build_loss(params, np.arange(CLASSES), CLASSES, FEATURES), None)
    inputs, targets = batch(8)
    more = Batch(torch.cat([inputs, inputs[:2]]), torch.cat([targets, torch.tensor([-100, -100])]), 10)
    for mode in (True, False):
        model.train(mode)
        loss, right = metric_step(model, Batch(inputs, targets, 8))
        same, also = metric_step(model, more)
        mean = model(inputs, targets)[0]
        assert loss.item() == pytest.approx(same.item(), rel=1e-6) == pytest.approx(8 * mean.item(), rel=1e-6)
        assert right == also


@pytest.mark.parametrize("objective", ["triplet", "contrastive"])
def test_the_validation_loss_is_over_all_pairs(objective):
    """So that a network that violates fewer of them is the better one."""
    params = finetune_params(objective=objective, pairs=PAIRS)
    loss = build_loss(params, np.arange(CLASSES), CLASSES, FEATURES)
    model = MetricModel(torch.nn.Identity(), loss, None, build_validation_loss(params))
    inputs, targets = batch()
    rows, labels = inputs.numpy(), targets.tolist()
    everyone = range(12)
    similarity = [[distance_of("cosine", rows[i], rows[j]) for j in everyone] for i in everyone]
    if objective == "triplet":
        values = [
            max(0.0, similarity[a][n] - similarity[a][p] + 0.3)
            for a in everyone for p in everyone for n in everyone
            if a != p and labels[a] == labels[p] and labels[a] != labels[n]
        ]  # fmt: skip
        expected = np.mean(values)
    else:
        pairs = [(i, j) for i in everyone for j in everyone if i != j]
        same = [max(0.0, 0.9 - similarity[i][j]) for i, j in pairs if labels[i] == labels[j]]
        other = [max(0.0, similarity[i][j] - 0.1) for i, j in pairs if labels[i] != labels[j]]
        expected = np.mean(same) + np.mean(other)
    assert model.eval()(inputs, targets)[0].item() == pytest.approx(expected, rel=1e-4)
    assert model.train()(inputs, targets)[0].item() > 1.05 * expected


def test_a_process_without_a_photo_adds_nothing():
    params = finetune_params(objective="arcface")
    model = MetricModel(Rows(), build_loss(params, np.arange(CLASSES), CLASSES, FEATURES), None).train()
    loss, right = metric_step(model, Batch(batch(1)[0], torch.tensor([-100]), 8))
    loss.backward()
    assert loss.item() == 0 == right
    assert not model.embedder.linear.weight.grad.any()


def test_recognised_photos_without_proxies_are_those_whose_nearest_photo_agrees():
    params = finetune_params(objective="triplet", pairs=PAIRS)
    model = MetricModel(torch.nn.Identity(), build_loss(params, np.arange(2), 2, 2), None).eval()
    inputs = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.3]])
    assert model(inputs, torch.tensor([0, 0, 1, 1]))[1] == 3
