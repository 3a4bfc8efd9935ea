"""Files that are either complete or absent: write under a temporary name, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.core.errors import FlukeprintError, MissingFileError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import DTypeLike

# What to do about a file that the pipeline writes.
REPAIR = "Run `dvc repro` to make it; remove it first if it is there."
_MOST_JSON = 1 << 28  # bytes
# Of a figure in metrics/: the share of some hundred queries has no more, and no page shows more.
DIGITS = 3
_LONGEST_REASON = 300  # characters
# By which readers refuse what they cannot read.
_FAULTS: tuple[type[Exception], ...] = (OSError, ValueError, EOFError, RecursionError)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
        _take_place(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place on success, and is removed on failure."""
    with replacing(path) as temporary:
        temporary.mkdir()
        yield temporary


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _take_place(new: Path, path: Path) -> None:
    """Rename to `path`. What a folder replaces is moved aside first, and removed when the new one is in place."""
    if not (new.is_dir() and path.exists()):
        new.replace(path)
        return
    old = new.with_suffix(".old")
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old) if old.is_dir() else old.unlink()


@contextmanager
def reading(path: Path | str, kind: str, repair: str = REPAIR, *faults: type[Exception]) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one error that names it, what it should be and the repair.

    A missing file is a MissingFileError, all else a FlukeprintError. A FIFO, which may wait for ever, or a device,
    which may never end, is not opened. `faults` are exceptions by which a decoder refuses, beyond those of `_FAULTS`.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise ValueError("no regular file")
        yield
    except (FlukeprintError, PermissionError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{path} is missing. {repair}") from None
    except (*_FAULTS, *faults) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise FlukeprintError(f"{path} is not {kind} ({reason}). {repair}") from None


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as sorted, indented JSON. NaN and infinity are refused (they are not JSON)."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode())


def write_figures(path: Path | str, value: Any) -> None:
    """Write what was measured, as `write_json` does, with DIGITS digits of every float.

    metrics/ is in git, so that digits that hang on the machine's rounding would be changes that nobody made.
    """
    write_json(path, _with_digits(value))


def _with_digits(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_digits(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_digits(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def read_json(path: Path | str, repair: str = REPAIR, most: int = _MOST_JSON) -> Any:
    """Read a JSON file of at most `most` bytes; a missing or malformed one is a FlukeprintError that names it."""
    with reading(path, "valid JSON", repair), Path(path).open("rb") as stream:
        content = stream.read(most + 1)
        if len(content) > most:
            raise ValueError(f"more than {most} bytes")
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def write_parquet(path: Path | str, table: pa.Table) -> None:
    """Write an Arrow table as zstd-compressed Parquet; the same table gives the same bytes."""
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write one array as .npy (no pickled objects)."""
    import numpy as np

    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


def write_frame(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a pandas table as Parquet, without its index."""
    import pyarrow as pa

    write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))


def read_npy(
    path: Path | str, dtype: DTypeLike | None = None, shape: tuple[int, ...] | None = None, repair: str = REPAIR
) -> np.ndarray:
    """Open an .npy file as a read-only memory map; objects are never unpickled.

    Where `dtype` and `shape` are given, an array of another type, shape or order than C is refused.
    """
    import numpy as np

    with reading(path, "a plain .npy file", repair):
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    if shape is not None and (array.dtype, array.shape, array.flags.c_contiguous) != (np.dtype(dtype), shape, True):
        raise FlukeprintError(
            f"{path} holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape} in C order. {repair}"
        )
    return array


def read_parquet(
    path: Path | str,
    schema: pa.Schema | None = None,
    columns: list[str] | None = None,
    repair: str = REPAIR,
    source: pa.NativeFile | None = None,
) -> pa.Table:
    """Read a Parquet table, or these columns of it.

    Where a `schema` is given, a table of other columns or types is refused before it is read. Where there is a
    `source`, a table in memory, `path` is for messages alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        reading(path, "a readable Parquet file", repair, pa.ArrowException, TypeError),
        pq.ParquetFile(source or path) as file,
    ):
        if schema is not None and not file.schema_arrow.equals(schema):
            raise ValueError(f"its columns are {_columns(file.schema_arrow)}, expected {_columns(schema)}")
        table = file.read(columns)
        table.validate(full=True)
        return table


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def write_safetensors(path: Path | str, tensors: Mapping[str, Any], metadata: Any = None) -> None:
    """Write torch tensors as safetensors; `metadata` (JSON-able) goes under the single key `json`.

    One key only: with several, safetensors' header order, and so the file's bytes, vary from run to run.
    """
    from safetensors.torch import save

    header = None if metadata is None else {"json": json.dumps(metadata, sort_keys=True)}
    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header))


def read_safetensors(path: Path | str, repair: str = REPAIR) -> tuple[dict[str, Any], Any]:
    """Return (tensors on the CPU, metadata) of a file that `write_safetensors` made; runs no code from it."""
    with _opened_tensors(path, "pt", repair) as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, _metadata(file)


def read_safetensors_metadata(path: Path | str, repair: str = REPAIR) -> Any:
    """Return the metadata of a file that `write_safetensors` made, without its tensors and without torch."""
    with _opened_tensors(path, "np", repair) as file:
        return _metadata(file)


@contextmanager
def _opened_tensors(path: Path | str, framework: str, repair: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    with (
        reading(path, "a readable safetensors file", repair, SafetensorError),
        safe_open(str(path), framework=framework) as file,
    ):
        yield file


def _metadata(file: Any) -> Any:
    header = file.metadata() or {}
    return json.loads(header["json"]) if "json" in header else None


def sha256_of(*paths: Path | str) -> str:
    """Return the hex SHA-256 over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()
