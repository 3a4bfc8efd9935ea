"""Photos with colour profiles, turned TIFFs, and HEIC: all by the one decoder."""

import numpy as np
import pytest
from icc_profiles import PROPHOTO, grey_profile, ink_profile, rgb_profile
from PIL import Image, ImageCms
from quality_folder import texture

from flukeprint.data.colours import profile_fault
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.photos import read_rgb
from flukeprint.quality.flags import Limits, flags_of

SIZE = (48, 64)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
WIDE = rgb_profile(*PROPHOTO)


def pixels(folder, name):
    return read_rgb(folder, name, SIZE).astype(int)


def prophoto(image):
    """Return a photo in sRGB as ProPhoto RGB has it, by ROMM RGB's own formulas."""
    linear = np.asarray(image, float) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    srgb = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
    wide = linear @ (np.linalg.inv(np.array(PROPHOTO[0]).T) @ srgb).T
    return Image.fromarray(np.rint(255 * wide.clip(0, 1) ** (1 / 1.8)).astype(np.uint8))


def test_a_photo_in_prophoto_is_the_same_as_in_srgb(tmp_path):
    texture(1).save(tmp_path / "srgb.png")
    prophoto(texture(1)).save(tmp_path / "wide.png", icc_profile=WIDE)
    prophoto(texture(1)).save(tmp_path / "bare.png")
    expected = pixels(tmp_path, "srgb.png")
    assert np.abs(pixels(tmp_path, "wide.png") - expected).mean() < 1
    assert np.abs(pixels(tmp_path, "bare.png") - expected).mean() > 10
    record = inspect_photo(tmp_path, "wide.png")
    assert (record.profile, record.phash) == ("", inspect_photo(tmp_path, "srgb.png").phash)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_profile_that_says_srgb_or_is_broken_changes_no_byte(tmp_path, mode):
    image = texture(2).convert(mode)
    for name, profile in (("none", None), ("same", SRGB), ("broken", b"no profile"), ("cut", SRGB[:300])):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
    for name in ("same", "broken", "cut"):
        assert np.array_equal(pixels(tmp_path, f"{name}.png"), pixels(tmp_path, "none.png"))
    assert inspect_photo(tmp_path, "none.png").profile == ""
    for name in ("broken", "cut"):
        record = inspect_photo(tmp_path, f"{name}.png")
        assert (record.fault, "cannot be read" in record.profile) == (None, True)
        assert "photo_profile" in {flag.rule for flag in flags_of(record, Limits())}


def test_a_profile_of_other_colours_than_the_pixels_is_named(tmp_path):
    texture(2).save(tmp_path / "grey_profile.jpg", icc_profile=grey_profile(2.2))
    assert inspect_photo(tmp_path, "grey_profile.jpg").profile == (
        "its colour profile is one of GRAY colours, but the photo is RGB"
    )


def test_a_huge_profile_is_not_opened():
    image = Image.new("RGB", (8, 8))
    image.info["icc_profile"] = SRGB + bytes(5 << 20)
    assert "more than the" in profile_fault(image, "RGB")


def test_grey_with_a_gamma_of_its_own_stays_grey(tmp_path):
    texture(3).convert("L").save(tmp_path / "dark.png", icc_profile=grey_profile(1.0))
    texture(3).convert("L").save(tmp_path / "plain.png")
    red, green, blue = pixels(tmp_path, "dark.png")
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)
    assert red.mean() > pixels(tmp_path, "plain.png").mean() + 20  # linear light, brighter in sRGB
    assert inspect_photo(tmp_path, "dark.png").mode == "L"


@pytest.mark.parametrize("name", ["ink.tif", "ink.jpg"])
def test_inks_are_what_their_profile_says(tmp_path, name):
    """Lightness 50 in Lab is 119 in sRGB."""
    Image.new("CMYK", (64, 48), (255, 0, 0, 0)).save(tmp_path / name, icc_profile=ink_profile(128))
    assert np.abs(pixels(tmp_path, name) - 119).max() <= 3
    record = inspect_photo(tmp_path, name)
    assert (record.profile, record.mode) == ("", "CMYK")
    Image.new("CMYK", (64, 48), (255, 0, 0, 0)).save(tmp_path / name, icc_profile=WIDE)
    assert np.abs(pixels(tmp_path, name) - np.array([0, 255, 255])[:, None, None]).max() <= 3
    assert inspect_photo(tmp_path, name).profile == "its colour profile is one of RGB colours, but the photo is CMYK"


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_tiff_is_flagged_like_a_turned_png(tmp_path, turn, compression):
    exif = Image.Exif()
    exif[0x0112] = turn
    texture(4).save(tmp_path / "a.tif", exif=exif, compression=compression)
    texture(4).save(tmp_path / "a.png", exif=exif)
    tiff, png = (inspect_photo(tmp_path, name) for name in ("a.tif", "a.png"))
    for record in (tiff, png):
        assert (record.orientation, record.width, record.height) == (turn, 64, 48)
        assert [flag.rule for flag in flags_of(record, Limits())] == ["photo_orientation"] * (turn != 1)
    assert tiff.thumbnail == png.thumbnail
    assert np.array_equal(pixels(tmp_path, "a.tif"), pixels(tmp_path, "a.png"))


# --- HEIC -------------------------------------------------------------------------------------------------


@pytest.fixture
def heic(tmp_path):
    from pillow_heif import from_pillow

    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (("a.heic", {"quality": 90}), ("wide.heic", {}), ("turned.HEIC", {"exif": exif.tobytes()})):
        image = texture(5) if name != "wide.heic" else prophoto(texture(5))
        image.info["icc_profile"] = WIDE if name == "wide.heic" else None
        from_pillow(image).save(tmp_path / name, **options)
    texture(5).save(tmp_path / "a.png")
    return tmp_path


def test_heic_is_read_upright_and_in_srgb_and_always_the_same(heic):
    expected = pixels(heic, "a.png")
    record = inspect_photo(heic, "a.heic")
    assert (record.fault, record.format, record.mode, record.width, record.height) == (None, "HEIF", "RGB", 64, 48)
    assert np.abs(pixels(heic, "a.heic") - expected).mean() < 8
    assert np.abs(pixels(heic, "wide.heic") - expected).mean() < 12
    assert np.array_equal(pixels(heic, "a.heic"), pixels(heic, "a.heic"))
    turned = inspect_photo(heic, "turned.HEIC")
    assert (turned.width, turned.height, turned.orientation) == (48, 64, 1)  # HEIF says it otherwise than EXIF


def test_a_hostile_heic_is_bounded_like_any_photo(heic):
    whole = (heic / "a.heic").read_bytes()
    (heic / "cut.heic").write_bytes(whole[: len(whole) // 2])
    place = whole.index(b"ispe") + 8
    for name, width, height in (("bomb.heic", 20_000, 20_000), ("liar.heic", 8, 8)):
        (heic / name).write_bytes(whole[:place] + width.to_bytes(4) + height.to_bytes(4) + whole[place + 8 :])
    assert "20000 x 20000 pixels are more than" in inspect_photo(heic, "bomb.heic").fault
    assert inspect_photo(heic, "cut.heic").fault
    assert inspect_photo(heic, "a.heic", max_pixels=64 * 48 - 1).fault
    assert "size" in inspect_photo(heic, "liar.heic").fault  # libheif decodes no more than what was compared
    (heic / "overlay.heic").write_bytes(whole.replace(b"hvc1\0", b"iovl\0", 1))
    assert inspect_photo(heic, "overlay.heic").fault == "a HEIF overlay of several pictures"
