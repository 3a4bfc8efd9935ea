import errno
import os
import re
import struct
import subprocess
import sys
import tokenize
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import (
    read_frame,
    read_json,
    read_npy,
    read_parquet,
    read_safetensors,
    read_safetensors_metadata,
    reading,
    sha256_of,
    write_figures,
    write_frame,
    write_json,
    write_npy,
    write_parquet,
    write_safetensors,
)
from flukeprint.core.replacement import replacing, replacing_folder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    folder = tmp_path / "out"
    with replacing_folder(folder) as temporary:
        (temporary / "a").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(folder) as temporary:
        (temporary / "a").write_text("new")
        raise RuntimeError
    assert (folder / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_ends_with_a_message_and_nothing_half_written(tmp_path, monkeypatch):
    def write_on_a_full_disk():
        def refuse(*arguments, **options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "a.npy"))

        monkeypatch.setattr(np, "save", refuse)
        write_npy(tmp_path / "a.npy", np.zeros(3))

    with pytest.raises(SystemExit) as stop:
        exit_cleanly(write_on_a_full_disk)
    assert "no space left on the disk" in str(stop.value)
    assert not os.listdir(tmp_path)


def test_other_os_errors_and_defects_keep_their_traceback():
    def missing():
        raise FileNotFoundError(2, "gone")

    with pytest.raises(FileNotFoundError):
        exit_cleanly(missing)


def test_impossible_names_end_with_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "file" / "a.json", "as if it were a folder"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(SystemExit, match=message):
            exit_cleanly(lambda path=path: write_json(path, {}))


def test_whoever_closes_the_pipe_gets_no_traceback():
    code = "from flukeprint.core.console import exit_cleanly; exit_cleanly(lambda: print('line\\n' * 100_000))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_user_errors_exit_with_a_message():
    def refuse():
        raise FlukeprintError("train.lr is 'abc'")

    with pytest.raises(SystemExit, match="error: train.lr is 'abc'"):
        exit_cleanly(refuse)


def test_same_content_same_bytes(tmp_path):
    table = pd.DataFrame({"Image": ["a.jpg", "b.jpg"], "Id": ["w", "v"]})
    tensors = {"b": torch.arange(4.0), "a": torch.ones(2, 2)}
    for name in ("first", "second"):
        write_frame(tmp_path / f"{name}.parquet", table)
        write_safetensors(tmp_path / f"{name}.safetensors", tensors, {"x": 1, "labels": ["b", "a"]})
        write_json(tmp_path / f"{name}.json", {"b": 1, "a": 2})
        tensors = dict(reversed(tensors.items()))
    for kind in ("parquet", "safetensors", "json"):
        assert (tmp_path / f"first.{kind}").read_bytes() == (tmp_path / f"second.{kind}").read_bytes()


def test_figures_are_written_with_the_digits_that_mean_something(tmp_path):
    """Sums in another order give the same file."""
    for name, noise in (("a", 0.0), ("b", 3e-9)):
        write_figures(
            tmp_path / name,
            {"map5": 0.455179 + noise, "history": [{"lr": 1e-05, "loss": 12.3456789 + noise, "epoch": 1234567}]},
        )
    assert read_json(tmp_path / "a") == {"map5": 0.455, "history": [{"lr": 1e-05, "loss": 12.3, "epoch": 1234567}]}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_figures(tmp_path / "a", {"map5": float("nan")})


def test_safetensors_round_trip_and_refusals(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": torch.ones(2, 3).T}, {"labels": ["ä"]})
    tensors, metadata = read_safetensors(path)
    assert torch.equal(tensors["a"], torch.ones(3, 2))
    assert metadata == {"labels": ["ä"]}
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FlukeprintError, match="not a readable safetensors file"):
        read_safetensors(path)
    with pytest.raises(FlukeprintError, match=r"b\.safetensors is missing"):
        read_safetensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize("read", [read_json, read_npy, read_parquet, read_safetensors, read_safetensors_metadata])
def test_every_reader_names_the_file_and_the_repair_and_opens_regular_files_alone(tmp_path, read):
    (tmp_path / "text").write_bytes(b"\x93 no such file format")
    os.mkfifo(tmp_path / "fifo")
    for name in ("text", "fifo", "."):
        with pytest.raises(FlukeprintError, match=re.escape(f"{tmp_path / name} is not")) as fault:
            read(tmp_path / name, repair="Ask for another copy.")
        assert str(fault.value).endswith("Ask for another copy.")
        assert not isinstance(fault.value, MissingFileError)
    with pytest.raises(FlukeprintError, match="no regular file"):
        read("/dev/zero")
    for missing in (tmp_path / "none", tmp_path / "text" / "none"):
        with pytest.raises(MissingFileError, match=r"none is missing\. .*dvc repro"):
            read(missing)


@pytest.mark.parametrize("read", [read_json, read_npy, read_parquet, read_safetensors, sha256_of])
def test_what_may_not_be_read_is_called_that(tmp_path, monkeypatch, read):
    (tmp_path / "a").write_text("{}")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(FlukeprintError, match="no permission to read .*a. Change its permissions"):
        read(tmp_path / "a")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "/packages/onnx/__init__.py"),
        ModuleNotFoundError("No module named 'onnx'"),
        ImportError("libgomp.so.1: cannot open shared object file"),
    ],
)
def test_a_package_that_cannot_be_imported_is_no_fault_of_the_file(tmp_path, error):
    (tmp_path / "a").write_text("{}")
    with pytest.raises(type(error)) as found, reading(tmp_path / "a", "valid JSON"):
        raise error
    assert found.value is error


@pytest.mark.parametrize(
    "error",
    [tokenize.TokenError("EOF"), zlib.error("x"), IndexError(3), struct.error("y"), MemoryError(), OverflowError()],
)
def test_whatever_a_decoder_raises_names_the_file(tmp_path, error):
    (tmp_path / "a").write_text("x")
    named = rf"a is not a photo \({type(error).__name__}.*\)\. Repair it\."
    with pytest.raises(FlukeprintError, match=named), reading(tmp_path / "a", "a photo", "Repair it."):
        raise error
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "a", "a photo"):
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="full"), reading(tmp_path / "a", "a photo"):
        raise OSError(errno.ENOSPC, "full")


def test_checksums_are_of_regular_files_alone(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(FlukeprintError, match="no regular file"):
            sha256_of(path)


def test_an_array_is_as_long_as_its_header_says(tmp_path):
    write_npy(tmp_path / "a.npy", np.zeros(3))
    content = (tmp_path / "a.npy").read_bytes()
    for changed in (content[:-1], content + b"x", content[:40]):
        (tmp_path / "a.npy").write_bytes(changed)
        with pytest.raises(FlukeprintError, match="not a plain .npy file"):
            read_npy(tmp_path / "a.npy")


def test_tables_come_back_as_pandas_reads_them(tmp_path):
    frame = pd.DataFrame({"a": ["x", None] * 50, "b": range(100), "c": [[1.5, 2.5], None] * 50, "d": [b"x", b"y"] * 50})
    frame = frame.assign(e=frame["a"].astype("category"), f=[["x"], []] * 50)
    for options in (
        {},
        {"data_page_version": "2.0"},
        {"compression": "none", "row_group_size": 7},
        {"use_dictionary": False},
    ):
        pq.write_table(pa.Table.from_pandas(frame), tmp_path / "a.parquet", **options)
        pd.testing.assert_frame_equal(read_frame(tmp_path / "a.parquet"), pd.read_parquet(tmp_path / "a.parquet"))
        assert list(read_frame(tmp_path / "a.parquet", ["b"])) == ["b"]
    with pytest.raises(FlukeprintError, match="100 rows, expected 99"):
        read_parquet(tmp_path / "a.parquet", rows=99)


def test_json_longer_than_it_may_be_is_refused(tmp_path):
    write_json(tmp_path / "a.json", "x" * 100)
    assert read_json(tmp_path / "a.json", most=103) == "x" * 100
    with pytest.raises(FlukeprintError, match="more than 102 bytes"):
        read_json(tmp_path / "a.json", most=102)


def test_arrays_of_another_type_shape_or_order_are_refused(tmp_path):
    write_npy(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    assert read_npy(tmp_path / "a.npy", np.float32, (3, 2)).shape == (3, 2)
    for dtype, shape in ((np.float64, (3, 2)), (np.float32, (2, 3)), (np.float32, (3, 2, 1))):
        with pytest.raises(FlukeprintError, match="holds float32"):
            read_npy(tmp_path / "a.npy", dtype, shape)
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    with pytest.raises(FlukeprintError, match="not a plain"):
        read_npy(tmp_path / "b.npz")


def test_tables_of_other_columns_are_refused(tmp_path):
    schema = pa.schema([("Image", pa.string()), ("Id", pa.int64())])
    write_parquet(tmp_path / "a.parquet", pa.table({"Image": ["a.jpg"], "Id": [1]}, schema=schema))
    assert read_parquet(tmp_path / "a.parquet", columns=["Id"]).to_pydict() == {"Id": [1]}
    with pytest.raises(FlukeprintError, match="Id: int64, expected .*Id: string"):
        read_parquet(tmp_path / "a.parquet", pa.schema([("Image", pa.string()), ("Id", pa.string())]))
    assert read_parquet(tmp_path / "a.parquet", schema).num_rows == 1


def test_a_folder_left_by_a_killed_process_is_in_nobodys_way(tmp_path):
    left = tmp_path / f".out.{os.getpid()}.tmp"
    left.mkdir()
    (left / "half").write_text("")
    with replacing_folder(tmp_path / "out") as temporary:
        (temporary / "a").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FlukeprintError, match="not a plain"):
        read_npy(tmp_path / "a.npy")
