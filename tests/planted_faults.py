"""Every kind of fault, and what is to be found: `python tests/planted_faults.py` plants them and prints a table."""

from __future__ import annotations

import io
import os
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from quality_folder import HEADER, Folder, texture

# --- several in one folder --------------------------------------------------------------------------------


def _bomb(width=50_000, height=50_000):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


# 10,000 x 10,000 px with alpha.
_HEAVY_WEBP = bytes.fromhex("524946461a000000574542505650384c0d0000002f0fe7c319071011118888fe0700")


def _scans(scans):
    """A progressive JPEG whose last scan is repeated."""
    stream = io.BytesIO()
    texture(30).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + content[-2:]


def _socket(path):
    # The name of a socket may not be long.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as one:
        one.bind(f"{folder}/s")
        Path(folder, "s").rename(path)


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def jpeg(seed=0):
    stream = io.BytesIO()
    texture(seed).save(stream, "JPEG")
    return stream.getvalue()


def write_jpeg(path, name):
    path.with_name(name).write_bytes(jpeg(32))


# name of the photo: (what is written, rule, level, what the message says)
PHOTOS = {
    "missing.jpg": (None, "photo_exists", "error", "train/missing.jpg is missing"),
    "zero.jpg": (b"", "photo_decodes", "error", "the file is empty"),
    "page.jpg": (b"<html><body>Not found</body></html>", "photo_decodes", "error", "not an image"),
    "half.jpg": (jpeg()[:900], "photo_decodes", "error", "truncated"),
    "bomb.png": (_bomb(), "photo_decodes", "error", "decompression bomb"),
    "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "photo_decodes", "error", "not an image"),
    "folder.jpg": (lambda path: path.mkdir(), "photo_exists", "error", "is missing (there is 'folder.jpg/')"),
    "cased.jpg": (lambda path: write_jpeg(path, "Cased.JPEG"), "photo_exists", "error", "(there is 'Cased.JPEG')"),
    "raw.nef": (b"II*\0", "photo_decodes", "error", "export it as JPEG"),
    "pipe.jpg": (os.mkfifo, "photo_decodes", "error", "not a regular file"),
    "link.jpg": (lambda path: path.symlink_to("/etc/hostname"), "photo_decodes", "error", "leaves the folder"),
    "tiny.jpg": (texture(20, (40, 12)), "photo_size", "warning", "is 40 x 12 px"),
    "cmyk.jpg": (texture(21).convert("CMYK"), "photo_mode", "warning", "has mode CMYK"),
    "palette.png": (texture(22).quantize(16), "photo_mode", "warning", "has mode P"),
    "alpha.png": (texture(23).convert("RGBA"), "photo_mode", "warning", "has mode RGBA"),
    "deep.png": (texture(24).convert("I;16"), "photo_mode", "warning", "has mode I;16"),
    "grey.jpg": (texture(25).convert("L"), "photo_grey", "warning", "is grey (mode L)"),
    "renamed.png": (jpeg(26), "photo_format", "warning", "is a JPEG file"),
    "turned.jpg": ((texture(27), {"exif": _exif(6)}), "photo_orientation", "warning", "EXIF orientation 6"),
    "turned.tif": ((texture(30), {"exif": _exif(8)}), "photo_orientation", "warning", "orientation 8"),
    "profile.jpg": ((texture(31), {"icc_profile": b"none"}), "photo_profile", "warning", "cannot be read"),
    "moving.gif": (
        (texture(28), {"save_all": True, "append_images": [texture(29)]}),
        "photo_frames",
        "warning",
        "holds 2 pictures",
    ),
    "blank.jpg": (Image.new("RGB", (64, 48), "white"), "photo_contrast", "warning", "has 0.00"),
    "large.png": (_bomb(10_080, 10_000), "photo_decodes", "error", "of validate.max_pixels"),
    "thin.png": (_bomb(1, 100_000_000), "photo_decodes", "error", "a side longer than 65535"),
    "heavy.webp": (_HEAVY_WEBP, "photo_decodes", "error", "would take 1900 MB of memory"),
    "scans.jpg": (
        lambda path: path.write_bytes(_scans(200)),
        "photo_decodes",
        "error",
        "a JPEG of more than 100 scans",
    ),
    "socket.jpg": (_socket, "photo_decodes", "error", "not a regular file"),
}
# line of train.csv: (rule, level, what the message says)
ROWS = {
    "../secret.jpg,w_a": ("plain_names", "error", "Image is '../secret.jpg'"),
    "/etc/passwd,w_a": ("plain_names", "error", "Image is '/etc/passwd'"),
    "sub/x.jpg,w_a": ("plain_names", "error", "Image is 'sub/x.jpg'"),
    "..\\x.jpg,w_a": ("plain_names", "error", r"Image is '..\\x.jpg'"),
    ".hidden.jpg,w_a": ("plain_names", "error", "Image is '.hidden.jpg'"),
    '"two\nlines.jpg",w_a': ("plain_names", "error", r"Image is 'two\nlines.jpg'"),
    "t00.jpg,w_b": ("photo_listed_once", "error", "listed more than once (2, "),
    ",w_a": ("blank_cells", "error", "an empty cell in ',w_a'"),
    "t01.jpg,": ("blank_cells", "error", "an empty cell"),
    "t02.jpg,w\x07a": ("label_characters", "error", r"Id is 'w\x07a'"),
    "t03.jpg,w_\u200ba": ("label_characters", "error", r"Id is 'w_\u200ba'"),
    "t09.jpg,w/a": ("label_characters", "error", r"Id is 'w/a'"),
    "t10.jpg,.wa": ("label_characters", "error", r"Id is '.wa'"),
    "t04.jpg,w a": ("label_pattern", "error", "Id is 'w a'"),
    "t05.jpg," + "w" * 65: ("label_pattern", "error", "Id is 'www"),
    "t06.jpg,=1+1": ("formula_cells", "error", "Id is '=1+1'"),
    "@sum.jpg,w_a": ("formula_cells", "error", "Image is '@sum.jpg'"),
    "t07.jpg,W-A": ("label_spelling", "warning", "Id is 'W-A', which looks like 'w_a'"),
    "u1.jpg,New_Whale": ("label_spelling", "warning", "Id is 'New_Whale', which looks like 'new_whale'"),
    "t11.jpg,001": ("photo_listed_once", "error", "listed more than once"),
    "u2.jpg,1.0": ("label_spelling", "warning", "Id is '1.0', which looks like '001'"),
    "t11.jpg,Jose\u0301": ("photo_listed_once", "error", "listed more than once"),
    "u3.jpg,Jos\u00e9": ("label_spelling", "warning", r"which looks like 'Jose\u0301'"),
    "u4.jpg,Unknown": ("label_unknown", "warning", "Id is 'Unknown', which says that nobody knows"),
    "u5.jpg,n/a": ("label_unknown", "warning", "Id is 'n/a', which says that nobody knows"),
    "u6.jpg,?": ("label_unknown", "warning", "Id is '?', which says that nobody knows"),
    "t08.jpg,w_a,more": ("table_rows", "error", "3 cells (t08.jpg,w_a,more), expected 2"),
    "Image,Id": ("table_rows", "error", "the header once more"),
}
# in test/ and sample_submission.csv: (rule, level, where, what the message says)
TEST = {
    "photo without a row": ("photo_unlisted", "warning", "train/", "train/unlisted.jpg is not in train.csv"),
    "test photo without a row": (
        "submission_matches_test",
        "error",
        "test/",
        "'extra.jpg' is in test/, not in sample_submission.csv",
    ),
    "row without a test photo": (
        "submission_matches_test",
        "error",
        "sample_submission.csv row 5",
        "'absent.jpg' is in sample_submission.csv, not in",
    ),
    "truncated test photo": ("photo_decodes", "error", "sample_submission.csv row 6", "test/q9.jpg: truncated"),
    "test photo listed twice": (
        "photo_listed_once",
        "error",
        "sample_submission.csv row 7",
        "'q0.jpg' is listed more than once (2, 7)",
    ),
    "test photo in another case": (
        "submission_matches_test",
        "error",
        "sample_submission.csv row 8",
        "'cased.jpg' is in sample_submission.csv, not in test/ (there is 'Cased.JPG')",
    ),
    "raw file without a photo": ("photo_raw", "warning", "test/", "test/IMG_1.CR2 is a raw file of a camera"),
    "file name with a newline": ("plain_names", "error", "test/", r"Image is 'new\nline.jpg'"),
    "file name that is not UTF-8": ("plain_names", "error", "test/", r"Image is 'caf\\xe9.jpg'"),
}


def plant_all(folder: Folder) -> dict[str, int]:
    """Plant the faults of PHOTOS, ROWS and TEST; return the row of train.csv of each of the first two."""
    rows = {}
    for name, (content, *_) in PHOTOS.items():
        write_photo(folder.path / "train" / name, content)
        rows[name] = len(folder.lines()) + 1
        folder.add_row(f"{name},w_c")
    text = (folder.path / "train.csv").read_text()
    for line in ROWS:
        rows[line] = text.count("\n") + 1
        text += line + "\n"
    (folder.path / "train.csv").write_text(text, encoding="utf-8")
    _spoil_test(folder)
    return rows


def write_photo(path, content):
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        image, options = content if isinstance(content, tuple) else (content, {})
        image.save(path, **options)


def _spoil_test(folder):
    folder.save("train/unlisted.jpg", texture(40))
    folder.save("test/extra.jpg", texture(41))
    folder.add_row("absent.jpg,new_whale", "sample_submission.csv")
    folder.save("test/q9.jpg", texture(42))
    (folder.path / "test/q9.jpg").write_bytes(jpeg(42)[:700])
    folder.add_row("q9.jpg,new_whale", "sample_submission.csv")
    folder.add_row("q0.jpg,new_whale", "sample_submission.csv")
    folder.add_row("cased.jpg,new_whale", "sample_submission.csv")
    folder.save("test/Cased.JPG", texture(45))
    (folder.path / "test/IMG_1.CR2").write_bytes(b"II*\0")
    (folder.path / "test/new\nline.jpg").write_bytes(jpeg(43))
    Path(os.fsdecode(os.fsencode(folder.path / "test") + b"/caf\xe9.jpg")).write_bytes(jpeg(44))


# --- one in a folder of its own ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    plant: Callable[[Folder], object]
    rule: str
    level: str
    where: str
    says: str
    bounds: Mapping[str, Any] = field(default_factory=dict)


def _remove(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _replace_by_folder(path):
    path.unlink()
    path.mkdir()


def _replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def _labels(folder, labels):
    folder.write("train.csv", [HEADER, *(f"t{number:02}.jpg,{label}" for number, label in enumerate(labels))])


def _copy(folder, label):
    folder.save("train/copy.jpg", texture(0), quality=60)
    folder.add_row(f"copy.jpg,{label}")


def _exclude(folder, text):
    (folder.path.parent / "exclusions.csv").write_text(text)


_SHARED = "t00.jpg (row 2, w_a), copy.jpg (row 14, w_b)"
ALONE = {
    "no train.csv": Fault(lambda f: (f.path / "train.csv").unlink(), "layout", "error", "train.csv", "is missing"),
    "no sample_submission.csv": Fault(
        lambda f: (f.path / "sample_submission.csv").unlink(), "layout", "error", "sample_submission.csv", "is missing"
    ),
    "train.csv in capitals": Fault(
        lambda f: (f.path / "train.csv").rename(f.path / "TRAIN.CSV"),
        "layout",
        "error",
        "train.csv",
        "is missing (there is 'TRAIN.CSV')",
    ),
    "test/ in capitals": Fault(
        lambda f: (f.path / "test").rename(f.path / "Test"), "layout", "error", "test/", "(there is 'Test/')"
    ),
    "no test/": Fault(lambda f: _remove(f.path / "test"), "layout", "error", "test/", "is missing"),
    "train.csv is a folder": Fault(
        lambda f: _replace_by_folder(f.path / "train.csv"), "layout", "error", "train.csv", "is not a regular file"
    ),
    "train.csv is a pipe": Fault(
        lambda f: _replace_by_pipe(f.path / "train.csv"), "layout", "error", "train.csv", "is not a regular file"
    ),
    "other columns": Fault(
        lambda f: f.set_row(1, "file,whale"),
        "table_header",
        "error",
        "train.csv",
        "'file,whale', expected 'Image,Id'",
    ),
    "semicolons": Fault(
        lambda f: f.write("train.csv", [line.replace(",", ";") for line in f.lines()]),
        "table_header",
        "error",
        "train.csv",
        "'Image;Id'",
    ),
    "empty table": Fault(
        lambda f: f.write("train.csv", []), "table_header", "error", "train.csv", "the file holds nothing"
    ),
    "header only": Fault(
        lambda f: f.write("train.csv", [HEADER]), "row_count", "error", "train.csv", "0 rows below the header"
    ),
    "more rows than allowed": Fault(
        lambda _: None, "row_count", "error", "train.csv", "more than 5 rows below", {"rows": [2, 5]}
    ),
    "Excel workbook": Fault(
        lambda f: (f.path / "train.csv").write_bytes(b"PK\x03\x04" + bytes(99)),
        "table_rows",
        "error",
        "train.csv row 1",
        "Excel workbook",
    ),
    "unclosed quote": Fault(
        lambda f: f.set_row(4, 't02.jpg,"w_a'), "table_rows", "error", "train.csv row 4", "not valid CSV"
    ),
    "row that is not UTF-8": Fault(
        lambda f: (f.path / "train.csv").write_bytes((f.path / "train.csv").read_bytes() + b"caf\xe9.jpg,w_a\n"),
        "table_rows",
        "error",
        "train.csv row 14",
        r"not UTF-8 (caf\xe9.jpg,w_a)",
    ),
    "a date in another spelling": Fault(
        lambda f: f.write("train.csv", [f"{HEADER},taken_at", *(f"{line},1.7.2024" for line in f.lines()[1:2])]),
        "taken_at_format",
        "error",
        "train.csv row 2",
        "taken_at is '1.7.2024'",
        {"rows": [1, 5]},
    ),
    "one label": Fault(lambda f: _labels(f, ["w_a"] * 12), "label_count", "error", "train.csv", "1 distinct labels"),
    "nearly all new_whale": Fault(
        lambda f: _labels(f, ["new_whale"] * 11 + ["w_a"]), "new_whale_share", "warning", "train.csv", "is 0.917"
    ),
    "copy under the same label": Fault(
        lambda f: _copy(f, "w_a"), "near_duplicates", "warning", "train.csv", "cluster 0: t00.jpg (row 2, w_a), copy"
    ),
    "copy under another label": Fault(
        lambda f: _copy(f, "w_b"), "conflicting_labels", "warning", "train.csv", f"cluster 0 has 2 labels: {_SHARED}"
    ),
    "two ids that share a picture": Fault(
        lambda f: _copy(f, "w_b"), "paired_labels", "warning", "train.csv", "w_a and w_b share 1 cluster(s)"
    ),
    "train photo in test/": Fault(
        lambda f: f.save("test/q2.jpg", texture(8), quality=60),
        "test_in_train",
        "warning",
        "sample_submission.csv row 4",
        "test/q2.jpg is the same picture as train/t08.jpg",
    ),
    "exclusion of no photo": Fault(
        lambda f: _exclude(f, "Image,reason\nnone.jpg,typing error\n"),
        "exclusions_known",
        "warning",
        "exclusions.csv row 2",
        "'none.jpg' is not in train.csv",
    ),
    "exclusion without a reason": Fault(
        lambda f: _exclude(f, "Image,reason\nt11.jpg,\n"),
        "blank_cells",
        "error",
        "exclusions.csv row 2",
        "an empty cell in 't11.jpg,'",
    ),
}


# --- the table --------------------------------------------------------------------------------------------


def main() -> None:
    """Plant every fault and print what was found of it."""
    sys.stdout.write("| fault | rule | severity | where | message |\n|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Folder.make(Path(temporary) / "all")
        rows = plant_all(folder)
        checked = _checked(folder)
        for faults in (PHOTOS, ROWS):
            for name, values in faults.items():
                rule, _, says = values[-3:]
                _print(name, checked, rule, f"train.csv row {rows[name]}", says)
        for name, (rule, _, where, says) in TEST.items():
            _print(name, checked, rule, where, says)
        for number, (name, fault) in enumerate(ALONE.items()):
            folder = Folder.make(Path(temporary) / str(number) / "raw")
            fault.plant(folder)
            _print(name, _checked(folder, fault.bounds), fault.rule, fault.where, fault.says)


def _checked(folder, bounds=None):
    from flukeprint.core.params import load_params
    from flukeprint.quality.check import check_folder

    params = load_params(("validate",)).validate.model_copy(update=dict(bounds or {}))
    return check_folder(folder.path, params, exclusions=folder.path.parent / "exclusions.csv")


def _print(name, checked, rule, where, says):
    finding = next(finding for finding in checked.findings if finding.rule == rule)
    cases = [case.says for case in finding.cases if case.where == where and says in case.says]
    said = cases[0].replace("|", "\\|") if cases else "NOT FOUND"
    said = said if len(said) <= 90 else f"{said[:90]}..."
    sys.stdout.write(
        f"| {name.encode('unicode_escape').decode()[:40]} | {rule} | {finding.level} | {where} | {said} |\n"
    )


if __name__ == "__main__":
    main()
