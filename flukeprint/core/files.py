"""Files that are either complete or absent: write under a temporary name, then rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.core.errors import FlukeprintError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place on success, and is removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    # mkdtemp makes it private to the user; an output folder has ordinary permissions.
    temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
        _take_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(new: Path, path: Path) -> None:
    """Rename a folder to `path`; what was there is moved aside first, and removed when the new one is in place."""
    if not path.exists():
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


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as sorted, indented JSON. NaN and infinity are refused (they are not JSON)."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a missing or malformed one is a FlukeprintError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing. Run `dvc repro` to make it.") from None
    except (ValueError, RecursionError) as error:
        raise FlukeprintError(f"{path} is not valid JSON ({error}). Remove it and run `dvc repro` again.") from None


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


def read_npy(path: Path | str) -> np.ndarray:
    """Open an .npy file as a read-only memory map; objects are never unpickled."""
    import numpy as np

    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing. Run `dvc repro` to make it.") from None
    except ValueError as error:
        raise FlukeprintError(f"{path} is not a readable .npy file ({error}). Remove it and run `dvc repro`.") from None
    return array


def write_safetensors(path: Path | str, tensors: Mapping[str, Any], metadata: Any = None) -> None:
    """Write torch tensors as safetensors; `metadata` (JSON-able) goes under the single key `json`.

    One key only: with several, safetensors' header order, and so the file's bytes, vary from run to run.
    """
    from safetensors.torch import save

    header = None if metadata is None else {"json": json.dumps(metadata, sort_keys=True)}
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, header)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_safetensors(path: Path | str) -> tuple[dict[str, Any], Any]:
    """Return (tensors on the CPU, metadata) of a file that `write_safetensors` made; runs no code from it."""
    with _opened_tensors(path, "pt") as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, _metadata(file)


def read_safetensors_metadata(path: Path | str) -> Any:
    """Return the metadata of a file that `write_safetensors` made, without its tensors and without torch."""
    with _opened_tensors(path, "np") as file:
        return _metadata(file)


@contextmanager
def _opened_tensors(path: Path | str, framework: str) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise FlukeprintError(f"{path} is missing. Run `dvc repro` to make it.") from None
    except SafetensorError as error:
        raise FlukeprintError(
            f"{path} is not a readable safetensors file ({error}). Remove it and run `dvc repro` again."
        ) from None


def _metadata(file: Any) -> Any:
    header = file.metadata() or {}
    return json.loads(header["json"]) if "json" in header else None


def sha256_of(*paths: Path | str) -> str:
    """Return the hex SHA-256 over the contents of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
