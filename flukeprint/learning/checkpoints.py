"""Where an unfinished training leaves its state, so that a killed stage goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_safetensors, write_safetensors
from flukeprint.core.paths import WORK
from flukeprint.learning.networks import State, parts_of
from flukeprint.learning.rows import Selection

if TYPE_CHECKING:
    from accelerate import Accelerator

_FILE = "last.safetensors"
# Rows of an array that are read and hashed at a time.
_ROWS = 256


def checkpoint_folder(stage: str, member: str, *ingredients: Any) -> Path:
    """Return the folder for one training, named after all that its result depends on.

    That are JSON-able values, arrays of rows, and selections of rows (rows.py), which are read as they are
    hashed. A run with other params or inputs has another folder, so it never goes on from a state that is not its own.
    """
    digest = hashlib.sha256()
    for part in ingredients:
        if isinstance(part, Selection | np.ndarray):
            digest.update(f"{part[:0].dtype}{(len(part), *part[:0].shape[1:])}".encode())
            for start in range(0, len(part), _ROWS):
                digest.update(np.ascontiguousarray(part[start : start + _ROWS]).data)
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
    return WORK / stage / f"{member}-{digest.hexdigest()[:16]}"


def save_checkpoint(folder: Path, states: Mapping[str, State], metadata: Any) -> None:
    """Write named state dicts and JSON-able metadata in place of the checkpoint before."""
    tensors = {f"{part}.{key}": value for part, state in states.items() for key, value in state.items()}
    write_safetensors(folder / _FILE, tensors, metadata)


def load_checkpoint(folder: Path) -> tuple[dict[str, State], Any] | None:
    """Return the last checkpoint's named state dicts (empty ones are left out) and metadata; None without one."""
    if not (folder / _FILE).exists():
        return None
    tensors, metadata = read_safetensors(folder / _FILE)
    return parts_of(tensors), metadata


def shared_checkpoint(
    folder: Path, runtime: Mapping[str, Any], accelerator: Accelerator
) -> tuple[dict[str, State], Any] | None:
    """Return what `load_checkpoint` gives in the first process, in every process; refuse processes of unlike trainings.

    The folder's name tells params and photos, `runtime` the machine. Processes may be on several machines, whose
    folders need not be the same.
    """
    from accelerate.utils import broadcast_object_list

    own = {"training": folder.name, **runtime}
    found = load_checkpoint(folder) if accelerator.is_main_process else None
    [first, found] = broadcast_object_list([own, found])
    if differences := _differences(own, first):
        raise FlukeprintError(
            f"process {accelerator.process_index} trains something else than process 0: {differences}. Code, data/, "
            "models/ and params.yaml have to be the same on every machine."
        )
    checkpoint: tuple[dict[str, State], Any] | None = found
    return checkpoint


def refuse_other_runtime(folder: Path, made: Mapping[str, Any] | None, runtime: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint that another runtime made: the result would be neither's."""
    if differences := _differences(runtime, made or {}):
        raise FlukeprintError(
            f"{folder} holds an unfinished training that was made with another runtime: {differences}. Results depend "
            "on it. Set `runtime` in params.yaml back to go on there, or remove the folder to start anew."
        )


def _differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name what differs between two records."""
    return ", ".join(
        f"{key} {value} here, {other.get(key)} there" for key, value in own.items() if value != other.get(key)
    )


def clear_checkpoints(stage: str, member: str | None = None) -> None:
    """Remove the checkpoints of a stage, or of one member in it: its results are safely written."""
    for folder in (WORK / stage).glob("*" if member is None else f"{member}-*"):
        if member is None or folder.name.rpartition("-")[0] == member:
            shutil.rmtree(folder, ignore_errors=True)
