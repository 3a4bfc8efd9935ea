"""Several processes, perhaps on several machines, that do the work of one stage together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_bytes, sha256_of
from flukeprint.core.params import RuntimeParams, check_params, read_params
from flukeprint.core.paths import PARAMS
from flukeprint.core.peers import watching
from flukeprint.core.runtime import open_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator

_DAG = Path("dvc.yaml")


@contextmanager
def working_together(runtime: RuntimeParams, stage: str, member: str = "") -> Iterator[Accelerator]:
    """Yield Accelerate's handle in each of the processes that were launched for a stage, or in the only one.

    Machines need no common folder: what the stage reads has to be the same everywhere, or every process stops with a
    FlukeprintError that names the file. So they do where one fails, is killed, or cannot be reached any more.
    """
    accelerator = open_accelerator(runtime, several=True)
    if accelerator.num_processes == 1:
        yield accelerator
        return
    with watching(accelerator):
        _refuse_other_inputs(_inputs(stage, member))
        yield accelerator


def _refuse_other_inputs(own: dict[str, str]) -> None:
    """Make sure that this process reads what process 0 does; `own`: checksums by the names of files."""
    from accelerate.utils import broadcast_object_list

    [first] = broadcast_object_list([own])
    if other := sorted(name for name in own.keys() | first.keys() if own.get(name) != first.get(name)):
        more = f" (nor are {len(other) - 1} others)" if len(other) > 1 else ""
        raise FlukeprintError(
            f"{other[0]} is not what process 0 has there{more}. Every machine needs the same code, params.yaml "
            "(`runtime` apart) and inputs: check out the same commit, and copy or `dvc pull` the data."
        )


def _inputs(stage: str, member: str) -> dict[str, str]:
    """Return the checksums of what dvc.yaml lists under a stage's deps, and of the params; "" for what is missing."""
    deps = yaml.safe_load(read_bytes(_DAG, "the DAG"))["stages"][stage]["deps"]
    paths = [Path(dep.replace("${item.member}", member)) for dep in deps]
    files = [file for path in paths for file in (sorted(path.glob("*.*")) if path.is_dir() else [path])]
    params = check_params(read_params()).model_dump_json(exclude={"runtime"})
    sums = {str(file): sha256_of(file) if file.exists() else "" for file in files}
    return sums | {str(PARAMS): hashlib.sha256(params.encode()).hexdigest()}
