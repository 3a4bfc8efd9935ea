"""Crops: which part of a photo is shown, in which shape, and that pixels and new photos are cropped alike."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pixel_folder import decoded

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.cropping import Crop, Cropper, Found, cropped, part_of, read_crop, remarks
from flukeprint.data.inspection import read_photos
from flukeprint.data.photos import as_seen, open_photo, resized_rgb
from flukeprint.quality.flags import Limits, flags_of

CROP = Crop(localiser="0" * 64, size=[32, 32], confidence=0.5, margin=0.0, shape="squashed", upright=False)
MIDDLE = Found(0.25, 0.25, 0.75, 0.75, 0.9, 0.1)


def photo(width: int = 80, height: int = 40) -> Image.Image:
    """Return a photo whose red grows to the right and whose green grows downwards."""
    down, across = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([across * 255 // width, down * 255 // height, 0 * down], 2).astype(np.uint8))


@pytest.mark.parametrize(
    ("found", "margin", "part"),
    [
        ((0.25, 0.25, 0.75, 0.75), 0.0, (20, 10, 60, 30)),
        ((0.25, 0.25, 0.75, 0.75), 0.1, (16, 8, 64, 32)),
        ((0.25, 0.25, 0.75, 0.75), 1.0, (0, 0, 80, 40)),  # cut at the border
        ((0.01, 0.0, 0.99, 1.0), 0.0, (0, 0, 80, 40)),  # whole pixels: outwards
        ((0.5, 0.5, 0.5, 0.5), 0.0, (40, 20, 41, 21)),  # at least one pixel
        ((1.0, 1.0, 1.0, 1.0), 0.0, (79, 39, 80, 40)),
    ],
)
def test_the_part_is_the_box_with_its_margin_in_the_photo(found, margin, part):
    assert part_of(Found(*found, 1.0, 0.0), margin, (80, 40)) == part


@pytest.mark.parametrize(
    ("found", "shape", "part"),
    [
        ((0.25, 0.25, 0.75, 0.75), (32, 64), (20, 10, 60, 30)),  # has that shape already
        ((0.25, 0.25, 0.75, 0.75), (32, 32), (20, 0, 60, 40)),  # grows up and down
        ((0.45, 0.0, 0.55, 1.0), (32, 64), (0, 0, 80, 40)),  # grows to both sides
        ((0.0, 0.25, 0.25, 0.75), (32, 64), (0, 10, 40, 30)),  # grows where there is room
        ((0.0, 0.0, 1.0, 0.5), (32, 32), (0, 0, 80, 40)),  # until the photo ends
    ],
)
def test_the_part_grows_to_the_shape_of_the_pixels(found, shape, part):
    assert part_of(Found(*found, 1.0, 0.0), 0.0, (80, 40), shape) == part


def test_a_squashed_crop_is_the_box_and_a_true_one_keeps_the_shape():
    whole = photo()
    assert cropped(whole, MIDDLE, CROP, (32, 32)).size == (40, 20)
    tall = Found(0.0, 0.0, 1.0, 0.5, 0.9, 0.1)
    true = np.asarray(cropped(whole, tall, CROP.model_copy(update={"shape": "true"}), (32, 32)))
    assert true.shape == (32, 32, 3)
    assert (true[:8] == 128).all()  # 80 x 40 px in 32 x 32: grey above and below
    assert (true[24:] == 128).all()
    assert true[16, 0, 0] < 10
    assert true[16, -1, 0] > 240


def test_a_photo_without_a_fluke_stays_whole():
    whole = photo()
    assert cropped(whole, None, CROP, (32, 32)) is whole
    assert cropped(whole, MIDDLE._replace(confidence=0.4999), CROP, (32, 32)) is whole
    assert cropped(whole, MIDDLE._replace(confidence=0.5), CROP, (32, 32)).size == (40, 20)


@pytest.mark.parametrize(
    ("upright", "upside_down", "turned"), [(True, 0.9, True), (True, 0.5, False), (False, 0.9, False)]
)
def test_a_fluke_on_its_head_is_turned_if_asked(upright, upside_down, turned):
    crop = CROP.model_copy(update={"upright": upright})
    shown = np.asarray(cropped(photo(), MIDDLE._replace(upside_down=upside_down), crop, (32, 32)))
    plain = np.asarray(photo().crop((20, 10, 60, 30)))
    assert np.array_equal(shown, plain[::-1, ::-1] if turned else plain)


@pytest.mark.parametrize("shape", ["squashed", "true"])
def test_pixels_and_new_photos_are_cropped_alike(tmp_path, shape):
    crop = CROP.model_copy(update={"shape": shape, "margin": 0.07, "upright": True})
    answers = {"a.jpg": MIDDLE, "b.jpg": MIDDLE._replace(upside_down=0.8), "c.png": MIDDLE._replace(confidence=0.2)}
    photo().save(tmp_path / "a.jpg", exif=_turned())
    photo(50, 70).save(tmp_path / "b.jpg")
    photo().convert("L").save(tmp_path / "c.png")
    pixels = decoded(tmp_path / "pixels", tmp_path, list(answers), (24, 48), crop, answers)
    waiting = list(answers.values())
    cropper = Cropper(lambda seen: np.array([waiting.pop(0)]) if seen.shape == (1, 3, 32, 32) else None, crop)
    read = read_photos([tmp_path / name for name in answers], (24, 48), cropper=cropper)
    assert all(np.array_equal(own, new) for own, (_, new) in zip(pixels, read, strict=True))
    whole = decoded(tmp_path / "whole", tmp_path, list(answers), (24, 48))
    same = [np.array_equal(own, other) for own, other in zip(pixels, whole, strict=True)]
    assert same == [False, False, True]
    said = [[flag.rule for flag in flags_of(record, Limits(min_side=1))] for record, _ in read]
    assert said == [["photo_orientation"], ["photo_upside_down"], ["photo_grey", "photo_fluke"]]
    with (tmp_path / "a.jpg").open("rb") as stream, open_photo(stream, 10_000) as image:
        assert np.array_equal(pixels[0], resized_rgb(cropped(as_seen(image), MIDDLE, crop, (24, 48)), (24, 48)))


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_remarks_say_what_was_found():
    assert remarks(MIDDLE, 0.5) == {"no_fluke": "", "upside_down": ""}
    assert remarks(MIDDLE._replace(confidence=0.3, upside_down=0.9), 0.5) == {
        "no_fluke": "confidence 0.30, expected 0.5",
        "upside_down": "",
    }
    assert remarks(MIDDLE._replace(upside_down=0.9), 0.5)["upside_down"] == "probability 0.90"


def test_a_crop_file_is_checked(tmp_path):
    path = tmp_path / "crop.json"
    assert read_crop(path) is None
    path.write_text("null\n")
    assert read_crop(path) is None
    path.write_text(json.dumps(CROP.model_dump()))
    assert read_crop(path) == CROP
    path.write_text(json.dumps({**CROP.model_dump(), "margin": 2}))
    with pytest.raises(FlukeprintError, match=r"crop.json is not what it should be: margin"):
        read_crop(Path(path))
