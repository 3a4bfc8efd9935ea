"""Files of under 1 MB that once took gigabytes, minutes, or an exception that nobody caught, by their kind.

`python tests/bombs.py` reads each as users would, in a process of its own, and prints how that ended.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx  # noqa: F401 - imported once, before processes are forked
import pandas as pd  # noqa: F401
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fuzz import KINDS, _sign
from good_files import make_good, network
from PIL import Image
from quality_folder import texture
from watched import SECONDS, watched

from flukeprint.bundle.album import _SCHEMA as ALBUM_SCHEMA
from flukeprint.bundle.bundle_manifest import write_manifest
from flukeprint.bundle.onnx_members import INPUT, OPSET, OUTPUT
from flukeprint.core.files import read_json, sha256_of
from flukeprint.core.manifests import FileRecord
from flukeprint.retrieval.gallery import photo_schema
from flukeprint.retrieval.gallery_manifest import data_file_name

Make = Callable[[Path], object]  # spoils a copy of a good input in place


def content(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


# --- photos -----------------------------------------------------------------------------------------------


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes | None = None) -> bytes:
    """Return a PNG of zeros, packed as tightly as zlib can; `colour` is 0 for grey, 2 for RGB, 6 for RGBA."""
    if data is None:
        row, packer = bytes(1 + (width * depth * {0: 1, 2: 3, 6: 4}[colour] + 7) // 8), zlib.compressobj(9)
        many = row * max(1, (1 << 20) // len(row))
        rows = height // (len(many) // len(row)), height % (len(many) // len(row))
        data = b"".join(packer.compress(many) for _ in range(rows[0])) + packer.compress(row * rows[1]) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(part).to_bytes(4) + kind + part + zlib.crc32(kind + part).to_bytes(4) for kind, part in parts
    )


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _webp() -> bytes:
    return _saved(Image.new("RGBA", (10_000, 10_000)), "WEBP", lossless=True, method=0, quality=0)


def _scans(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, of hardly any bytes, is repeated."""
    plain = _saved(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * scans + b"\xff\xd9"


def _tiff_tags() -> bytes:
    """A TIFF of 60,000 tags that all say that they hold the whole file."""
    entries = 60_000
    tags = b"".join(struct.pack("<HHII", tag, 1, 12 * entries, 8) for tag in range(1000, 1000 + entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + tags + bytes(4)


def _gif_frames() -> bytes:
    good = _saved(
        texture(1, (8, 8)).convert("P"), "GIF", save_all=True, append_images=[texture(2, (8, 8)).convert("P")]
    )
    start = good.rindex(b"\x21\xf9")
    return good[:start] + good[start:-1] * 3000 + b";"


# --- tables and arrays ------------------------------------------------------------------------------------


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue().to_pybytes()


def _repeated(rows: int, value: str = "a") -> bytes:
    """A gallery's table in which every cell holds the same."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
    return parquet(pa.table(dict.fromkeys(photo_schema().names, column)), store_schema=False)


def _lying(data: bytes) -> bytes:
    """Say in the footer of a Parquet file that all its columns and row groups unpack to next to nothing."""
    metadata = pq.read_metadata(io.BytesIO(data)).row_group(0)
    sizes = {
        metadata.total_byte_size,
        *(metadata.column(n).total_uncompressed_size for n in range(metadata.num_columns)),
    }
    length = struct.unpack("<I", data[-8:-4])[0]
    body, footer = data[: -8 - length], data[-8 - length :]
    for size in sizes:
        said = _varint(2 * size)
        assert said in footer
        footer = footer.replace(said, bytes([0x82] + [0x80] * (len(said) - 2) + [0]))
    return body + footer


def _varint(number: int) -> bytes:
    """Return a number as Thrift writes it."""
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def _gallery_of(data: bytes, part: str = "photos", **changes: object) -> Make:
    def make(folder: Path) -> None:
        manifest = read_json(folder / "gallery.json")
        (folder / "new").write_bytes(data)
        record = FileRecord.of(folder / "new")
        (folder / "new").rename(folder / data_file_name(part, record))
        manifest["files"][part] = record.model_dump()
        _sign(folder, "gallery.json", {**manifest, **changes})

    return make


def _album_of(data: bytes) -> Make:
    def make(path: Path) -> None:
        path.write_bytes(data)
        path.write_bytes(sha256_of(path).encode() + b"\n" + data)

    return make


def _pictures(megabytes: int) -> pa.Table:
    picture = b"\xff\xd8\xff" + bytes(megabytes << 20)
    rows = [{"sha256": f"{n:064x}", "phash": n, "thumbnail": bytes(1024), "picture": picture} for n in range(3)]
    return pa.Table.from_pylist(rows, ALBUM_SCHEMA)


def npy(shape: tuple[int, ...], kind: str = "<f4", data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def _archive(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros(3))


# --- networks ---------------------------------------------------------------------------------------------


def _graph(nodes: list, constants: dict[str, np.ndarray], batch: str = "n") -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    model = network()
    ends = [model.graph.input[0], helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9).SerializeToString()


def _mean(source: str = INPUT) -> list:
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", [source], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
    ]


AXES = {"axes": np.array([2, 3])}


def _constant(elements: int) -> bytes:
    from onnx import helper

    nodes = [
        *_mean(), helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMean", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], [OUTPUT]),
    ]  # fmt: skip
    return _graph(nodes, {**AXES, "shape": np.array([elements])})


def _doubling(times: int) -> bytes:
    from onnx import helper

    nodes = [*_mean(), helper.make_node("Relu", ["mean"], ["y0"])]
    nodes += [helper.make_node("Concat", [f"y{n}", f"y{n}"], [f"y{n + 1}"], axis=1) for n in range(times)]
    return _graph([*nodes, helper.make_node("Relu", [f"y{times}"], [OUTPUT])], AXES)


def _long() -> bytes:
    """A chain of products of large matrices that are made of two small vectors."""
    from onnx import helper

    nodes = [*_mean(), helper.make_node("Mul", ["column", "row"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{n}", "m0"], [f"m{n + 1}"]) for n in range(500)]
    nodes += [
        helper.make_node("ReduceMean", ["m500"], ["last"], keepdims=0),
        helper.make_node("Add", ["mean", "last"], [OUTPUT]),
    ]  # fmt: skip
    side = 3000
    small = np.full(side, 1e-2, np.float32)
    return _graph(nodes, {**AXES, "column": small.reshape(-1, 1), "row": small.reshape(1, -1)})


def _loop() -> bytes:
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])], "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )  # fmt: skip
    nodes = [
        *_mean(),
        helper.make_node("Loop", ["many", "true"], [], body=body),
        helper.make_node("Relu", ["mean"], [OUTPUT]),
    ]
    return _graph(nodes, {**AXES, "many": np.array(2**62), "true": np.array(True)})


def _one_row() -> bytes:
    from onnx import helper

    nodes = [*_mean(), helper.make_node("ReduceMean", ["mean", "first"], [OUTPUT], keepdims=1)]
    return _graph(nodes, {**AXES, "first": np.array([0])})


def _member(data: bytes) -> Make:
    def make(folder: Path) -> None:
        (folder / "members/m1.onnx").write_bytes(data)
        (folder / "manifest.json").unlink()
        write_manifest(folder)
        shutil.copyfile(folder.parents[1] / "good/photo/0.jpg", folder.parent / "q.jpg")

    return make


def _torch_file() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1 << 20)[:1].expand(1 << 30)}, stream)
    stream.seek(0)
    packed = io.BytesIO()
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


def _nested(folder: Path) -> None:
    (folder / "/".join("d" * 600)).mkdir(parents=True)


def _laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


ACCEPTED = ""
BUSY = 4  # times as long as it should take, which a busy machine may
# name: (kind, how it is made, what the refusal says)
BOMBS: dict[str, tuple[str, Callable[[], Make], str]] = {
    "WebP of 10,000 x 10,000 with alpha": ("photo", lambda: content(_webp()), "1900 MB of memory"),
    "PNG of 1 x 100,000,000": ("photo", lambda: content(png(1, 100_000_000, depth=1, colour=0)), "a side longer than"),
    "PNG of 10,080 x 10,000": ("photo", lambda: content(png(10_080, 10_000)), "validate.max_pixels"),
    "PNG of 9,900 x 9,900 with alpha": ("photo", lambda: content(png(9_900, 9_900, colour=6)), ACCEPTED),
    "JPEG of 100 scans": ("photo", lambda: content(_scans(6_000, 100)), "scans"),
    "TIFF of many tags": ("photo", lambda: content(_tiff_tags()), "not an image"),
    "GIF of many pictures": ("photo", lambda: content(_gif_frames()), ACCEPTED),
    "gallery of 30 million rows": (
        "gallery", lambda: _gallery_of(_repeated(30_000_000), photos=30_000_000), "decompression bomb"
    ),
    "gallery of one long name, repeated": (
        "gallery", lambda: _gallery_of(_repeated(60_000, "x" * 30_000), photos=60_000), "decompression bomb"
    ),
    "gallery whose rows are not those of gallery.json": (
        "gallery", lambda: _gallery_of(_repeated(40)), "it has 40 rows, expected 6"
    ),
    "gallery whose vectors are longer than their file": (
        "gallery", lambda: _gallery_of(npy((6, 1 << 40)), "vectors", dimension=1 << 40), "not a plain .npy file"
    ),
    "album of three pictures of 100 MB": ("album", lambda: _album_of(parquet(_pictures(100))), "decompression bomb"),
    "album whose footer lies": ("album", lambda: _album_of(_lying(parquet(_pictures(100)))), "decompression bomb"),
    "array of no bytes, but many elements": ("npy", lambda: content(npy((1 << 60,), "<U0")), "not a plain .npy file"),
    "cut header of an array": ("npy", lambda: content(npy((2, 3))[:60] + b"\n"), "not a plain .npy file"),
    "archive of arrays": ("npy", lambda: _archive, "not a plain .npy file"),
    "nested JSON": ("decision", lambda: content(b'{"a":' * 100_000), "not valid JSON"),
    "JSON nested less deep": ("decision", lambda: content(b'{"a":' * 400 + b"1" + b"}" * 400), "levels deep"),
    "YAML that laughs": ("params", lambda: content(_laughs()), "alias *a0"),
    "YAML in UTF-16": ("params", lambda: content("seed: 1".encode("utf-16")), "not valid YAML"),
    "YAML of one megabyte": ("params", lambda: content(b"- [[], []]\n" * 90_000), "more than"),
    "YAML nested": ("params", lambda: content(b"[" * 60_000), "not valid YAML"),
    "YAML with a date that is none": ("params", lambda: content(b"seed: 2001-99-99"), "not valid YAML"),
    "weights that are a text file": ("weights", lambda: content(b"hello\n"), "not a state dict"),
    "weights that are packed": ("weights", lambda: content(_torch_file()), "compressed"),
    "ONNX that makes 6 GB": ("bundle", lambda: _member(_constant(1_500_000_000)), "bytes of memory"),
    "ONNX that doubles 30 times": ("bundle", lambda: _member(_doubling(30)), "bytes of memory"),
    "ONNX that takes for ever": ("bundle", lambda: _member(_long()), "s for two photos"),
    "ONNX with a loop": ("bundle", lambda: _member(_loop()), "holds Loop"),
    "ONNX that gives one row for any batch": ("bundle", lambda: _member(_one_row()), "a vector for each"),
    "bundle with folders in folders": ("bundle", lambda: _nested, "does not belong to the bundle"),
}  # fmt: skip


def main() -> None:
    """Read each, and print how it ended as JSON."""
    names = [name for name in BOMBS if not sys.argv[1:] or name in sys.argv[1:]]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        good = watched(lambda: make_good(Path(folder) / "good"), 300, 1 << 20)
        if good.outcome != "accepted":
            sys.exit(str(good))
        for number, name in enumerate(names):
            work = Path(folder) / str(number)
            made = watched(partial(_make, Path(folder) / "good", name, work), 300, 1 << 20)
            if made.outcome != "accepted":
                sys.exit(f"{name}: {made}")
            [path] = [path for path in work.iterdir() if path.name != "q.jpg"]
            size = (
                path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.glob("*") if p.is_file())
            )
            found[name] = [*watched(partial(KINDS[BOMBS[name][0]].read, path), BUSY * SECONDS), size]
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def _make(good: Path, name: str, work: Path) -> None:
    """Copy a good input of the kind and spoil it, in a process of its own: that takes memory, too."""
    kind, make, _ = BOMBS[name]
    source = good / (KINDS[kind].of or kind)
    source = source if KINDS[kind].of else min(source.iterdir())
    work.mkdir()
    target = work / source.name
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    make()(target)


if __name__ == "__main__":
    main()
