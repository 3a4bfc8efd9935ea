"""dvc.yaml against the code: every module that a stage imports, every key that it reads, and nothing else."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import load_yaml
from imports import ROOT, closure, code_deps, module_names

from flukeprint.core.recipes import RECIPE_SECTIONS

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = load_yaml(ROOT / "params.yaml")
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
# Files of ours that a stage opens by a name in params.yaml.
OTHER_FILES = {
    "backbone": {PARAMS["profiles"]["sample"]["backbone"]["weights"]},
    "localize": {PARAMS["localize"]["backbone"]["weights"]},
}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_list_every_module_that_the_stage_imports(stage):
    listed = [dep for dep in DVC[stage]["deps"] if dep.startswith(("flukeprint", "stages"))]
    assert sorted(listed) == sorted({*code_deps(stage), *OTHER_FILES.get(stage, ())}), "run `python tests/imports.py`"


def test_a_missing_module_would_be_noticed(tmp_path):
    """The recogniser itself: it sees direct, indirect, late and aliased imports, and no type-only ones."""
    seen = closure(ROOT / "stages" / "select.py")
    assert {"flukeprint/data/selected_tables.py", "flukeprint/core/recipes.py", "flukeprint/core/paths.py"} <= seen
    assert "flukeprint/core/runtime.py" in seen  # only flukeprint/data/splits.py imports it
    assert "flukeprint/data/sample.py" in closure(ROOT / "stages" / "fetch.py")  # imported inside a function
    # Type-only in network_files.py.
    assert "flukeprint/learning/training.py" not in closure(ROOT / "stages" / "embed.py")


def test_the_exceptions_that_no_stage_lists_are_names_without_code():
    docstring, *classes = ast.parse((ROOT / "flukeprint/core/errors.py").read_text()).body
    for body in ([docstring], *(node.body for node in classes if isinstance(node, ast.ClassDef))):
        assert [type(node) for node in body] == [ast.Expr]
    assert {type(node) for node in classes} == {ast.ClassDef}


def test_stages_modules_and_dvc_yaml_have_the_same_names():
    assert set(STAGES) == set(DVC)
    for stage, node in DVC.items():
        assert node["cmd"].split()[:3] == ["python", "-m", f"stages.{stage}"]
    assert set(PARAMS) - {"profile", "profiles", "recipe", "recipes", "seed", "runtime"} <= set(DVC)


@pytest.mark.parametrize("stage", STAGES)
def test_params_in_dvc_yaml_are_the_keys_that_the_stage_declares(stage):
    keys = importlib.import_module(f"stages.{stage}").KEYS
    listed = [key.replace("${profile}", "*").replace("${recipe}", "*") for key in DVC[stage].get("params", [])]
    assert sorted(listed) == sorted(keys)
    sections = {key.split(".")[0] for key in keys} & set(RECIPE_SECTIONS)
    parts = {key.removeprefix("recipes.*.") for key in keys if key.startswith("recipes.")}
    assert sections == parts, "a section that recipes change is declared together with the recipe's part"


def leaves(section: dict, prefix: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


# Which stages must go stale, of themselves, when a key changes: the first prefix that fits.
STALE = {
    "runtime": set(),
    "profiles.folder.path": {"fetch"},  # watched as a folder, whatever the profile
    "profiles.folder": set(),
    "profiles.catalogue": set(),
    "profiles.kaggle": set(),
    "profiles.sample.source": {"fetch"},
    "profiles.sample.path": {"fetch"},
    # calibrate: a decision names all that shapes scores.
    "profiles.sample.image_size": {"backbone", "calibrate"},
    "profiles.sample.backbone": {"backbone", "calibrate"},
    "profiles.sample.members": {"backbone", "calibrate"},
    "profiles.sample.epochs.train": {"train"},
    "profiles.sample.epochs.finetune": {"finetune", "calibrate"},
    "profiles.sample.epochs.full_head": {"full_head", "calibrate"},
    "recipes.metric": set(),
    "recipes.reference.finetune": {"start", "finetune", "calibrate"},
    "recipes.reference.embed": {"embed", "ensemble", "gallery", "calibrate"},
    "recipes.reference.full_head": {"full_head", "calibrate"},
    "recipes.reference.submit": {"submit"},
    "localize": {"localize"},
    "localize.confidence": {"localize", "validate", "pixels"},
    "localize.crop": {"localize", "pixels"},
    "seed": {"localize", "select", "backbone", "train", "finetune", "full_head"},
    "fetch": {"fetch"},
    "validate": {"validate"},
    "select": {"select"},
    "train": {"train"},
    "finetune": {"finetune", "calibrate"},
    "finetune.objective": {"start", "finetune", "calibrate"},
    "finetune.on": {"start", "finetune", "calibrate"},
    "embed": {"embed", "ensemble", "gallery", "calibrate"},
    "gallery": {"gallery"},
    "gallery.exact_up_to": {"gallery", "ensemble"},
    "full_head": {"full_head", "calibrate"},
    "calibrate": {"calibrate"},
    "evaluate": {"evaluate"},
    "evaluate.new_share": {"calibrate", "evaluate"},
    "submit": {"submit"},
}
# Changing these changes the graph itself: tests/stages/test_pipeline.py looks at them.
OF_THE_GRAPH = {"profile", "recipe", "ensemble.members"}


def expected_stale(key: str) -> set[str]:
    prefixes = [prefix for prefix in STALE if key == prefix or key.startswith(f"{prefix}.")]
    assert prefixes, f"{key}: name the stages that it makes stale in STALE"
    return STALE[max(prefixes, key=len)]


def filled(text: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def stale_stages(key: str) -> set[str]:
    """Return the stages of dvc.yaml whose params cover a key, with the committed profile."""
    covering = {key.rsplit(".", cut)[0] for cut in range(key.count(".") + 1)}
    chosen = {"${profile}": PARAMS["profile"], "${recipe}": PARAMS["recipe"]}
    return {
        stage
        for stage, node in DVC.items()
        if covering & {filled(listed, chosen) for listed in node.get("params", [])}
        or any(dep == f"${{{key}}}" for dep in node["deps"])
    }


# The reference recipe changes nothing; these stand for values that somebody adds to it.
ADDED = [
    "profiles.sample.members.m2.backbone.name",
    "profiles.sample.members.m2.image_size",
    "recipes.reference.finetune.lr",
    "recipes.reference.embed.flip_test",
    "recipes.reference.full_head.lr",
]


@pytest.mark.parametrize("key", [key for key in [*leaves(PARAMS), *ADDED] if key not in OF_THE_GRAPH])
def test_a_changed_key_makes_exactly_its_stages_stale(key):
    assert stale_stages(key) == expected_stale(key)


@pytest.mark.parametrize("stage", STAGES)
def test_great_expectations_slows_no_stage_but_validate(stage):
    modules = closure(ROOT / "stages" / f"{stage}.py")
    imported = {name.split(".")[0] for module in modules for name in module_names(ROOT / module)}
    assert ("great_expectations" in imported) == (stage == "validate")


@pytest.mark.parametrize("stage", ["fetch", "select", "pixels", "gallery", "calibrate", "submit", "evaluate"])
def test_stages_without_a_network_do_not_import_torch(stage):
    code = f"import sys, stages.{stage}; sys.exit('torch' in sys.modules or 'great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


LEARNING = {"baseline", "train", "start", "finetune", "embed", "full_head"}
# Templates and words for people, and the command line: an edit there must train nothing again.
WORDS = (
    "flukeprint/cli/",
    "flukeprint/core/safe_text.py",
    "flukeprint/evaluation/",
    "flukeprint/pages/",
    "flukeprint/quality/",
)


@pytest.mark.parametrize("stage", sorted(LEARNING))
def test_no_stage_of_learning_depends_on_words_for_people(stage):
    listed = [f"{dep}/" if (ROOT / dep).is_dir() else dep for dep in DVC[stage]["deps"]]
    assert not [dep for dep in listed if dep.startswith(WORDS)]


def documented_edits() -> dict[str, set[str]]:
    """Return the table of docs/pipeline.md: file of ours -> stages that its edit makes stale."""
    table = (ROOT / "docs/pipeline.md").read_text().partition("| edited | stale |")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {file: {stage.strip() for stage in stages.split(",") if stage.strip()} for file, stages in rows}


def test_the_documented_edits_make_exactly_the_named_stages_stale():
    documented = documented_edits()
    assert len(documented) >= 10
    for file, stages in documented.items():
        assert (ROOT / file).is_file(), file
        covering = {str(path) for path in (Path(file), *Path(file).parents)}
        assert stages == {stage for stage in DVC if covering & set(DVC[stage]["deps"])}, file


def outputs_of(node: dict) -> dict[str, bool]:
    """Return a stage's outputs: path -> whether DVC's cache holds it (otherwise git does)."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in node.get(kind, [])]
    pairs = [(entry, {}) if isinstance(entry, str) else next(iter(entry.items())) for entry in entries]
    return {path: options.get("cache", True) for path, options in pairs}


@pytest.mark.parametrize("stage", STAGES)
def test_data_deps_are_whole_outputs(stage):
    """Folders in git, of receipts and curves, are read whole; their readers remove what is of no member."""
    outputs = {path: cached for node in DVC.values() for path, cached in outputs_of(node).items()}
    in_git = {path.rpartition("/")[0] for path, cached in outputs.items() if not cached}
    data = {dep for dep in DVC[stage]["deps"] if dep.startswith(("data/", "models/", "metrics/"))}
    assert data - set(outputs) - in_git <= {"data/exclusions.csv", "data/kept"}


def test_no_figure_comes_from_what_holds_every_labelled_photo():
    """The gallery, and the candidates of test photos, are searched by photos that have no label."""
    measuring = {stage for stage, node in DVC.items() if any(path.startswith("metrics/") for path in outputs_of(node))}
    assert "evaluate" in measuring
    for stage in {*measuring, "calibrate"}:
        assert not {"models/gallery", "data/predictions/test.parquet"} & set(DVC[stage]["deps"]), stage


@pytest.mark.parametrize("stage", STAGES)
def test_no_output_keeps_a_stage_out_of_the_run_cache(stage):
    """DVC's rule: metrics and plots may be in git, plain outputs may not; nor may they persist, but for pixels."""
    options = [out for out in DVC[stage]["outs"] if not isinstance(out, str)]
    assert all(list(out.values()) == [{"persist": True}] for out in options)
    assert {path for out in options for path in out} == {
        f"data/pixels/{part}{end}" for part in ("train", "test") for end in ("", "_made.json") if stage == "pixels"
    }
