import hashlib
import io
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from concurrent.futures.process import BrokenProcessPool

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from icc_profiles import PROPHOTO, rgb_profile
from PIL import Image, ImageDraw, ImageOps
from pillow_heif import from_pillow

from flukeprint.core.errors import FlukeprintError
from flukeprint.data import inspection, photos
from flukeprint.data.inspection import THUMBNAIL_SIDE, PhotoRecord, inspect_photo, inspect_photos
from flukeprint.data.photos import plain_file_name, read_rgb


def picture(width=90, height=60, mode="RGB"):
    """A photo-like picture: a gradient, a dark triangle, some noise."""
    ramp = Image.linear_gradient("L").resize((width, height)).rotate(180)
    image = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT), ramp))
    ImageDraw.Draw(image).polygon([(5, 5), (width // 2, height - 8), (width - 20, 10)], fill=(20, 40, 60))
    noise = np.random.default_rng(0).integers(0, 25, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(np.asarray(image) // 2 + noise).convert(mode)


def encoded(image, format_, **options):
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


JPEG = encoded(picture(), "JPEG", quality=90)


def png_of_size(width, height):
    """A well-formed PNG header of any size, with next to no pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def hash_of(image):
    return int(str(imagehash.phash(image)), 16)


# --- a record of a good photo


def test_record_of_a_jpeg(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    record = inspect_photo(tmp_path, "a.jpg")
    image = Image.open(tmp_path / "a.jpg")
    small = np.asarray(image.convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS))
    assert record.fault is None
    assert (record.name, record.width, record.height, record.mode) == ("a.jpg", 90, 60, "RGB")
    assert (record.bytes, record.format, record.orientation, record.frames) == (len(JPEG), "JPEG", 1, 1)
    assert record.sha256 == hashlib.sha256(JPEG).hexdigest()
    assert record.thumbnail == small.tobytes()
    assert record.contrast == pytest.approx(small.std())
    assert record.phash == hash_of(image)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), width=st.integers(1, 70), height=st.integers(1, 70), kind=st.sampled_from("nfsb"))
def test_hash_is_that_of_imagehash(tmp_path_factory, seed, width, height, kind):
    rng = np.random.default_rng(seed)
    values = {
        "n": rng.integers(0, 256, (height, width, 3)),  # noise
        "f": np.full((height, width, 3), rng.integers(0, 256)),  # flat
        "s": np.tile(rng.integers(0, 256, (height, 1, 1)), (1, width, 3)),  # stripes: many ties at the median
        "b": np.where(np.arange(width)[None, :, None] < width // 2, 0, 255) * np.ones((height, 1, 3)),  # two halves
    }[kind].astype(np.uint8)
    folder = tmp_path_factory.mktemp("hash")
    Image.fromarray(values).save(folder / "a.png")
    assert inspect_photo(folder, "a.png").phash == hash_of(Image.fromarray(values))


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        *(("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "PNG")),
        *(
            ("RGB", "BMP"),
            ("P", "GIF"),
            ("I", "TIFF"),
            ("F", "TIFF"),
            ("I;16", "PNG"),
            ("LAB", "TIFF"),
            ("RGB", "TIFF"),
        ),
        ("RGB", "WEBP"),
    ],
)
def test_modes_and_formats_work(tmp_path, mode, format_):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(picture(mode="L")).astype(np.uint16) * 257)
    else:
        image = Image.new("LAB", (90, 60)) if mode == "LAB" else picture(mode=mode)
    image.save(tmp_path / "a.jpg", format_)
    record = inspect_photo(tmp_path, "a.jpg")
    assert (record.fault, record.mode, record.format) == (None, mode, format_)
    pixels = read_rgb(tmp_path, "a.jpg", (60, 90))
    assert pixels.shape == (3, 60, 90)
    if mode not in ("1", "LAB", "I", "F"):  # of the last two nobody knows which value is white
        assert np.abs(pixels.mean(0) - np.asarray(picture(mode="L"), float)).mean() < 12
    if mode not in ("1", "LAB"):
        assert bin(record.phash ^ hash_of(picture())).count("1") <= 8


def test_sixteen_bits_are_scaled_by_their_range(tmp_path):
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_rgb(tmp_path, "a.png", (16, 16))[1].ravel().tolist() == list(range(256))


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("P", (8, 8), 0).save(tmp_path / "palette.png", transparency=0)
    Image.new("L", (8, 8), 7).save(tmp_path / "grey.png", transparency=7)
    for name in ("rgba.png", "palette.png", "grey.png"):
        assert read_rgb(tmp_path, name, (8, 8)).min() == 255
        assert inspect_photo(tmp_path, name).thumbnail == b"\xff" * THUMBNAIL_SIDE**2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.png", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
    record = inspect_photo(tmp_path, "a.png")
    assert (record.orientation, record.width, record.height) == (orientation, 90, 60)
    assert record.phash == hash_of(upright)
    seen = read_rgb(tmp_path, "a.png", (upright.height, upright.width))
    assert np.array_equal(seen.transpose(1, 2, 0), np.asarray(upright))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_a_broken_orientation_is_none(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    picture().save(tmp_path / "a.jpg", exif=exif)
    assert inspect_photo(tmp_path, "a.jpg").orientation == 1


@pytest.mark.parametrize(
    ("format_", "name"), [("GIF", "a.gif"), ("WEBP", "a.webp"), ("PNG", "a.png"), ("TIFF", "a.tif")]
)
def test_animations_count_by_their_first_frame(tmp_path, format_, name):
    frames = [picture(), picture().transpose(Image.Transpose.ROTATE_180), Image.new("RGB", (90, 60), "red")]
    options = {"lossless": True} if format_ == "WEBP" else {}
    frames[0].save(tmp_path / name, format_, save_all=True, append_images=frames[1:], **options)
    record = inspect_photo(tmp_path, name)
    assert (record.fault, record.frames) == (None, 3)
    assert bin(record.phash ^ hash_of(frames[0])).count("1") <= 4
    if format_ != "GIF":
        assert np.array_equal(read_rgb(tmp_path, name, (60, 90)).transpose(1, 2, 0), np.asarray(frames[0]))


def test_a_polyglot_is_its_photo_and_nothing_else(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG + b"PK\x03\x04<script>alert(1)</script>" * 9)
    assert inspect_photo(tmp_path, "a.jpg").fault is None


# --- faults


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"not a photo", "not an image"),
        (b"%PDF-1.7\n" + JPEG, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (encoded(picture(), "PNG")[:900], "truncated"),
        (png_of_size(20_000, 20_000), "bomb"),
        (png_of_size(11_000, 10_000), "bomb"),
        (JPEG[:-2] + JPEG[JPEG.index(b"\xff\xda") :] * 200, "scans"),
        (png_of_size(50, 50), "truncated"),
        (png_of_size(0, 50), "not an image"),
    ],
)
def test_faults_have_one_line_reasons(tmp_path, content, fault):
    (tmp_path / "a.jpg").write_bytes(content)
    record = inspect_photo(tmp_path, "a.jpg")
    assert fault in record.fault
    assert "\n" not in record.fault
    assert record.bytes == len(content)
    assert record.thumbnail == b""
    with pytest.raises(FlukeprintError, match=r"a\.jpg"):
        read_rgb(tmp_path, "a.jpg", (8, 8))


def tiff_of_many(pictures):
    """A TIFF file whose directory, a few dozen bytes, is repeated: some pictures of the same pixels."""
    content = bytearray(encoded(picture(8, 8), "TIFF"))
    content += b"\0" * (len(content) % 2)
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    size = 2 + 12 * entries
    directory, start = bytes(content[first : first + size]), len(content)
    for number in range(1, pictures):
        here = start + (number - 1) * (size + 4)
        struct.pack_into("<I", content, (first if number == 1 else here - size - 4) + size, here)
        content += directory + b"\0" * 4
    return bytes(content)


def test_a_tiff_of_very_many_pictures_is_refused_before_counting_takes_minutes(tmp_path):
    (tmp_path / "few.tif").write_bytes(tiff_of_many(1000))
    (tmp_path / "many.tif").write_bytes(tiff_of_many(30_000))
    start = time.perf_counter()
    few, many = (inspect_photo(tmp_path, name) for name in ("few.tif", "many.tif"))
    assert time.perf_counter() - start < 10  # counting the 30,000 takes Pillow 20 s, 300,000 half an hour
    assert (few.fault, few.frames, few.thumbnail != b"") == (None, 1000, True)
    assert "more than 1000 pictures" in many.fault


def chunked_png(*chunks):
    """A PNG file of 8 x 8 black pixels with other chunks before them."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(bytes(8 * 25))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in parts
    )


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"IDAT"])
def test_what_unpacks_to_far_more_than_the_photo_is_not_unpacked(tmp_path, kind):
    packed = zlib.compress(bytes(100_000_000), 9)
    (tmp_path / "a.png").write_bytes(chunked_png((kind, packed if kind == b"IDAT" else b"name\0\0" + packed)))
    tracemalloc.start()
    record = inspect_photo(tmp_path, "a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert record.fault is None or "\n" not in record.fault


def test_a_loop_of_tiff_directories_ends(tmp_path):
    content = bytearray(tiff_of_many(2))
    (first,) = struct.unpack_from("<I", content, 4)
    content[-4:] = struct.pack("<I", first)
    (tmp_path / "a.tif").write_bytes(bytes(content))
    assert inspect_photo(tmp_path, "a.tif").frames <= 3


@pytest.mark.parametrize(
    ("mode", "format_"), [("RGBA", "PNG"), ("LA", "PNG"), ("P", "GIF"), ("RGB", "PNG"), ("RGBA", "WEBP")]
)
def test_transparent_photos_are_the_same_in_strips(tmp_path, monkeypatch, mode, format_):
    image = (
        picture(mode="RGB").quantize(16) if mode == "P" else picture(mode=mode if mode == "LA" else "RGB").convert(mode)
    )
    options = {"RGB": {"transparency": (1, 2, 3)}, "P": {"transparency": 3}}.get(mode, {})
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "a.jpg", format_, **options)
    whole = read_rgb(tmp_path, "a.jpg", (60, 90))
    monkeypatch.setattr(photos, "_STRIP_PIXELS", 90 * 7)
    assert np.array_equal(read_rgb(tmp_path, "a.jpg", (60, 90)), whole)
    seen = Image.open(tmp_path / "a.jpg").convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    assert np.array_equal(whole.transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("kind", [np.int32, np.float32, np.uint16])
def test_deep_photos_are_the_same_in_strips(tmp_path, monkeypatch, kind):
    values = np.random.default_rng(0).normal(3e4, 5e3, (60, 90)).astype(kind)
    Image.fromarray(values).save(tmp_path / "a.jpg", "TIFF")
    whole = read_rgb(tmp_path, "a.jpg", (60, 90))
    monkeypatch.setattr(photos, "_STRIP_PIXELS", 90 * 7)
    assert np.array_equal(read_rgb(tmp_path, "a.jpg", (60, 90)), whole)
    low, high = (0, 65535) if kind is np.uint16 else (values.min(), values.max())
    assert np.abs(whole[0] - (values - low) * (255 / (float(high) - low))).max() <= 0.51


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (png_of_size(10_080, 10_000), "10080 x 10000 pixels are more than the 100000000 of validate.max_pixels"),
        (png_of_size(1, 65_536), "1 x 65536 pixels have a side longer than 65535"),
        (png_of_size(200_000, 1), "a side longer than"),
        (encoded(Image.new("RGBA", (8000, 8000)), "WEBP", lossless=True, method=0, quality=0), "1216 MB of memory"),
    ],
)
def test_what_would_take_too_much_memory_is_refused_unread(tmp_path, content, says):
    (tmp_path / "a.jpg").write_bytes(content)
    assert says in inspect_photo(tmp_path, "a.jpg").fault


def test_usual_large_photos_are_not_refused():
    progressive = encoded(picture(), "JPEG", progressive=True)
    place = progressive.index(b"\xff\xc2") + 5
    large = progressive[:place] + (8700).to_bytes(2) + (11_400).to_bytes(2) + progressive[place + 4 :]
    for content in (png_of_size(9500, 10_500), large):
        with photos.open_photo(io.BytesIO(content), 100_000_000) as image:
            assert image.width * image.height > 99_000_000


def test_many_scans_of_a_small_photo_are_fewer_of_a_large_one(tmp_path):
    plain = encoded(picture(), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    many = plain[:last] + plain[last:-2] * 60 + b"\xff\xd9"
    (tmp_path / "a.jpg").write_bytes(many)
    assert inspect_photo(tmp_path, "a.jpg").fault is None
    place = many.index(b"\xff\xc2") + 5
    (tmp_path / "b.jpg").write_bytes(many[:place] + (8000).to_bytes(2) * 2 + many[place + 4 :])
    assert "more than 20 scans" in inspect_photo(tmp_path, "b.jpg").fault


def test_the_limit_of_pixels_is_a_parameter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    assert inspect_photo(tmp_path, "a.jpg", max_pixels=90 * 60).fault is None
    assert "90 x 60" in inspect_photo(tmp_path, "a.jpg", max_pixels=90 * 60 - 1).fault


def test_what_is_no_file_in_the_folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    (folder / "real.jpg").write_bytes(JPEG)
    (folder / "inside.jpg").symlink_to("real.jpg")
    (folder / "outside.jpg").symlink_to("../secret.jpg")
    (folder / "broken.jpg").symlink_to("nothing.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    faults = {path.name: inspect_photo(folder, path.name).fault for path in folder.iterdir()}
    assert faults["real.jpg"] is None
    assert faults["inside.jpg"] is None
    assert "leaves the folder" in faults["outside.jpg"]
    assert "missing" in faults["broken.jpg"]
    assert faults["loop.jpg"]
    assert faults["folder.jpg"] == faults["pipe.jpg"] == "not a regular file"
    assert "missing" in inspect_photo(folder, "none.jpg").fault
    assert "plain file name" in inspect_photo(folder, "../secret.jpg").fault


def test_a_folder_may_itself_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(JPEG)
    (tmp_path / "real" / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert inspect_photo(tmp_path / "link", "b.jpg").fault is None


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_corrupted_bytes_never_raise(tmp_path_factory, data):
    whole = data.draw(st.sampled_from(ENCODED))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    folder = tmp_path_factory.getbasetemp()
    (folder / "corrupt.jpg").write_bytes(bytes(content))
    record = inspect_photo(folder, "corrupt.jpg", max_pixels=1_000_000)
    assert isinstance(record, PhotoRecord)
    assert (record.fault is None) == (len(record.thumbnail) == THUMBNAIL_SIDE**2)
    if content == whole:
        assert record.fault is None


def heif():
    stream = io.BytesIO()
    from_pillow(picture()).save(stream)
    return stream.getvalue()


ENCODED = [
    JPEG,
    encoded(picture(), "PNG"),
    encoded(picture(), "GIF"),
    encoded(picture(), "WEBP"),
    encoded(picture(), "TIFF"),
    encoded(picture(), "TIFF", compression="tiff_lzw"),
    encoded(picture(), "BMP"),
    encoded(picture(), "PNG", icc_profile=rgb_profile(*PROPHOTO)),
    heif(),
]


# --- names


@pytest.mark.parametrize("name", ["00022e1a.jpg", "Ballena número 3.JPG", "鲸.png", "a..b.jpg", "=1+1.jpg"])
def test_plain_names(name):
    assert plain_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden.jpg", "a/b.jpg", "/etc/passwd", "..\\a.jpg", "C:a.jpg", "a\n.jpg", "a\0.jpg"),
        *("a\x7f.jpg", "a\u2028b.jpg", "a\u202egpj.exe", os.fsdecode(b"caf\xe9.jpg")),
    ],
)
def test_names_that_are_not_plain(name, tmp_path):
    assert not plain_file_name(name)
    assert inspect_photo(tmp_path, name).fault == "not a plain file name"


@given(st.text(max_size=12))
def test_a_plain_name_stays_in_its_folder(name):
    if plain_file_name(name):
        assert os.path.basename(os.path.normpath(os.path.join("folder", name))) == name  # noqa: PTH118, PTH119


# --- many photos, and pixels


def test_records_keep_their_order_whatever_the_number_of_processes(tmp_path):
    for k in range(5):
        picture(40 + k, 30).save(tmp_path / f"{k}.jpg")
    (tmp_path / "3.jpg").write_bytes(b"")
    (tmp_path / "other").mkdir()
    picture(33, 44).save(tmp_path / "other" / "0.jpg")
    names = {tmp_path: [f"{k % 6}.jpg" for k in range(150)], tmp_path / "other": ["0.jpg", "1.jpg"]}
    alone = inspect_photos(names)
    assert list(alone) == list(names)
    assert all([record.name for record in alone[folder]] == names[folder] for folder in names)
    assert [record.width for record in alone[tmp_path][:3]] == [40, 41, 42]
    assert [record.width for record in alone[tmp_path / "other"]] == [33, 0]
    assert inspect_photos(names, workers=2) == alone
    assert inspect_photos({tmp_path: []}, workers=2) == {tmp_path: []}


@pytest.mark.parametrize(("count", "workers"), [(3, 1), (3, 2), (100, 2)])
def test_other_work_is_done_once_and_in_this_thread_while_photos_are_read(tmp_path, count, workers):
    picture().save(tmp_path / "a.jpg")
    threads = []
    inspect_photos({tmp_path: ["a.jpg"] * count}, workers, meanwhile=lambda: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]


def test_the_processes_import_nothing_heavy():
    code = (
        "import sys, flukeprint.cli, stages.validate, flukeprint.data.inspection; "
        "sys.exit(str(sorted({'pandas', 'pyarrow', 'scipy', 'torch', 'great_expectations'} & set(sys.modules)) or ''))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).stderr.strip() == b""


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000])
def test_a_file_of_any_size_is_hashed_whole_and_rewound(tmp_path, monkeypatch, size):
    monkeypatch.setattr(inspection, "_BLOCK_BYTES", 8)
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "a.jpg").write_bytes(content)
    record = inspect_photo(tmp_path, "a.jpg")
    assert (record.bytes, record.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert record.fault


def test_a_large_file_is_decoded_like_a_small_one(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    small = inspect_photo(tmp_path, "a.jpg")
    monkeypatch.setattr(inspection, "_BLOCK_BYTES", 100)
    assert inspect_photo(tmp_path, "a.jpg") == small


def test_a_killed_process_is_named(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise BrokenProcessPool

    monkeypatch.setattr("flukeprint.core.worker_processes.ProcessPoolExecutor.map", killed)
    with pytest.raises(FlukeprintError, match="lack of memory"):
        inspect_photos({tmp_path: ["a.jpg"] * 200}, workers=2)


def test_no_progress_where_there_is_no_terminal(tmp_path, capfd):
    picture().save(tmp_path / "a.jpg")
    inspect_photos({tmp_path: ["a.jpg"] * 10})
    assert capfd.readouterr() == ("", "")


def test_odd_metadata_makes_no_noise(tmp_path, capfd, recwarn):
    content = encoded(picture(), "TIFF")
    (tmp_path / "a.tif").write_bytes(content[:-40] + b"\xff" * 40)
    inspect_photo(tmp_path, "a.tif")
    assert capfd.readouterr() == ("", "")
    assert len(recwarn) == 0


def test_resizing_is_that_of_torchvision(tmp_path):
    from torchvision.transforms.functional import InterpolationMode, resize

    picture(300, 170).save(tmp_path / "a.jpg")
    image = Image.open(tmp_path / "a.jpg")
    expected = np.asarray(resize(image, [48, 64], InterpolationMode.BILINEAR))
    found = read_rgb(tmp_path, "a.jpg", (48, 64))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found.transpose(1, 2, 0), expected)


def test_grey_becomes_three_equal_channels(tmp_path):
    picture(mode="L").save(tmp_path / "a.jpg")
    red, green, blue = read_rgb(tmp_path, "a.jpg", (20, 30))
    assert np.array_equal(red, green)
    assert np.array_equal(red, blue)
