import os
import re
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from flukeprint.core.effective_keys import hidden_changes, with_effective_keys
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import check_params, load_params
from flukeprint.core.ray_cluster import IN_TASK, Cluster
from flukeprint.core.recipes import with_recipe

PARAMS = YAML(typ="safe").load(Path("params.yaml"))  # as DVC reads it


def changed(key: str, value: object) -> dict:
    """Return a copy of params.yaml's content with one dotted key changed (or added)."""
    content = deepcopy(PARAMS)
    *path, last = key.split(".")
    section = content
    for part in path:
        section = section[part]
    section[last] = value
    return content


def test_committed_params_are_valid():
    assert check_params(PARAMS).active.source == "sample"


def test_reference_values_of_the_report():
    params = check_params(PARAMS)
    for name in ("kaggle", "folder"):
        profile = params.profiles[name]
        assert (profile.backbone.name, profile.backbone.weights, profile.size) == ("resnet18", "imagenet", (224, 224))
        assert set(profile.epochs.model_dump().values()) == {20}
    for loop in (params.train, params.full_head):
        assert (loop.optimizer, loop.lr, loop.batch_size, loop.step_size, loop.gamma) == ("adam", 0.01, 64, 3, 0.1)
    select = params.select
    assert (select.threshold, select.new_whale, select.drop) == (15, 18, ["496b52ff.jpg"])
    assert (select.valid_share.small, select.valid_share.full) == (0.25, 0.2)
    assert len(params.ensemble.members) == 9


def test_members_may_have_sizes_of_their_own():
    content = changed("profiles.sample.members", {"m2": {"image_size": 96}, "m3": {"image_size": "auto"}})
    with pytest.raises(FlukeprintError, match=r"members\.m2\.image_size: is given, but finetune\.objective"):
        check_params(content)
    members = check_params(content | {"recipe": "metric"}).active.members
    assert [(members[name].size, members[name].backbone) for name in ("m2", "m3")] == [((96, 96), None), (None, None)]


OWN_BACKBONE = {"backbone": PARAMS["profiles"]["sample"]["backbone"]}


def test_members_may_have_backbones_of_their_own_where_they_start_from_no_head():
    content = changed("profiles.sample.members", {"m2": OWN_BACKBONE})
    with pytest.raises(FlukeprintError, match=r"members\.m2\.backbone: is given, but finetune\.objective"):
        check_params(content)
    params = check_params(content | {"recipe": "metric"})
    assert params.active.members["m2"].backbone == params.active.backbone
    other = changed("profiles.sample.members", {"m10": OWN_BACKBONE}) | {"recipe": "metric"}
    with pytest.raises(FlukeprintError, match=r"sample\.members: names 'm10', expected one of ensemble"):
        check_params(other)
    # Of a profile that is not chosen nothing depends on the ensemble.
    assert check_params(changed("profiles.folder.members", {"m10": OWN_BACKBONE})).profiles["folder"].members


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.lr", "abc", "train.lr: is 'abc', expected a number"),
        ("train.lr", -0.1, "train.lr: is -0.1, expected greater than 0"),
        ("train.lr", float("nan"), "train.lr: is nan"),
        ("train.lr", True, "train.lr: is True, expected a number"),
        ("train.lrr", 1, "train.lrr: there is no such key"),
        ("train.batch_size", 1.5, "train.batch_size: is 1.5"),
        ("profiles.sample.epochs.train", -1, "profiles.sample.epochs.train: is -1"),
        ("profiles.sample.image_size", [32], "profiles.sample.image_size"),
        ("profiles.sample.image_size", "own", "profiles.sample.image_size"),
        ("profiles.sample.backbone.mean", "own", "profiles.sample.backbone.mean"),
        (
            "profiles.sample.backbone.batchnorm",
            "eval",
            "batchnorm: is 'eval', expected 'train'",
        ),
        ("profiles.sample.members", {"m 2": OWN_BACKBONE}, "profiles.sample.members.m 2"),
        ("profiles.sample.members", {"m2": {}}, "profiles.sample.members.m2: nothing is given, expected a backbone"),
        ("profiles.sample.members", {"m2": {"size": 96}}, "profiles.sample.members.m2.size: there is no such key"),
        ("profiles.sample.members", {"m2": {"image_size": [64, 4096]}}, "profiles.sample.members.m2.image_size"),
        ("profiles.sample.members", {"m2": {"image_size": [64, 4096]}}, ": is 4096, expected less than or equal"),
        ("profiles.sample.members", {"m2": {"image_size": 8}}, ": is 8, expected greater than or equal to 16"),
        ("recipe", "mine", "recipe is 'mine', expected one of ['metric', 'reference']"),
        ("recipes.metric.finetune.lr", "abc", "recipes.metric.finetune.lr: is 'abc', expected a number"),
        ("recipes.metric.finetune.lrr", 1, "recipes.metric.finetune.lrr: there is no such key"),
        ("recipes.metric.train", {}, "recipes.metric.train: there is no such key"),
        ("finetune.mirrored_ids", True, "objective is cross_entropy, which has no embedding head and no mirrored_ids"),
        (
            "finetune.pairs",
            {**PARAMS["finetune"]["pairs"], "sampler": "per_class", "per_class": 5},
            "no multiple of finetune.pairs.per_class",
        ),
        ("profile", "mine", "profile is 'mine', expected one of ['catalogue', 'folder', 'kaggle', 'sample']"),
        ("ensemble.members", [], "ensemble.members"),
        ("ensemble.members", ["a", "a"], "a name twice"),
        ("ensemble.members", ["m1", "ensemble"], "['ensemble']: a name without a digit is a scorer's"),
        ("ensemble.members", ["m1", "pretrained"], "['pretrained']: a name without a digit is a scorer's"),
        ("ensemble.members", ["../a"], "ensemble.members.0: is '../a'"),
        ("select.holdout", 1.0, "select.holdout: is 1.0"),
        ("select.protocol", "kaggle", "select.protocol: is 'kaggle', expected 'grouped', 'time' or 'mlebench'"),
        ("submit.decision", "first", "submit.decision: is 'first', expected 'class', 'calibrated' or 'best'"),
        ("runtime.precision", "fp8", "runtime.precision: is 'fp8', expected 'auto', 'fp32' or 'bf16'"),
        ("runtime.engine", "spark", "runtime.engine: is 'spark', expected 'local' or 'ray'"),
        ("runtime.address", "ray://head:10001", "runtime.address: is 'ray://head:10001', "),
        ("runtime.address", "head", "runtime.address: is 'head', "),
        (
            "runtime",
            {**PARAMS["runtime"], "engine": "ray", "device": "cuda:1"},
            "runtime: device is 'cuda:1', but engine",
        ),
    ],
)
def test_bad_values_are_refused_with_key_value_and_expectation(key, value, expected):
    with pytest.raises(FlukeprintError) as error:
        check_params(changed(key, value))
    assert expected in str(error.value)


def test_the_engine_decides_what_does_the_work(monkeypatch):
    def runtime(**values):
        return check_params(changed("runtime", {**PARAMS["runtime"], **values})).runtime

    here = runtime()
    assert (here.photo_workers, here.network_workers, here.member_workers) == (here.workers, None, None)
    # A Ray of its own on this machine decodes photos no faster than processes do.
    alone = runtime(engine="ray", processes=3)
    assert (alone.photo_workers, alone.network_workers) == (alone.workers, Cluster(None, 2, 1, "auto"))
    assert alone.member_workers == Cluster(None, 2, 3, "auto")
    joined = runtime(engine="ray", address="10.0.0.1:6379")
    assert joined.photo_workers == Cluster("10.0.0.1:6379")
    monkeypatch.setenv(IN_TASK, "1")
    assert (joined.photo_workers, joined.network_workers, joined.member_workers) == (joined.workers, None, None)


def numbers(content: object, path: tuple[str, ...] = ()):
    """Yield (path, value) of every number of params.yaml."""
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in parts:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key), value
        yield from numbers(value, (*path, key))


@pytest.mark.parametrize("path", [path for path, _ in numbers(PARAMS)], ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("huge", [10**30, 1e30, 1e308])
def test_every_number_has_an_upper_bound(path, huge):
    content = deepcopy(PARAMS)
    section = content
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = type(section[path[-1]])(huge)
    with pytest.raises(FlukeprintError, match=re.escape(".".join(key for key in path if isinstance(key, str)))):
        check_params(content)


def test_a_million_photos_on_a_large_machine_are_within_bounds():
    content = deepcopy(PARAMS)
    content["validate"] |= {"rows": [2, 5_000_000], "labels": [2, 1_000_000], "max_pixels": 150_000_000}
    content["runtime"] |= {"processes": 64, "threads": 256, "workers": 256, "batch_size": 8192}
    content["gallery"]["exact_up_to"] = 5_000_000
    content["profiles"]["sample"]["backbone"] |= {"mean": [0.0] * 3, "std": [1 / 255] * 3}
    assert check_params(content).gallery.exact_up_to == 5_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1]\nb: *a\n", "line 2 has the alias \\*a"),
        ("a: &a {b: *a}\n", "line 1 has the alias \\*a"),
        ("seed: 2001-99-99\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("a: " + "[" * 70 + "]" * 70, "more than 64 levels"),
        ("# " + "x" * (1 << 17), "more than 131072 bytes"),
        ("recipe: []\nprofile: {}\n", "values that cannot be used"),
        ("recipes: [[]]\nrecipe: {}\n", "values that cannot be used"),
        ("- 1\n", "values that cannot be used"),
    ],
)
def test_yaml_of_any_kind_ends_with_a_message(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(FlukeprintError, match=message):
        load_params(["seed"], tmp_path / "params.yaml")


def test_params_in_another_encoding_or_in_a_pipe_are_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("seed: 1".encode("utf-16"))
    with pytest.raises(FlukeprintError, match="not valid YAML"):
        load_params(["seed"], path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FlukeprintError, match="no regular file"):
        load_params(["seed"], path)


def test_a_faulty_file_of_the_last_commit_is_in_nobodys_way(tmp_path):
    path = tmp_path / "params.yaml"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for faulty in (b"a: [", "seed: 1".encode("utf-16"), b"recipe: []"):
        path.write_bytes(faulty)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", "x"], check=True)
        path.write_text(Path("params.yaml").read_text())
        assert load_params(["seed"], path).seed == PARAMS["seed"]


def test_every_fault_is_named_at_once():
    content = changed("train.lr", "abc") | {"seed": -1}
    with pytest.raises(FlukeprintError, match=r"(?s)seed: is -1.*train\.lr: is 'abc'"):
        check_params(content)


def test_scientific_notation_is_a_number_as_for_dvc():
    assert check_params(changed("train.lr", "1e-3")).train.lr == 0.001


def test_a_stage_sees_only_the_keys_that_it_declares():
    params = load_params(["train.lr", "profiles.*.epochs.train"])
    assert params.train.lr == 0.01
    assert params.active.epochs.train == PARAMS["profiles"]["sample"]["epochs"]["train"]
    assert params.runtime.threads >= 1
    for read in (lambda: params.train.gamma, lambda: params.active.epochs.finetune, lambda: params.seed):
        with pytest.raises(AttributeError, match="not among the KEYS of this stage"):
            read()


def test_missing_file_and_bad_yaml_are_clear(tmp_path):
    with pytest.raises(FlukeprintError, match="Run from the project's root"):
        load_params(["seed"], tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1")
    with pytest.raises(FlukeprintError, match="not valid YAML"):
        load_params(["seed"], tmp_path / "params.yaml")


def test_a_recipe_replaces_single_values_also_in_nested_sections():
    content = changed("recipe", "metric")
    content["recipes"]["metric"]["finetune"] = {"objective": "arcface", "schedule": {"warm_up": 0.25}}
    reference, metric = check_params(PARAMS).finetune, check_params(content).finetune
    assert (metric.objective, metric.schedule.warm_up) == ("arcface", 0.25)
    expected = reference.model_dump() | {"objective": "arcface"}
    expected["schedule"] |= {"warm_up": 0.25}
    assert metric.model_dump() == expected


def test_a_recipe_can_also_take_a_value_away():
    content = changed("recipe", "metric")
    content["finetune"]["epochs"] = 5
    content["recipes"]["metric"]["finetune"] = {"epochs": None}
    assert check_params(content).finetune.epochs is None


def test_calibrated_answers_need_photos_that_are_set_aside():
    content = changed("select.holdout", 0)
    assert check_params(content).submit.decision == "class"
    content["submit"]["decision"] = "calibrated"
    with pytest.raises(FlukeprintError, match=r"submit.decision: is 'calibrated'.*select.holdout is 0"):
        check_params(content)
    content["calibrate"]["decision"] = "kept"
    assert check_params(content).submit.decision == "calibrated"


def test_on_is_a_word_also_for_yaml_1_1():
    """DVC writes the key without quotes, and PyYAML reads that as True."""
    assert PARAMS["finetune"]["on"] == "small"
    content = changed("seed", 0)
    content["finetune"] = {True if key == "on" else key: value for key, value in content["finetune"].items()}
    assert check_params(content).finetune.on == "small"


@pytest.mark.parametrize("recipe", ["reference", "metric"])
def test_the_schema_hands_on_the_values_as_they_stand(recipe):
    """No stage depends on the schema (tests/imports.py): it may refuse a value, and never change one."""
    content = changed("recipe", recipe)
    assert check_params(content).model_dump(exclude={"recipes"}) == {
        key: value for key, value in with_recipe(content, recipe).items() if key != "recipes"
    }


def test_what_the_schema_derives():
    params = check_params(PARAMS)
    assert (params.active.size, params.profiles["folder"].size) == ((64, 128), (224, 224))
    assert (params.embed.views, check_params(changed("recipe", "metric")).embed.views) == (1, 2)
    for objective, on, metric, from_head in [
        ("cross_entropy", "small", False, True), ("cross_entropy", "full", False, False),
        ("arcface", "small", True, False), ("triplet", "full", True, False),
    ]:  # fmt: skip
        content = changed("finetune.objective", objective)
        content["finetune"]["on"] = on
        settings = check_params(content).finetune
        assert (settings.metric, settings.starts_from_head) == (metric, from_head)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("train.lr=0.001", "  lr: 0.001"),
        ("recipes.metric.finetune.lr=0.1", "      lr: 0.1"),
        ("recipe=metric", "recipe: metric"),
        ("finetune.epochs=3", "  epochs: 3 # none: the profile's epochs.finetune"),
    ],
)
def test_a_value_that_dvc_writes_is_one_changed_line(tmp_path, change, line):
    path = tmp_path / "params.yaml"
    before = Path("params.yaml").read_text().splitlines()
    path.write_text("\n".join(before) + "\n")
    apply_overrides(path, [change])
    after = path.read_text().splitlines()
    assert len(after) == len(before)
    [different] = [new for old, new in zip(before, after, strict=True) if old != new]
    assert different.startswith(line)


def of_metric(**changes) -> dict:
    """Return params.yaml's content under recipe metric, with values of dotted keys (written with __)."""
    content = changed("recipe", "metric")
    for key, value in changes.items():
        *path, last = key.split("__")
        section = content
        for part in path:
            section = section[part]
        section[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "hidden"),
    [
        (of_metric(finetune__lr=0.1), ["finetune.lr: is 0.1 (0.0001 in", "recipes.metric.finetune.lr (0.0003) counts"]),
        (of_metric(finetune__schedule__warm_up=0.5), ["recipes.metric.finetune.schedule.warm_up (0.15) counts"]),
        (of_metric(submit__decision="calibrated"), ["recipes.metric.submit.decision ('best') counts"]),
        (of_metric(profiles__sample__epochs__finetune=3), ["recipes.metric.finetune.epochs (28) counts"]),
        (changed("profiles.sample.epochs.finetune", 3), []),
        (of_metric(profiles__kaggle__epochs__finetune=3), []),
        (of_metric(finetune__gamma=0.5), []),
        (of_metric(finetune__lr=0.1, recipes__metric__finetune__lr=0.2), []),
        (changed("finetune.lr", 0.1), []),
    ],
)
def test_a_changed_value_that_another_hides_is_named_with_the_one_that_counts(content, hidden):
    faults = hidden_changes(content, PARAMS)
    assert len(faults) == bool(hidden)
    assert all(part in faults[0] for part in hidden)


def test_a_hidden_change_is_refused_in_git_and_cannot_be_told_without(tmp_path):
    path = tmp_path / "params.yaml"
    text = Path("params.yaml").read_text()
    path.write_text(text.replace("recipe: reference", "recipe: metric"))
    apply_overrides(path, ["finetune.lr=0.1"])
    assert load_params(["seed"], path).seed == 0
    path.write_text(text)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "params.yaml"], ["commit", "--quiet", "--message", "start"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    apply_overrides(path, ["recipe=metric", "finetune.lr=0.1"])
    with pytest.raises(FlukeprintError, match=r"finetune\.lr: is 0\.1 .*recipes\.metric\.finetune\.lr \(0\.0003\)"):
        load_params(["seed"], path)
    apply_overrides(path, ["finetune.lr=0.0001", "recipes.metric.finetune.lr=0.1"])
    assert load_params(["finetune", "recipes.*.finetune"], path).finetune.lr == 0.1


def test_messages_name_the_key_that_counts():
    text = "finetune.min_photos is 9 and finetune.gamma 1; set recipes.metric.finetune.on, not train.lr"
    assert with_effective_keys(text, PARAMS) == text
    expected = text.replace("finetune.min_photos", "recipes.metric.finetune.min_photos")
    assert with_effective_keys(text, changed("recipe", "metric")) == expected
    with pytest.raises(FlukeprintError, match=r"- recipes\.metric\.finetune\.objective is cross_entropy"):
        check_params(changed("recipes.metric.finetune.objective", "cross_entropy"))
