"""The bundle: it computes what the project computes, and refuses whatever was changed in it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from identify_project import NAMES, SIZE, make_project
from quality_folder import texture

from flukeprint.bundle import export
from flukeprint.bundle.bundle_manifest import write_manifest
from flukeprint.bundle.encoder import encode_photos
from flukeprint.bundle.export import export_bundle
from flukeprint.bundle.onnx_members import OPSET, TOLERANCE, onnx_member
from flukeprint.bundle.opening import open_bundle, open_model
from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, write_json
from flukeprint.core.paths import FINETUNED, GALLERY, METRICS, RAW
from flukeprint.identify.answers import identify
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import load_gallery, save_gallery


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    here = Path.cwd()
    make_project(folder)
    evaluation = {name: {"map5": 0.5, "map5_low": 0.4, "map5_high": 0.6} for name in ("gallery", "all_new")}
    write_json(folder / METRICS / "evaluation.json", {**evaluation, "queries": 1234, "new_queries": 56})
    os.chdir(folder)
    try:
        export_bundle(Path("bundle"))
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def bundle(project, tmp_path, monkeypatch) -> Path:
    """A bundle on another machine: nothing of the project is there. It lies in the current folder."""
    shutil.copytree(project / "bundle", tmp_path / "elsewhere" / "bundle")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Path("bundle")


@pytest.fixture
def exported_before(project, monkeypatch) -> None:
    """Networks are exported by copying what an export of them gave: it takes seconds each."""
    made = project / "bundle/members"
    monkeypatch.setattr(export, "export_onnx", lambda _, target: shutil.copyfile(made / target.name, target))


def resigned(bundle: Path) -> None:
    """Make the manifest fit again: whoever changes a bundle on purpose does that too."""
    (bundle / "manifest.json").unlink()
    write_manifest(bundle)


def test_networks_go_to_other_processes_as_their_files_and_are_made_there_once(bundle):
    encoder, photos = open_bundle(bundle).encoder, np.full((3, 3, *SIZE), 7, np.uint8)
    sent = pickle.dumps(encoder)
    assert bundle.joinpath("members/m2.onnx").read_bytes() in sent
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert np.array_equal(first(photos), encoder(photos))
    assert [one.args[0] for one in first.members] == [one.args[0] for one in second.members]
    shutil.copy(bundle / "members/m1.onnx", bundle / "members/m2.onnx")
    with pytest.raises(FlukeprintError, match=r"m2\.onnx was changed after it was opened"):
        pickle.dumps(encoder)


@pytest.mark.numeric
def test_onnx_computes_what_torch_computes(project, monkeypatch):
    import torch

    from flukeprint.learning.batches import PhotoScaler
    from flukeprint.learning.network_files import load_finetuned

    photos = np.random.default_rng(0).integers(0, 256, (5, 3, *SIZE), dtype=np.uint8)
    for member in ("m1", "m2"):
        backbone, record = load_finetuned(project / FINETUNED / f"{member}.safetensors")
        inputs = PhotoScaler(record.mean, record.std, torch.device("cpu"))(torch.from_numpy(photos))
        with torch.inference_mode():
            expected = backbone.eval()(inputs).numpy(), backbone(inputs.flip(3)).numpy()
        run = onnx_member(project / "bundle/members" / f"{member}.onnx", SIZE)
        for number in (1, 2, 5):
            found = run(photos[:number], 2)
            for view in (0, 1):
                bound = TOLERANCE * max(1.0, np.abs(expected[view]).max())
                assert np.abs(found[:, view] - expected[view][:number]).max() <= bound


@pytest.mark.numeric
def test_the_opset_is_fixed_and_two_exports_are_the_same(project, monkeypatch, tmp_path):
    import onnx

    monkeypatch.chdir(project)
    export_bundle(tmp_path / "again")
    assert read_json(tmp_path / "again/manifest.json") == read_json("bundle/manifest.json")
    model = onnx.load("bundle/members/m1.onnx")
    assert {opset.version for opset in model.opset_import if opset.domain == ""} == {OPSET}
    assert str(Path(__file__).parents[2]).encode() not in Path("bundle/members/m1.onnx").read_bytes()
    assert (tmp_path / "again/gallery.album").read_bytes() == Path("bundle/gallery.album").read_bytes()


@pytest.mark.numeric
def test_a_bundle_answers_as_its_project_does(project, bundle, monkeypatch):
    texture(50, (96, 64)).save("q.jpg")
    photo = Path("q.jpg").absolute()
    model = open_bundle(bundle)
    [own] = identify(model, [photo], 5).answers
    vector = encode_photos(model.encoder, [photo], 1).vectors
    monkeypatch.chdir(project)
    of_project = open_model(None, None)
    [answer] = identify(of_project, [photo], 5).answers
    assert np.abs(vector - encode_photos(of_project.encoder, [photo], 1).vectors).max() <= 1e-5
    assert [one.id for one in own.match.candidates] == [one.id for one in answer.match.candidates]
    for one, other in zip(own.match.candidates, answer.match.candidates, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-4)
    assert own.flags == answer.flags


# Runs the command line as where only the packages of `pip install flukeprint` are: importing another raises.
LIGHT = """
import sys, tomllib, importlib.metadata as installed, importlib.abc
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

def required(names):
    found, waiting = set(), list(names)
    while waiting:
        one = Requirement(waiting.pop())
        name = canonicalize_name(one.name)
        if name not in found and (one.marker is None or one.marker.evaluate({"extra": ""})):
            found.add(name)
            waiting += installed.requires(name) or []
    return found

project = tomllib.load(open(sys.argv[1], "rb"))["project"]
light = required(project["dependencies"])
absent = {module for module, owners in installed.packages_distributions().items()
          if not light & set(map(canonicalize_name, owners))} - {"flukeprint"}
assert "torch" in absent and "numpy" not in absent

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from flukeprint.cli.main import main
main(sys.argv[2:])
"""
ROOT = Path(__file__).parents[2]


def lightly(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LIGHT, str(ROOT / "pyproject.toml"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_identifies_without_the_project_and_without_the_packages_of_the_pipeline(project, bundle):
    shutil.copy(project / RAW / "train" / NAMES[0], "copy.jpg")
    found = lightly("identify", "--bundle", "bundle", "copy.jpg", "--format", "json", "--html", "page.html")
    assert found.returncode == 0, found.stderr
    [photo] = json.loads(found.stdout)["photos"]
    assert photo["candidates"][0]["id"] == "w_a"
    assert [same["photo"] for same in photo["near_duplicates"]] == [NAMES[0]]
    assert Path("page.html").read_text().count("data:image/jpeg;base64,") == 1 + sum(
        min(3, one["gallery_photos"]) for one in photo["candidates"]
    )
    compared = lightly("verify", "--bundle", "bundle", "copy.jpg", "copy.jpg", "--json")
    assert json.loads(compared.stdout)["similarity"] == pytest.approx(1)


def test_a_command_of_the_pipeline_names_what_to_install(project):
    found = lightly("quality", str(project / RAW))
    assert found.returncode == 1
    assert "flukeprint[pipeline]" in found.stderr
    plain = lightly("catalogue", "create", str(project / "whales"), "--backbone", "resnet18")
    assert "the package torch is not installed" in plain.stderr
    assert "flukeprint[pipeline]" in plain.stderr
    assert not (project / "whales").exists()
    assert "Traceback" not in found.stderr


def test_the_card_says_what_it_is_for_how_good_it_is_and_who_decides(bundle):
    card = (bundle / "README.md").read_text()
    assert "People decide" in card
    assert "1,234 photos" in card
    assert "0.500 (0.400 to 0.600)" in card
    assert "12 photos of 5 individuals" in card
    assert "Not meant for" in card
    assert "the reference procedure" in card  # the members are classifiers
    assert "{" not in card


def test_without_pictures_a_bundle_still_identifies(project, exported_before, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project)
    main(["export", str(tmp_path / "small"), "--without-pictures"])
    assert not (tmp_path / "small/gallery.album").exists()
    capsys.readouterr()
    main(["identify", f"data/raw/train/{NAMES[0]}", "--bundle", str(tmp_path / "small"), "--format", "json"])
    [photo] = json.loads(capsys.readouterr().out)["photos"]
    assert photo["candidates"][0]["id"] == "w_a"
    assert [same["photo"] for same in photo["near_duplicates"]] == [NAMES[0]]  # the very same file


def test_a_folder_of_other_files_is_not_replaced(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(FlukeprintError, match="holds other files"):
        export_bundle(tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").exists()


def test_a_bundle_is_replaced_and_another_gallery_may_be_in_it(project, exported_before, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    bundle, own = tmp_path / "bundle", load_gallery(GALLERY)
    save_gallery(build_gallery(own.vectors[:1], ["a.jpg"], ["w_x"], own.provenance), tmp_path / "other")
    export_bundle(bundle)
    export_bundle(bundle, tmp_path / "other")
    assert open_bundle(bundle).gallery().individuals == ["w_x"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "other"]


def test_a_folder_with_another_manifest_is_not_replaced(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text("{}")
    (site / "index.html").write_text("years of work")
    with pytest.raises(FlukeprintError, match="holds other files"):
        export_bundle(site)
    assert (site / "index.html").exists()


def test_escapes_in_a_foreign_decision_are_not_printed(bundle, capsys):
    content = read_json(bundle / "decision.json")
    write_json(bundle / "decision.json", content | {"scorers": {}, "without": {"gallery": "\x1b[2Jgone"}})
    resigned(bundle)
    texture(90, (96, 64)).save("n.jpg")
    main(["identify", "n.jpg", "--bundle", "bundle"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "gone" in printed


# --- files from others ------------------------------------------------------------------------------------

FILES = [
    "README.md", "decision.json", "gallery.album", "manifest.json", "members/m1.onnx", "members/m2.safetensors",
    "preprocessing.json", "gallery/gallery.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.1, 0.5, 0.95])
def test_a_changed_byte_is_refused(bundle, name, place):
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(FlukeprintError, match=path.name.replace(".", r"\.")):
        model = open_bundle(bundle)
        model.gallery()
        model.album()


@pytest.mark.parametrize("name", ["vectors", "photos"])
def test_a_changed_byte_in_the_gallerys_data_is_refused(bundle, name):
    [path] = (bundle / "gallery").glob(f"{name}-*")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(FlukeprintError, match=f"{name}-.* was changed"):
        open_bundle(bundle).gallery()


@pytest.mark.parametrize(
    "name", ["README.md", "gallery.album", "members/m1.onnx", "members/m2.safetensors", "preprocessing.json"]
)
def test_a_missing_file_is_refused(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(FlukeprintError, match="is missing"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["extra.py", "members/__init__.py", ".hidden", "gallery/more.npy", "gallery/.a.tmp", "sub/x.json"]
)
def test_a_file_too_many_is_refused(bundle, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("raise SystemExit")
    with pytest.raises(FlukeprintError, match="does not belong to the bundle"):
        open_bundle(bundle)


def test_a_link_is_refused_even_to_the_right_content(bundle, tmp_path):
    shutil.move(bundle / "README.md", tmp_path / "README.md")
    (bundle / "README.md").symlink_to(tmp_path / "README.md")
    with pytest.raises(FlukeprintError, match="no regular file"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["README.md", "manifest.json", "gallery.album", "members/m1.onnx"])
def test_a_fifo_is_refused_and_not_waited_for(bundle, name):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    with pytest.raises(FlukeprintError, match="no regular file"):
        open_bundle(bundle)


class Pwned:
    """A pickle of this makes a file where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("members/m1.safetensors", "not a readable safetensors file"),
        ("members/m1.onnx", "not an ONNX network"),
        ("preprocessing.json", "not valid JSON"),
        ("decision.json", "not valid JSON"),
    ],
)
def test_a_pickle_under_another_name_is_refused_and_not_loaded(bundle, name, message):
    (bundle / name).write_bytes(pickle.dumps(Pwned()))
    resigned(bundle)
    with pytest.raises(FlukeprintError, match=message):
        open_bundle(bundle)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["../../outside.json", "/etc/passwd", "members/../../x.onnx", "members/a b.onnx"])
def test_a_path_in_the_manifest_is_refused(bundle, name):
    manifest = read_json(bundle / "manifest.json")
    del manifest["sha256"]
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    write_json(bundle / "manifest.json", {**manifest, "sha256": hashlib.sha256(canonical.encode()).hexdigest()})
    with pytest.raises(FlukeprintError, match=r"manifest.json is not what it should be: files"):
        open_bundle(bundle)


def member(name: str) -> dict:
    return {"name": name, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("preprocessing.json", {"provenance": {"members": [member("../../m1")]}}, "members"),
        ("preprocessing.json", {"provenance": {"members": [member("m9")]}}, "m9.safetensors is missing"),
        ("preprocessing.json", {"provenance": {"members": [member("m1"), member("m2")]}}, "the weights were made for"),
        ("preprocessing.json", {"provenance": {"size": [100000, 100000]}}, "size"),
        ("preprocessing.json", {"provenance": {"size": [64, 64]}}, "the weights were made for"),
        ("preprocessing.json", {"limits": {"max_pixels": 10**12}}, "limits"),
        ("preprocessing.json", {"limits": {"bits": "many"}}, "bits"),
        ("preprocessing.json", {"code": "x"}, "code"),
        ("decision.json", {"scorers": {"gallery": {"other": 1}}}, "decision.json is not what it should be"),
        ("decision.json", {"verification": {"thresholds": {}}}, "decision.json is not what it should be"),
        ("decision.json", {"scorers": []}, "decision.json is not what it should be"),
        ("decision.json", {"without": {"gallery": 1}}, "decision.json is not what it should be"),
        (
            "decision.json",
            {"verification": {"thresholds": {}, "slope": "steep", "intercept": 0.0}},
            "decision.json is not what it should be",
        ),
    ],
)
def test_content_that_does_not_fit_is_refused(bundle, name, content, message):
    old = read_json(bundle / name)
    nested = {key: old[key] | content[key] for key in ("provenance", "limits") if key in content}
    write_json(bundle / name, old | content | nested)
    resigned(bundle)
    with pytest.raises(FlukeprintError, match=message):
        open_bundle(bundle)


def test_an_onnx_that_names_another_file_does_not_read_it(bundle):
    from onnx import TensorProto, helper

    Path("secret.bin").write_bytes(np.ones(64, np.float32).tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    nodes = [helper.make_node("Cast", ["photos"], ["x"], to=1), helper.make_node("Add", ["x", "w"], ["embedding"])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("photos", TensorProto.UINT8, [64])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [64])], [tensor],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    (bundle / "members/m1.onnx").write_bytes(model.SerializeToString())
    resigned(bundle)
    with pytest.raises(FlukeprintError, match="names another file for its weights"):
        open_bundle(bundle)


def test_an_onnx_with_other_inputs_is_refused(tmp_path):
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    (tmp_path / "m1.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FlukeprintError, match="expected uint8 photos"):
        onnx_member(tmp_path / "m1.onnx", SIZE)


def test_a_runtime_that_cannot_be_imported_is_no_fault_of_the_network(tmp_path, monkeypatch):
    (tmp_path / "m1.onnx").write_bytes(b"")
    (tmp_path / "onnxruntime.py").write_text("raise PermissionError(13, 'Permission denied', __file__)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match="onnxruntime"):
        onnx_member(tmp_path / "m1.onnx", SIZE)
