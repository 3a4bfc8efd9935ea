"""Where an unfinished training leaves its state, so that a killed stage goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flukeprint.core.files import read_safetensors, write_safetensors
from flukeprint.core.paths import WORK
from flukeprint.learning.networks import State, parts_of

_FILE = "last.safetensors"


def checkpoint_folder(stage: str, member: str, *ingredients: Any) -> Path:
    """Return the folder for one training, named after all that its result depends on: JSON-able values and arrays.

    A run with other params or inputs has another folder, so it never goes on from a state that is not its own.
    """
    digest = hashlib.sha256()
    for part in ingredients:
        if hasattr(part, "tobytes"):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(part.tobytes())
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


def clear_checkpoints(stage: str, member: str | None = None) -> None:
    """Remove the checkpoints of a stage, or of one member in it: its results are safely written."""
    for folder in (WORK / stage).glob("*" if member is None else f"{member}-*"):
        if member is None or folder.name.rpartition("-")[0] == member:
            shutil.rmtree(folder, ignore_errors=True)
