"""A project with a localiser, and its bundle: new photos are cropped as the pipeline's are, and flagged."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from identify_project import IDS, NAMES, SIZE, make_project
from pixel_folder import decoded
from test_bundle import resigned
from training_cases import CONTENT

from flukeprint.bundle.export import export_bundle
from flukeprint.bundle.opening import open_bundle, open_project
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of, write_json
from flukeprint.core.params import check_params
from flukeprint.core.paths import CROP, DECISION, GALLERY, LOCALISER, LOCALISER_RECORD, LOCALISER_WEIGHTS, RAW
from flukeprint.data.cropping import Crop, Found
from flukeprint.identify.answers import identify
from flukeprint.retrieval.gallery import build_gallery
from flukeprint.retrieval.gallery_files import save_gallery

ROOT = Path(__file__).parents[2]
SIDE = [32, 32]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project whose localiser is a network as it starts: its boxes are somewhere, and that is all that is asked."""
    from flukeprint.learning.localiser import save_localiser
    from flukeprint.learning.localiser_training import starting_localiser

    folder, here = tmp_path_factory.mktemp("cropped"), Path.cwd()
    make_project(folder, ("m1",), flip_test=False)
    backbone = CONTENT["localize"]["backbone"]
    backbone = backbone | {"weights": str(ROOT / backbone["weights"])}
    params = check_params({**CONTENT, "localize": {**CONTENT["localize"], "backbone": backbone, "size": SIDE}}).localize
    os.chdir(folder)
    try:
        save_localiser(weights := LOCALISER / LOCALISER_WEIGHTS, *_started(starting_localiser(params, 0)))
        record = {"localiser": sha256_of(weights), "size": SIDE}
        write_json(LOCALISER / LOCALISER_RECORD, record)
        crop = Crop(**record, confidence=0.0, margin=0.05, shape="squashed", upright=True)
        write_json(CROP, crop.model_dump())
        DECISION.unlink()  # fitted to whole photos
        model = open_project()
        encoded = model.encode([RAW / "train" / name for name in NAMES])
        hashes = [photo.record.sha256 for photo in encoded.photos]
        save_gallery(build_gallery(encoded.vectors, NAMES, IDS, model.provenance, hashes), GALLERY)
        export_bundle(Path("bundle"))
    finally:
        os.chdir(here)
    return folder


def _started(localiser_and_record):
    localiser, record = localiser_and_record
    return localiser.state_dict(), record


def test_new_photos_are_cropped_as_the_pixels_of_the_pipeline(project, monkeypatch):
    from flukeprint.learning.localiser import load_localiser
    from flukeprint.learning.localising import find_in_folder

    monkeypatch.chdir(project)
    network, _ = load_localiser(LOCALISER / LOCALISER_WEIGHTS)
    names, answers = find_in_folder(network, RAW / "train", (32, 32), 1)
    assert names == NAMES
    model = open_project()
    found = dict(zip(names, (Found(*answer) for answer in answers.tolist()), strict=True))
    pixels, encoder = decoded(project / "p", RAW / "train", NAMES, SIZE, model.crop, found), model.encoder
    assert not np.array_equal(pixels, decoded(project / "w", RAW / "train", NAMES, SIZE))
    vectors = model.encode([RAW / "train" / name for name in NAMES]).vectors
    assert np.abs(encoder(pixels) - vectors).max() <= 1e-5


@pytest.mark.numeric
def test_a_bundle_carries_the_localiser(project, tmp_path, monkeypatch):
    photo = project / RAW / "train" / NAMES[3]
    monkeypatch.chdir(project)
    [expected] = identify(open_project(), [photo], 3).answers
    shutil.copytree(project / "bundle", tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    model = open_bundle(Path("bundle"))
    assert model.crop.localiser in model.provenance.resize
    [answer] = identify(model, [photo], 3).answers
    assert [one.id for one in answer.match.candidates] == [one.id for one in expected.match.candidates]
    assert answer.flags == expected.flags
    [first, *_] = answer.match.candidates
    assert (first.id, first.similarity) == (IDS[3], pytest.approx(1, abs=1e-4))


def test_another_localiser_than_the_one_named_is_refused(project, tmp_path):
    shutil.copytree(project / "bundle", bundle := tmp_path / "bundle")
    (bundle / "localiser.safetensors").write_bytes(b"other")
    resigned(bundle)
    with pytest.raises(FlukeprintError, match=r"localiser.safetensors is not the localiser that .* names"):
        open_bundle(bundle)


def test_a_network_that_is_no_localiser_is_refused(project, tmp_path):
    shutil.copytree(project / "bundle", bundle := tmp_path / "bundle")
    content = json.loads((bundle / "preprocessing.json").read_text())
    assert content["crop"]["size"] == SIDE
    shutil.copy(bundle / "members/m1.onnx", bundle / "localiser.onnx")
    resigned(bundle)
    with pytest.raises(FlukeprintError, match=r"localiser.onnx .*"):
        open_bundle(bundle)


def test_vectors_of_whole_photos_do_not_compare_with_cropped_ones(project, tmp_path):
    shutil.copytree(project, folder := tmp_path / "project", ignore=shutil.ignore_patterns("bundle"))
    (folder / CROP).write_text("null\n")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.raises(FlukeprintError, match=r"do not compare: preprocessing, resize: .*cropped to the fluke"):
            open_project().gallery()
    finally:
        os.chdir(here)
