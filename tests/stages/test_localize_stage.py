"""The stage localize, and the stages after it, on a handful of drawn photos."""

import json

import pandas as pd
import pytest
from dvc.utils.serialize import load_yaml, modify_yaml
from pipeline_project import ROOT

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of, write_frame, write_json
from flukeprint.core.paths import BOXES, CROP, LOCALISER, METRICS, PHOTO_SIZE, PIXELS, RAW, VALIDATED
from flukeprint.data.fluke_boxes import read_found
from flukeprint.data.pixel_shards import PixelShards
from flukeprint.data.sample import SampleSpec, draw_sample
from stages import localize, pixels

SPEC = SampleSpec(
    photos=(8, 7, 6, 5), new_whales=2, test_known=3, test_new=1, duplicates=1, conflicts=0, test_duplicates=0,
    width=64, height=32, marked=26,
)  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with raw photos and tables of their names, in which the stages run."""
    monkeypatch.chdir(tmp_path)
    RAW.mkdir(parents=True)
    draw_sample(RAW, 0, SPEC)
    for part in ("train", "test"):
        names = sorted(path.name for path in (RAW / part).iterdir())
        sums = [sha256_of(RAW / part / name) for name in names]
        write_frame(VALIDATED / f"{part}.parquet", pd.DataFrame({"Image": names, "sha256": sums}))
    content = load_yaml(ROOT / "params.yaml")
    content["runtime"] |= {"workers": 1, "threads": 1, "device": "cpu"}
    weights = str(ROOT / content["localize"]["backbone"]["weights"])
    content["localize"] |= {"size": [32, 32], "epochs": 1, "batch_size": 16}
    content["localize"]["backbone"]["weights"] = weights
    write_json(PHOTO_SIZE, {"size": [32, 64]})
    (tmp_path / "params.yaml").write_text(json.dumps(content))  # JSON is YAML
    return tmp_path


def use(**changes):
    with modify_yaml("params.yaml") as content:
        content["localize"] |= changes


def test_off_finds_nothing_and_leaves_pixels_whole(project):
    localize.main()
    pixels.main()
    assert (LOCALISER / "localiser.json").read_text() == CROP.read_text() == "null\n"
    assert [path.name for path in LOCALISER.iterdir()] == ["localiser.json"]
    assert read_found(BOXES / "train.parquet") == read_found(BOXES / "test.parquet") == {}
    assert json.loads((METRICS / "localize.json").read_text()) == {}


def test_on_every_photo_gets_a_box_and_pixels_are_cropped_to_it(project):
    localize.main()
    pixels.main()
    whole = PixelShards(PIXELS / "train")[:]
    use(use="crop", confidence=0.0)
    localize.main()
    weights = (LOCALISER / "localiser.safetensors").read_bytes()
    figures = json.loads((METRICS / "localize.json").read_text())
    assert figures["trained_on"] + figures["held_out"] == 26
    assert figures["held_out"] == figures["flukes"] == 5
    assert {"iou", "iou_over_0.5", "iou_over_0.75", "found", "without_fluke_told"} <= set(figures)
    for part, number in (("train", 28), ("test", 4)):
        found = read_found(BOXES / f"{part}.parquet")
        assert sorted(found) == sorted(path.name for path in (RAW / part).iterdir())
        assert len(found) == number
    pixels.main()
    crop = json.loads(CROP.read_text())
    assert (crop["margin"], crop["size"]) == (0.05, [32, 32])
    cropped = PixelShards(PIXELS / "train")[:]
    assert cropped.shape == whole.shape
    assert (cropped != whole).any(axis=(1, 2, 3)).mean() > 0.5
    localize.main()
    assert (LOCALISER / "localiser.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], r"localize.use is crop, but data/raw/boxes.csv \(localize.boxes\) holds the boxes of 0 flukes"),
        (["none.jpg,0,0,1,1"], r"boxes.csv row 2: Image is 'none.jpg', which is no training photo"),
    ],
)
def test_a_table_that_teaches_nothing_is_refused(project, rows, says):
    use(use="crop")
    (RAW / "boxes.csv").write_text("\n".join(["Image,x0,y0,x1,y1", *rows]) + "\n")
    with pytest.raises(FlukeprintError, match=says):
        localize.main()
    assert not BOXES.exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use": "maybe"}, "localize.use: is 'maybe'"),
        ({"crop": {"margin": -0.1, "shape": "squashed", "upright": False}}, "localize.crop.margin: is -0.1"),
        ({"crop": {"margin": 0, "shape": "round", "upright": False}}, "localize.crop.shape: is 'round'"),
        ({"size": [96]}, "localize.size"),
        ({"holdout": 1.0}, "localize.holdout: is 1.0"),
    ],
)
def test_params_that_cannot_be_are_refused_by_their_key(project, changes, says):
    use(**changes)
    with pytest.raises(FlukeprintError, match=says):
        localize.main()
