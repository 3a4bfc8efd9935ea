"""The members' own stages, spread over a cluster. What a worker makes is written here, and DVC is told of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from flukeprint.cluster.carried_files import CarriedFile, Piece, packed, receiving
from flukeprint.cluster.dvc_project import DvcProject, StagePlan, Stamps, stamps_of
from flukeprint.cluster.stage_tasks import StageOrder, run_stage
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json
from flukeprint.core.paths import STARTS, WORK
from flukeprint.core.ray_cluster import Cluster, LostWorkerError, connected, packages, result_of
from flukeprint.core.receipts import require_outputs

# In the order in which a member needs them.
MEMBER_STAGES = ("finetune", "embed")
# Losses of one stage's workers, with no checkpoint in between, after which it is not begun again.
_MOST_LOSSES = 3

Say = Callable[[str], None]
Stream = Any  # Ray's generator of references to what a worker yields
Waiting = Generator[Stream, None, None]  # of a member: it yields the stream whose next item it needs


def spread_members(members: Sequence[str], cluster: Cluster, say: Say, begun: Callable[[], None]) -> None:
    """Train and embed members, as many at a time as the cluster has room for; stages that are up to date are not run.

    What they start from is made meanwhile: `begun` returns when it is there.
    Whatever is interrupted, here or there, goes on from the last epoch that came back. A stage that fails stops its own
    member alone; in the end a FlukeprintError says which failed, and why.
    """
    import ray

    failed: list[str] = []

    def resume(member: str, waiting: Waiting) -> None:
        try:
            of_stream[next(waiting)] = member, waiting
        except StopIteration:
            say(f"{member}: done")
        except FlukeprintError as error:
            failed.append(f"{member}: {error}")
            say(f"{member}: failed")

    with connected(cluster):
        begun()
        spreading = _Spreading(cluster, say)
        of_stream: dict[Stream, tuple[str, Waiting]] = {}
        for member in members:
            resume(member, spreading.through(member))
        while of_stream:
            [ready], _ = ray.wait(list(of_stream), num_returns=1)
            resume(*of_stream.pop(ready))
    if failed:
        listed = "\n".join(f"  - {text}" for text in failed)
        raise FlukeprintError(f"{len(failed)} of {len(members)} members failed.\n{listed}")


class _Spreading:
    """What is common to all members of a run."""

    def __init__(self, cluster: Cluster, say: Say) -> None:
        import ray

        self._project, self._say = DvcProject(), say
        self._task = ray.remote(run_stage).options(num_returns="streaming", max_retries=0, **cluster.need())
        self._node = ray.get_runtime_context().get_node_id()
        # Without an address there is no machine but this one, which sees the files.
        self._carry = cluster.address is not None
        self._shared: dict[Path, tuple[Stamps, list[CarriedFile]]] = {}

    def through(self, member: str) -> Waiting:
        """Bring one member through its stages. DVC is told of one, for a second or two, while the next one runs."""
        with ExitStack() as unsaid:
            for stage in MEMBER_STAGES:
                plan = self._project.plan(f"{stage}@{member}")
                if plan is None:
                    continue
                read = [*plan.inputs, *(_backbone_of(member) if stage == "finetune" else ())]
                stamps = stamps_of(plan.deps)
                came: set[Path] = set()
                running = self._run(plan, stage, member, read, came)
                first = next(running)
                unsaid.close()
                # DVC puts the files that it is told of in place anew.
                stamps |= stamps_of([path for path in plan.deps if path.stem == member])
                yield first
                yield from running
                _remove_others(plan, came)
                unsaid.callback(self._accept, plan, stamps, stage, member)

    def _accept(self, plan: StagePlan, stamps: Stamps, stage: str, member: str) -> None:
        self._project.accept(plan, stamps)
        for folder in _checkpoints(stage, member):
            shutil.rmtree(folder)

    def _run(self, plan: StagePlan, stage: str, member: str, read: list[Path], came: set[Path]) -> Waiting:
        """Let a worker run a stage, and the next one where that is lost, and write here the files that `came`."""
        losses = 0
        while True:
            stream = self._task.remote(self._order(plan, stage, member, read))
            try:
                with closing(receiving(Path())) as received:
                    next(received)
                    while True:
                        yield stream
                        match result_of(next(stream)):
                            case Piece() as piece:
                                received.send(piece)
                                came.add(Path(piece.path))
                                losses = 0
                            case str() as text:
                                for line in text.splitlines():
                                    self._say(f"{plan.name}: {line}")
            except StopIteration:
                return
            except LostWorkerError as lost:
                losses += 1
                if losses == _MOST_LOSSES:
                    raise FlukeprintError(
                        f"{plan.name} was lost {losses} times without finishing an epoch ({lost}). Look at the "
                        "workers' memory; run the command again to go on."
                    ) from None
                self._say(f"{plan.name}: lost ({lost}), goes on from its last epoch")

    def _order(self, plan: StagePlan, stage: str, member: str, read: list[Path]) -> StageOrder:
        own = [*(path for path in read if path.stem == member), *_checkpoints(stage, member)]
        shared = [file for path in read if path.stem != member for file in self._packed(path)]
        carried = [file for path in own for file in packed(path, carry=True)]
        outputs = [str(path) for path in plan.outputs]
        return StageOrder(plan.command, shared, carried, outputs, str(Path.cwd()), self._node, packages())

    def _packed(self, path: Path) -> list[CarriedFile]:
        """Pack a file, or a folder, that members have in common: it goes into the object store once."""
        stamps = stamps_of([path])
        known, files = self._shared.get(path, ({}, []))
        if known != stamps:
            files = list(packed(path, carry=self._carry))
            self._shared[path] = stamps, files
        return files


def _backbone_of(member: str) -> Iterable[Path]:
    """Return the folder of the backbone that stage start names, which DVC does not list; pulled where it is missing."""
    receipt = STARTS / f"{member}.json"
    named = {Path(name): digest for name, digest in read_json(receipt)["sha256"].items()}
    require_outputs(named, receipt)
    return named


def _checkpoints(stage: str, member: str) -> list[Path]:
    """Return the folders of a member's unfinished trainings, here or begun by workers (learning/checkpoints.py)."""
    folders = sorted((WORK / stage).glob(f"{member}-*"))
    return [folder for folder in folders if folder.name.rpartition("-")[0] == member]


def _remove_others(plan: StagePlan, came: set[Path]) -> None:
    """Remove what lies in a stage's output folders from an earlier run."""
    found = {file for path in plan.outputs for file in path.rglob("*") if file.is_file()}
    for file in found - came:
        file.unlink()
