"""Files of every kind, written whole or not at all, and read with one kind of error for all that may be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.replacement import NO_SPACE, replacing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import DTypeLike

# What to do about a file that the pipeline writes.
REPAIR = "Run `dvc repro` to make it; remove it first if it is there."
_MOST_JSON = 1 << 28  # bytes
_DEEPEST = 64  # levels of a nested document; no file of ours has ten
# Of a figure in metrics/: the share of some hundred queries has no more, and no page shows more.
DIGITS = 3
_LONGEST_REASON = 300  # characters
_BLOCK = 1 << 20  # bytes


@contextmanager
def reading(path: Path | str, kind: str, repair: str = REPAIR) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one error that names it, what it should be and the repair.

    A missing file is a MissingFileError, all else a FlukeprintError. What is no regular file is not opened: a FIFO may
    wait for ever, a device never end. Any exception counts as the file's fault, since decoders of hostile bytes raise
    anything: keep what may fail for another reason out of the block. A package that cannot be imported meanwhile is not
    the file's fault, nor is another file without permission: both are raised as they are.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise ValueError("no regular file")
        yield
    except (FlukeprintError, ImportError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{path} is missing. {repair}") from None
    except PermissionError as error:
        if error.filename is not None and str(error.filename) != str(path):
            raise
        raise FlukeprintError(f"no permission to read {path}. Change its permissions.") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise  # of what is written meanwhile
        # Of some exceptions the text is but a key, or nothing.
        fault, said = f"is not {kind}", str(error) if " " in str(error) else f"{type(error).__name__} {error}"
        if isinstance(error, OSError) and error.errno is not None:
            fault, said = "cannot be read", os.strerror(error.errno)
        reason = " ".join(said.split())[:_LONGEST_REASON]
        raise FlukeprintError(f"{path} {fault} ({reason}). {repair}") from None


def read_bytes(path: Path | str, kind: str, repair: str = REPAIR, most: int | None = None) -> bytes:
    """Read a file of at most `most` bytes."""
    with reading(path, kind, repair), Path(path).open("rb") as stream:
        content = stream.read(-1 if most is None else most + 1)
        if most is not None and len(content) > most:
            raise ValueError(f"more than {most} bytes")
    return content


def refuse_deep(value: Any) -> None:
    """Raise a ValueError for lists and mappings in one another so deep that walking through them could fail."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [part for one in level if isinstance(one, dict | list) for part in _parts(one)]
    if level:
        raise ValueError(f"nested more than {_DEEPEST} levels deep")


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


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
    content = read_bytes(path, "valid JSON", repair, most)
    with reading(path, "valid JSON", repair):
        return _parsed(content.decode("utf-8"))


def _parsed(text: str) -> Any:
    value = json.loads(text, parse_constant=_refuse_constant)
    refuse_deep(value)
    return value


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
        # What is no file to NumPy is written to by Python: NumPy itself says of a full disk neither errno nor name.
        np.save(cast("IO[bytes]", SimpleNamespace(write=stream.write)), array, allow_pickle=False)


def create_npy(path: Path | str, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """Write an .npy file of zeros and return its array, to be filled in place.

    Its room on the disk is taken here: a full disk is an OSError now, where a write into the array would be the
    process's end (SIGBUS).
    """
    import numpy as np

    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with Path(path).open("r+b") as stream:
        _take_room(stream, array.offset, array.nbytes)
    return array


def _take_room(stream: IO[bytes], start: int, size: int) -> None:
    """Let the disk keep room for a part of a file that holds nothing yet."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, start + size)
        return
    stream.seek(start)
    for written in range(0, size, _BLOCK):
        stream.write(bytes(min(_BLOCK, size - written)))


def write_frame(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a pandas table as Parquet, without its index."""
    import pyarrow as pa

    write_parquet(path, pa.Table.from_pandas(frame, preserve_index=False))


def read_npy(
    path: Path | str, dtype: DTypeLike | None = None, shape: tuple[int, ...] | None = None, repair: str = REPAIR
) -> np.ndarray:
    """Open an .npy file as a read-only memory map; objects are never unpickled.

    A file that is not as long as its header says is refused. Where `dtype` and `shape` are given, an array of another
    type, shape or order than C is refused.
    """
    import numpy as np

    with reading(path, "a plain .npy file", repair):
        array: np.memmap = np.lib.format.open_memmap(path, mode="r")
        bytes_ = array.offset + array.nbytes
        if bytes_ != Path(path).stat().st_size or not array.itemsize:
            raise ValueError(f"its header tells of {bytes_} bytes")
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
    source: pa.Buffer | None = None,
    rows: int | None = None,
) -> pa.Table:
    """Read a Parquet table, or these columns of it.

    Before it is read, a table that would fill the memory is refused (parquet_bounds.py), and where a `schema` or a
    number of `rows` is given, one of other columns, types or length. Where there is a `source`, a table in memory,
    `path` is for messages alone.
    """
    from flukeprint.core.parquet_bounds import read_bounded

    with reading(path, "a readable Parquet file", repair):
        return read_bounded(path if source is None else source, schema, columns, rows)


def read_frame(path: Path | str, columns: list[str] | None = None, repair: str = REPAIR) -> pd.DataFrame:
    """Read a Parquet table, or these columns of it, as pandas does."""
    table = read_parquet(path, columns=columns, repair=repair)
    with reading(path, "a table for pandas", repair):
        frame: pd.DataFrame = table.to_pandas()
    return frame


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
    from safetensors import safe_open

    with reading(path, "a readable safetensors file", repair), safe_open(str(path), framework=framework) as file:
        yield file


def _metadata(file: Any) -> Any:
    header = file.metadata() or {}
    return _parsed(header["json"]) if "json" in header else None


def sha256_of(*paths: Path | str) -> str:
    """Return the hex SHA-256 over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with reading(path, "a file that can be read"), Path(path).open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()
