"""Local matching by SIFT: a picture and its altered copy share keypoints, two pictures do not."""

import io

import numpy as np
import pytest
from keypoint_pictures import jpeg_of, speckled
from PIL import Image

from flukeprint.retrieval.local_matching import Keypoints, SiftMatcher, describe, matched, most_similar

pytest.importorskip("cv2", reason="the extra local is not installed")

SIDE = 320


@pytest.fixture(scope="module")
def matcher():
    return SiftMatcher()


def lines(matcher, one, other, side=SIDE):
    return np.array(matched(matcher, describe(matcher, one, side), describe(matcher, other, side))).reshape(-1, 4)


@pytest.mark.parametrize(
    ("change", "map_"),
    [
        (lambda picture: picture, lambda x, y: (x, y)),
        (lambda picture: picture.transpose(Image.Transpose.ROTATE_180), lambda x, y: (1 - x, 1 - y)),
        (lambda picture: picture.crop((32, 16, 320, 160)), lambda x, y: ((320 * x - 32) / 288, (160 * y - 16) / 144)),
        (lambda picture: picture.resize((220, 120)).point(lambda value: 0.6 * value + 20), lambda x, y: (x, y)),
    ],
    ids=["the same", "turned", "cropped", "squashed and darkened"],
)
def test_keypoints_lie_where_the_change_put_them(matcher, change, map_):
    picture = speckled(1)
    found = lines(matcher, jpeg_of(picture), jpeg_of(change(picture)))
    assert len(found) >= 40
    expected = np.array([map_(x, y) for x, y in found[:, :2]])
    assert np.median(np.abs(found[:, 2:] - expected)) < 0.01


def test_other_pictures_share_next_to_none(matcher):
    numbers = [len(lines(matcher, jpeg_of(speckled(one)), jpeg_of(speckled(two)))) for one, two in ((1, 2), (3, 4))]
    assert max(numbers) <= 8


def test_a_flat_picture_has_no_keypoints_and_matches_nothing(matcher):
    flat = jpeg_of(Image.new("RGB", (320, 160), (90, 90, 90)))
    assert len(describe(matcher, flat, SIDE).points) == 0
    assert len(lines(matcher, flat, jpeg_of(speckled(1)))) == len(lines(matcher, jpeg_of(speckled(1)), flat)) == 0


def test_the_same_pictures_give_the_same_lines(matcher):
    one, other = jpeg_of(speckled(1)), jpeg_of(speckled(1).rotate(7))
    first = lines(matcher, one, other)
    lines(matcher, jpeg_of(speckled(5)), one)  # what was matched before must not matter
    assert np.array_equal(first, lines(matcher, one, other))


@pytest.mark.parametrize("size", [(80, 40), (640, 320), (100, 100)])
def test_pictures_are_scaled_to_the_side(matcher, size):
    found = describe(matcher, jpeg_of(speckled(1).resize(size)), SIDE)
    assert max(found.size) == SIDE
    assert found.size[1] == round(SIDE * size[1] / size[0])


class Given:
    """A matcher that pairs keypoints in order."""

    def describe(self, picture):
        raise NotImplementedError

    def pairs(self, one, _):
        return np.column_stack([np.arange(len(one.points))] * 2)


def test_only_pairs_that_agree_on_one_map_are_kept():
    generator = np.random.default_rng(0)
    here = generator.uniform(0, 300, (30, 2)).astype(np.float32)
    there = here @ np.array([[0.9, 0.1], [-0.1, 0.9]], np.float32) + np.float32([20, 10])
    there[:10] = generator.uniform(0, 300, (10, 2))
    near = np.zeros((0, 128), np.float32)
    found = matched(Given(), Keypoints(here, near, (300, 300)), Keypoints(there, near, (300, 300)))
    expected = np.column_stack([here, there])[10:] / 300
    kept = np.array(found)
    assert all(np.abs(kept - row).sum(axis=1).min() < 1e-3 for row in expected)
    assert len(kept) <= 22  # two of the ten may lie near the map by chance


def test_three_pairs_say_nothing():
    points, near = np.float32([[0, 0], [100, 0], [0, 100]]), np.zeros((0, 128), np.float32)
    assert matched(Given(), Keypoints(points, near, (300, 300)), Keypoints(points, near, (300, 300))) == ()


def test_the_most_similar_photos_first_and_equal_ones_in_order():
    assert most_similar([0.1, 0.9, 0.5, 0.9], 3).tolist() == [1, 3, 2]


def test_a_picture_that_is_none_is_refused(matcher):
    with pytest.raises(OSError, match="cannot identify"):
        describe(matcher, io.BytesIO(b"no picture").getvalue(), SIDE)
