from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from training_cases import RUNTIME, embedding_job_of, finetune, finetune_params, random_backbone, training_params

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.runtime import open_accelerator
from flukeprint.learning import training
from flukeprint.learning.batches import Batches, PhotoScaler, batch_shape, choose_views, epoch_order
from flukeprint.learning.embedding import embed
from flukeprint.learning.finetuning import Start, finetuning_job
from flukeprint.learning.heads import HeadTraining, train_head, train_heads
from flukeprint.learning.network_files import load_head, save_head
from flukeprint.learning.networks import for_inference, freeze, new_head
from flukeprint.learning.optimization import averaged, build_optimizer, build_schedule
from flukeprint.learning.sampling import TrainingBatches, photo_size
from flukeprint.learning.training import fit
from flukeprint.learning.training_data import Labelled, TrainingData, training_data, validation_pairs

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def accelerator():
    return open_accelerator(RUNTIME)


def loop(**changes):
    return training_params(**{"batch_size": 16, "step_size": 2, "gamma": 0.5} | changes)


def finetuning(**changes):
    return finetune_params(lr=0.001, batch_size=8, step_size=2, gamma=0.5, **changes)


def head_data(n: int = 60, classes: int = 3, features: int = 8) -> TrainingData:
    """Return embeddings in which the class shows, in two views, and a split of 3:1."""
    generator = np.random.default_rng(0)
    targets = np.arange(n) % classes
    embeddings = generator.normal(size=(n, 2, features)).astype(np.float32)
    embeddings[np.arange(n), :, targets] += 2
    rows = np.arange(n)
    train, valid = rows[rows % 4 > 0], rows[rows % 4 == 0]
    return TrainingData(embeddings, Labelled(train, targets[train]), Labelled(valid, targets[valid]), ["a", "b", "c"])


def photos(n: int = 24, classes: int = 2) -> TrainingData:
    generator = np.random.default_rng(0)
    targets = np.arange(n) % classes
    pixels = (
        generator.integers(0, 120, (n, 3, *SIZE), dtype=np.uint8)
        + (targets % 2 * 100).astype(np.uint8)[:, None, None, None]
    )
    rows = np.arange(n)
    return TrainingData(
        pixels, Labelled(rows[6:], targets[6:]), Labelled(rows[:6], targets[:6]), [*"abcdefghijkl"[:classes]]
    )


def start(name: str = "resnet18", *, folded: bool = False) -> Start:
    backbone, record = random_backbone(name, SIZE, folded=folded)
    return Start(backbone, record, new_head(record.features, 2, 0))


class TestEpochOrder:
    def test_every_row_once_and_the_same_for_the_same_epoch(self):
        first, again, other = ([*epoch_order(48, 16, 0.5, 1, epoch)] for epoch in (3, 3, 4))
        assert sorted(np.concatenate([rows for rows, _ in first])) == list(range(48))
        assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(first, again, strict=True))
        assert (np.concatenate([rows for rows, _ in first]) != np.concatenate([rows for rows, _ in other])).any()

    def test_flips_follow_their_probability(self):
        def share(flip):
            return np.concatenate([flipped for _, flipped in epoch_order(4000, 64, flip, 0, 1)]).mean()

        assert share(0.0) == 0
        assert share(1.0) == 1
        assert share(0.5) == pytest.approx(0.5, abs=0.05)

    def test_all_batches_have_one_size_and_none_is_of_a_single_photo(self):
        assert [len(rows) for rows, _ in epoch_order(33, 16, 0, 0, 1)] == [11, 11, 11]
        assert [len(rows) for rows, _ in epoch_order(129, 64, 0, 0, 1)] == [43, 43, 43]
        assert [rows.tolist() for rows, _ in epoch_order(1, 16, 0, 0, 1)] == [[0, 0]]
        counts = Counter(np.concatenate([rows for rows, _ in epoch_order(3878, 64, 0, 0, 1)]).tolist())
        assert Counter(counts.values()) == {1: 3878 - 26, 2: 26}  # 61 batches of 64 have 3,904 photos

    def test_a_photo_that_comes_twice_is_flipped_each_time_for_itself(self):
        seen = {tuple(flipped) for epoch in range(30) for _, flipped in epoch_order(1, 16, 0.5, 0, epoch)}
        assert len(seen) == 4


def test_scaling_and_flip_are_those_of_torchvision():
    from torchvision.transforms import v2

    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 10), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    reference = v2.Normalize(mean, std)(torch.from_numpy(pixels).float() / 255)
    flipped = np.array([True, False, True, False])
    reference[flipped] = reference[flipped].flip(3)
    inputs = PhotoScaler(mean, std, torch.device("cpu"))(torch.from_numpy(pixels), flipped)
    torch.testing.assert_close(inputs, reference, rtol=1e-5, atol=1e-5)


def test_photos_are_made_smaller_as_by_torchvision():
    from torchvision.transforms import v2

    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 24, 40), dtype=np.uint8))
    mean, std, flipped = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), np.array([True, False, True, False])
    seen = torch.where(torch.from_numpy(flipped).view(-1, 1, 1, 1), pixels.flip(3), pixels)
    reference = v2.Normalize(mean, std)(v2.functional.resize(seen.float(), [16, 24], antialias=True) / 255)
    inputs = PhotoScaler(mean, std, torch.device("cpu"))(pixels, flipped, (16, 24))
    # Bytes are rounded: to half of one of 255 steps, in each direction once.
    assert (inputs - reference).abs().max() <= 1 / 255 / 0.224


@pytest.mark.numeric
def test_embedding_views_are_the_photo_and_its_mirror_image(accelerator):
    backbone, _ = random_backbone(size=SIZE)
    job = embedding_job_of(for_inference(freeze(backbone), SIZE), 7)
    pixels = photos().array
    both = embed(job, pixels, 2)
    assert both.shape == (24, 2, 512)
    np.testing.assert_allclose(both[:, 1], embed(job, pixels[..., ::-1], 1)[:, 0], rtol=1e-4, atol=1e-4)
    labelled = Labelled(np.arange(24), np.zeros(24, np.int64))
    batches = Batches(both, labelled, choose_views, accelerator)
    [all_flipped] = batches.shuffled(24, 1.0, 0, 1)
    np.testing.assert_array_equal(sorted(all_flipped.inputs[:, 0].tolist()), sorted(both[:, 1, 0].tolist()))


@pytest.mark.numeric
class TestFit:
    def training(self, accelerator, epochs=6, **changes):
        return HeadTraining("train", loop(**changes), epochs, 0, accelerator)

    def test_best_state_is_the_first_with_the_lowest_validation_loss(self, accelerator):
        result = train_head(head_data(), "m1", self.training(accelerator, lr=0.5, epochs=8))
        losses = [epoch.valid_loss for epoch in result.history]
        assert result.best_epoch == losses.index(min(losses)) + 1
        head, data = new_head(8, 3, 0), head_data()
        head.load_state_dict(result.state)
        logits = head(torch.from_numpy(data.array[data.valid.rows, 0]))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.valid.targets))
        assert loss.item() == pytest.approx(min(losses), rel=1e-5)

    def test_learning_rate_follows_steplr(self, accelerator):
        rates = [epoch.lr for epoch in train_head(head_data(), "m1", self.training(accelerator)).history]
        assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])

    def test_matches_a_plain_torch_loop(self, accelerator):
        """The loop written out as a beginner would: same data order, same optimizer, same scheduler."""
        data, params = head_data(), loop(flip=0.0)
        result = train_head(data, "m1", HeadTraining("train", params, 4, 0, accelerator))
        seed = training.derived_seed(0, "train", "m1")
        head = new_head(8, 3, training.derived_seed(seed, "init"))
        optimizer = torch.optim.Adam(head.parameters(), lr=params.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, params.step_size, params.gamma)
        inputs, targets = data.array[data.train.rows, 0], data.train.targets
        for epoch in range(1, 5):
            total = 0.0
            for rows, _ in epoch_order(len(targets), params.batch_size, 0.0, seed, epoch):
                loss = torch.nn.functional.cross_entropy(head(torch.tensor(inputs[rows])), torch.tensor(targets[rows]))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            scheduler.step()
            assert result.history[epoch - 1].train_loss == pytest.approx(total / len(targets), rel=1e-4)

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
    def test_killed_after_any_epoch_it_ends_the_same(self, accelerator, optimizer, monkeypatch, tmp_path):
        data = head_data()
        whole = train_head(data, "m1", self.training(accelerator, optimizer=optimizer))
        monkeypatch.setattr("flukeprint.learning.checkpoints.WORK", tmp_path / "other")
        trained = []
        epoch_of = training._Run.train_epoch
        for killed_in in (2, 4, 5, None):

            def one_epoch(*arguments, killed_in=killed_in):
                if killed_in and len(trained) + 1 >= killed_in:
                    raise KeyboardInterrupt
                trained.append(1)
                return epoch_of(*arguments)

            monkeypatch.setattr(training._Run, "train_epoch", one_epoch)
            if killed_in:
                with pytest.raises(KeyboardInterrupt):
                    train_head(data, "m1", self.training(accelerator, optimizer=optimizer))
        resumed = train_head(data, "m1", self.training(accelerator, optimizer=optimizer))
        assert len(trained) == 6  # no finished epoch was trained again
        assert resumed.history == whole.history
        assert all(torch.equal(resumed.state[key], whole.state[key]) for key in whole.state)

    def test_other_params_never_go_on_from_a_foreign_checkpoint(self, accelerator):
        train_head(head_data(), "m1", self.training(accelerator, epochs=3))
        changed = train_head(head_data(), "m1", self.training(accelerator, epochs=3, lr=0.02))
        assert changed.history[0].lr == 0.02

    def test_a_member_does_not_depend_on_the_other_members(self, accelerator):
        for members in (["m1", "m2"], ["m3", "m2"]):
            folder = Path("-".join(members))
            train_heads(folder, Path("metrics"), lambda _: head_data(), members, self.training(accelerator))
        assert Path("m1-m2/m2.safetensors").read_bytes() == Path("m3-m2/m2.safetensors").read_bytes()
        assert Path("m1-m2/m1.safetensors").read_bytes() != Path("m1-m2/m2.safetensors").read_bytes()
        assert not list(Path(".work/train").glob("*"))

    def test_head_file_keeps_its_labels(self, accelerator):
        result = train_head(head_data(), "m1", self.training(accelerator, epochs=1))
        save_head(Path("head.safetensors"), result, ["a", "b", "c"])
        head, labels = load_head(Path("head.safetensors"))
        assert labels == ["a", "b", "c"]
        assert torch.equal(head.weight, result.state["weight"])


class TestFinetune:
    def test_all_layers_and_batchnorm_move(self, accelerator):
        begin = start()
        before = {key: value.clone() for key, value in begin.backbone.state_dict().items()}
        result = finetune(photos(), begin, "m1", 1, 0, finetuning(), accelerator)
        moved = [key for key, value in before.items() if not torch.equal(result.state[f"backbone.{key}"], value)]
        assert set(before) == set(moved)

    def test_folded_batchnorm_has_no_statistics_to_change(self, accelerator):
        result = finetune(photos(), start(folded=True), "m1", 1, 0, finetuning(), accelerator)
        assert not any("running" in key for key in result.state)
        assert "backbone.conv1.bias" in result.state

    @pytest.mark.numeric
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"objective": "arcface", "mirrored_ids": True, "schedule": {"shape": "cosine", "ema": 0.5, "keep": "last"}},
            {"objective": "subcenter_arcface", "embedding": {"pooling": "gem", "dimension": 4, "batchnorm_neck": True}},
            {"objective": "triplet", "pairs": {"sampler": "per_class", "miner": "semihard"}, "mirrored_ids": True},
            {"objective": "arcface", "arcface": {"most_classes": 1}, "mirrored_ids": True, "schedule": {"ema": 0.5}},
            {
                "objective": "contrastive",
                "augmentation": {"rotate": 10.0, "erase": 0.5},
                "schedule": {"first_size": 0.5},
            },
        ],
        ids=lambda changes: changes.get("objective", "cross_entropy"),
    )
    def test_killed_and_resumed_ends_with_the_same_bytes(self, accelerator, monkeypatch, tmp_path, changes):
        params = finetuning(**changes)
        # A small network, whose checkpoints are small; BatchNorm is folded in one of the cases.
        begin = partial(start, "timm/test_efficientnet", folded=params.embedding.pooling == "gem")
        data = photos(classes=12 if "arcface" in changes else 2)
        whole = finetune(data, begin(), "m1", 3, 0, params, accelerator)
        monkeypatch.setattr("flukeprint.learning.checkpoints.WORK", tmp_path / "other")
        epoch_of, trained = training._Run.train_epoch, []

        def one_epoch(*arguments):
            if len(trained) == 2:
                trained.append("killed")
                raise KeyboardInterrupt
            trained.append("epoch")
            return epoch_of(*arguments)

        monkeypatch.setattr(training._Run, "train_epoch", one_epoch)
        with pytest.raises(KeyboardInterrupt):
            finetune(data, begin(), "m1", 3, 0, params, accelerator)
        resumed = finetune(data, begin(), "m1", 3, 0, params, accelerator)
        assert trained == ["epoch", "epoch", "killed", "epoch"]
        assert resumed.history == whole.history
        assert all(torch.equal(resumed.state[key], whole.state[key]) for key in whole.state)

    @pytest.mark.numeric
    def test_where_all_classes_are_compared_their_bound_changes_nothing(self, accelerator, monkeypatch, tmp_path):
        kept = []
        for most in (20_000, 24, 1):
            monkeypatch.setattr("flukeprint.learning.checkpoints.WORK", tmp_path / str(most))
            params = finetuning(objective="arcface", arcface={"most_classes": most}, mirrored_ids=True)
            job = finetuning_job(photos(classes=12), start(), "m1", 1, 0, params, accelerator)
            classes = [batch.classes for batch in [*job.train_batches(1), *job.valid_batches()]]
            assert [each is None or len(each) for each in classes] == [True if most > 1 else 16] * len(classes)
            kept.append(fit(job, accelerator).state)
        assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])
        assert [state["loss.W"].shape[1] for state in kept] == [24, 24, 16]

    def test_the_last_epoch_is_kept_and_validation_photos_are_trained_on(self, accelerator):
        params = finetuning(objective="arcface", schedule={"keep": "last"})
        data = photos()
        result = finetune(data, start(), "m1", 2, 0, params, accelerator)
        assert result.best_epoch == 2
        assert [epoch.valid_loss for epoch in result.history] == [None, None]
        assert sorted(data.without_validation().train.rows) == list(range(24))

    def test_averaged_weights_agree_with_a_plain_recomputation(self):
        """The first step's state is copied; every later one counts a quarter, what was before three quarters."""
        model = torch.nn.BatchNorm1d(3)
        average, expected = averaged(model, 0.75), {}
        generator = np.random.default_rng(0)
        for step in range(5):
            for key in ("weight", "running_mean"):
                value = generator.normal(size=3)
                model.state_dict()[key].copy_(torch.from_numpy(value))
                expected[key] = value if step == 0 else 0.75 * expected[key] + 0.25 * value
            average.update_parameters(model)
        for key, value in expected.items():
            np.testing.assert_allclose(average.module.state_dict()[key], value, rtol=1e-5)

    def test_the_average_is_what_is_kept(self, accelerator):
        kept = {}
        for ema in (0.0, 0.75):
            params = finetuning(objective="arcface", schedule={"keep": "last", "ema": ema})
            kept[ema] = finetune(photos(), start(), "m1", 1, 0, params, accelerator).state
        assert set(kept[0.0]) == set(kept[0.75])
        key = "embedder.backbone.conv1.weight"
        assert not torch.equal(kept[0.0][key], kept[0.75][key])

    def test_separate_learning_rates_and_cosine_with_warm_up(self):
        params = finetuning(schedule={"shape": "cosine", "warm_up": 0.2, "head_lr": 0.01})
        model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
        optimizer = build_optimizer(model, params, params.schedule, torch.device("cpu"))
        schedule = build_schedule(optimizer, params, params.schedule, steps=5, epochs=4)
        rates = []
        for _ in range(20):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
        factors = np.array(rates) / [0.001, 0.01]
        np.testing.assert_allclose(factors[:, 0], factors[:, 1])
        done = np.arange(1, 21) / 20
        expected = np.where(done < 0.2, done / 0.2, 0.5 * (1 + np.cos(np.pi * (done - 0.2) / 0.8)))
        np.testing.assert_allclose(factors[:, 0], expected, atol=1e-12)

    def test_too_few_individuals_for_a_batch_are_named(self, accelerator):
        params = finetuning(objective="triplet", pairs={"sampler": "per_class", "per_class": 2})
        with pytest.raises(FlukeprintError, match=r"a batch of 8 holds 2 photos of each of 4 individuals.*only 2"):
            finetune(photos(), start(), "m1", 1, 0, params, accelerator)


class TestTrainingBatches:
    def batches(self, accelerator, **changes):
        data, scaler = photos(), PhotoScaler((0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
        params = finetuning(**changes)
        return TrainingBatches(Batches(data.array, data.train, scaler, accelerator), SIZE, 2, 4, params, 0), data

    def test_a_mirror_image_is_of_the_mirror_class(self, accelerator):
        made, data = self.batches(accelerator, objective="arcface", mirrored_ids=True)
        scaler = PhotoScaler((0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
        inputs = scaler(torch.from_numpy(data.array))
        seen = set()
        for batch in made.epoch(1):
            for photo, target in zip(batch.inputs, batch.targets.tolist(), strict=True):
                plain = (inputs.flip(3) if target >= 2 else inputs) == photo
                [row] = plain.flatten(1).all(1).nonzero().flatten().tolist()
                assert row % 2 == target % 2
                seen.add(target)
        assert seen == {0, 1, 2, 3}

    @pytest.mark.parametrize("mirrored", [True, False])
    def test_per_class_sampling_fills_batches_with_whole_classes(self, accelerator, mirrored):
        changes = {"objective": "triplet", "mirrored_ids": mirrored, "pairs": {"sampler": "per_class"}}
        made, _ = self.batches(accelerator, **changes)
        epochs = [[batch.targets.tolist() for batch in made.epoch(number)] for number in (1, 1, 2)]
        assert epochs[0] == epochs[1] != epochs[2]
        assert len(epochs[0]) == len(made) == 2
        for targets in epochs[0]:
            assert sorted(Counter(targets).values()) == [4, 4]

    def test_photos_grow_to_their_full_size(self, accelerator):
        schedule = {"first_size": 0.5, "full_size_at": 0.5}
        made, data = self.batches(accelerator, objective="arcface", schedule=schedule)
        sizes = [next(made.epoch(number)).inputs.shape[2:] for number in (1, 2, 3, 4)]
        full = tuple(data.array.shape[2:])
        assert sizes[2] == sizes[3] == full
        assert sizes[0] == photo_size(full, made.params.schedule, 1, 4) < sizes[1] <= full


def test_a_member_with_a_size_of_its_own_is_trained_and_validated_in_that_size(accelerator):
    begin = start()
    begin = replace(begin, record=replace(begin.record, own_size=(48, 64)))
    params = finetuning(objective="arcface", schedule={"first_size": 0.5, "full_size_at": 0.5})
    job = finetuning_job(photos(), begin, "m1", 4, 0, params, accelerator)
    sizes = [tuple(next(iter(job.train_batches(epoch))).inputs.shape[2:]) for epoch in (1, 2, 3, 4)]
    assert sizes == [(24, 32), (32, 48), (48, 64), (48, 64)]
    assert job.valid_batches is not None
    assert {tuple(batch.inputs.shape[2:]) for batch in job.valid_batches()} == {(48, 64)}


def test_sizes_grow_evenly_in_steps():
    schedule = finetuning(schedule={"first_size": 0.5, "full_size_at": 0.75}).schedule
    sizes = [photo_size((128, 100), schedule, epoch, 8) for epoch in range(1, 9)]
    assert sizes == [(64, 48), (80, 64), (80, 64), (96, 72), (112, 88), (112, 88), (128, 100), (128, 100)]
    unchanged = finetuning().schedule
    assert photo_size((33, 50), unchanged, 1, 8) == (33, 50)


def test_a_first_size_that_the_network_cannot_take_is_refused(accelerator):
    params = finetuning(objective="arcface", schedule={"first_size": 0.1})
    begin = start()
    begin.backbone.register_forward_pre_hook(lambda _, inputs: _refuse_narrow(inputs[0]))
    with pytest.raises(FlukeprintError, match=r"first_size is 0.1, but backbone .* cannot take photos of 8x8 px"):
        finetune(photos(), begin, "m1", 1, 0, params, accelerator)


def _refuse_narrow(inputs):
    assert min(inputs.shape[2:]) > 8, "too small"


def test_validation_pairs_hold_each_photo_and_a_training_photo_of_its_class():
    train = Labelled(np.array([3, 4, 5, 6]), np.array([1, 0, 1, 2]))
    pairs = validation_pairs(train, Labelled(np.array([7, 8, 9, 10]), np.array([1, 0, 5, 1])))
    assert pairs.rows.tolist() == [7, 10, 3, 8, 4]
    assert pairs.targets.tolist() == [1, 1, 1, 0, 0]


def test_batches_have_photos_for_every_process():
    for n in (64, 65, 66, 67, 68, 3):
        sizes = [len(positions) for positions, _ in epoch_order(n, 64, 0.0, 0, 1, least=4)]
        assert n <= sum(sizes) < n + 4
        assert [(len(sizes), sizes[0])] == [batch_shape(n, 64, 4)] == [(len(sizes), sizes[-1])]
        assert sizes[0] >= 4


def test_where_no_epoch_is_chosen_no_photo_is_trained_on_twice():
    table = pd.DataFrame({"Id": ["a", "b"], "split": ["train", "train"], "pixel": [3, 4]})
    array = np.zeros((5, 1, 2), np.float32)
    assert training_data(array, table, ["a", "b"]).valid.rows.tolist() == [3, 4]
    assert training_data(array, table, ["a", "b"], chooses=False).valid.rows.tolist() == []


@pytest.mark.numeric
def test_head_training_leaves_the_backbone_bit_identical(accelerator):
    """Parameters and BatchNorm buffers, over embedding the photos and training a head on them."""
    backbone = freeze(random_backbone(size=SIZE)[0])
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    data = photos()
    embeddings = embed(embedding_job_of(for_inference(backbone, SIZE)), data.array, 2)
    train_head(replace(data, array=embeddings), "m1", HeadTraining("train", loop(), 3, 0, accelerator))
    after = backbone.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert any(key.endswith("running_var") for key in before)


@pytest.mark.parametrize("resident", [True, False])
def test_rows_come_as_they_are_wherever_they_lie(resident, monkeypatch, tmp_path):
    monkeypatch.setattr("flukeprint.learning.batches._Rows._fits", lambda _: resident)
    array = np.random.default_rng(0).integers(0, 256, (3000, 1, 2, 3), dtype=np.uint8)
    np.save(tmp_path / "array.npy", array)
    mapped = np.load(tmp_path / "array.npy", mmap_mode="r")
    labelled = Labelled(np.arange(2999, 0, -2), np.arange(1500))
    accelerator = open_accelerator(RUNTIME)
    batches = Batches(mapped, labelled, lambda rows, *_: rows, accelerator)
    found = list(batches.in_order(1000))
    assert [batch.inputs.dtype for batch in found] == [torch.uint8] * 2
    np.testing.assert_array_equal(torch.cat([batch.inputs for batch in found]), array[labelled.rows])
    assert torch.cat([batch.targets for batch in found]).tolist() == list(range(1500))
