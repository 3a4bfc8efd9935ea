"""What DVC knows of stages: whether they are up to date, what they read and write, that they have been run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.ray_cluster import CODE

Stamps = dict[Path, tuple[int, int]]  # of files: size, and time of the last change


@dataclass(frozen=True)
class StagePlan:
    """A stage that is to be run: DVC's command, and paths of all that it depends on and of what it writes."""

    name: str  # as DVC has it: finetune@m1
    command: str
    deps: list[Path]
    outputs: list[Path]

    @property
    def inputs(self) -> list[Path]:
        """What it depends on but for our code: params.yaml is among it."""
        return [path for path in self.deps if path.parts[0] not in CODE]


class DvcProject:
    """DVC's view of the current folder. Each answer takes DVC's lock for its own time, and waits for it."""

    def __init__(self) -> None:
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)  # it tells of every change of dvc.lock
        self._repo = Repo(_wait_for_lock=True)

    def plan(self, name: str) -> StagePlan | None:
        """Return what a stage has to do; None where it is up to date, or is brought back from DVC's cache of runs."""
        from dvc.repo import lock_repo
        from dvc.stage.cache import RunCacheNotFoundError

        with lock_repo(self._repo):
            [stage] = self._repo.stage.collect(name)
            if not stage.changed():
                return None
            if missing := [dep.def_path for dep in stage.deps if not dep.exists]:
                raise MissingFileError(f"{missing[0]} is missing. Run `dvc repro` to make it, or `dvc pull`.")
            try:
                self._repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                deps, outs = ([Path(one.def_path) for one in some] for some in (stage.deps, stage.outs))
                return StagePlan(name, str(stage.cmd), sorted(set(deps)), outs)
        self._repo.commit(name, force=True)
        return None

    def accept(self, plan: StagePlan, before: Stamps) -> None:
        """Let DVC take a stage's outputs for those of its deps, which must be as they were `before`, when it began."""
        if changed := [str(path) for path, stamp in stamps_of(plan.deps).items() if before.get(path) != stamp]:
            raise FlukeprintError(
                f"{', '.join(changed)} changed while {plan.name} was run elsewhere, so its outputs are not those of "
                "what is here now. Put it back, and run the command again."
            )
        self._repo.commit(plan.name, force=True)


def stamps_of(paths: list[Path]) -> Stamps:
    """Return size and time of the last change of files, of folders the number of their files and what they hold.

    What Python compiled meanwhile does not count.
    """
    stamps: Stamps = {}
    for path in paths:
        inside = [file for file in path.rglob("*") if file.is_file() and file.parent.name != "__pycache__"]
        files = inside if path.is_dir() else [path]
        stamps |= {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}
        if path.is_dir():
            stamps[path] = (len(inside), 0)
    return stamps
