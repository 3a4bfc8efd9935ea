"""Two machines without a common folder: Ray's head and the project on one, the workers on the other."""

import shutil
import time
from pathlib import Path

import pytest
from pipeline_project import MEMBERS, ONE_PROCESS, PHOTOS, new_project, set_params, stages_of
from ray_here import PORTS, RAY, skip_where_no_worker_starts
from two_machines import Machine, two_machines, why_not

from flukeprint.data.sample import draw_sample

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

TREES = ("models/finetuned", "data/embeddings", "metrics/finetune", "metrics/embed")
STAGES = [f"{stage}@{member}" for member in MEMBERS for stage in ("finetune", "embed")]
# Seconds; a machine with other work beside takes most of a minute to start Ray.
LONGEST = 240
OWN = RAY | {"RAY_TMPDIR": "/mnt/tmp"}


def start_ray(machine: Machine, *options: str) -> None:
    here = (f"--node-ip-address={machine.address}", "--object-store-memory=100000000", "--disable-usage-stats")
    ports = [f"{option}={7000 + number}" for number, option in enumerate(PORTS)]
    machine.run("ray", "start", *here, *ports, *options, environment=OWN)


def start_cluster(one: Machine, other: Machine) -> None:
    # Nothing but the other machine may do the work.
    start_ray(one, "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false")
    start_ray(other, f"--address={one.address}:6379", "--num-cpus=2")


def kill(machine: Machine) -> None:
    while running := machine.processes():
        for process in running:
            process.kill()
        time.sleep(0.2)


def checkpoint(project: Path, after: int = 0) -> int:
    """Wait for a checkpoint that came later than `after` (ns), and return when it came."""
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        times = [path.stat().st_mtime_ns for path in project.glob(".work/finetune/*/last.safetensors")]
        if times and max(times) > after:
            return max(times)
        time.sleep(0.1)
    raise AssertionError("no checkpoint came")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for tree in TREES
            for path in (folder / tree).rglob("*") if path.is_file() and path.parent.name != "pretrained"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(why_not() != "", reason=why_not())
def test_members_go_on_where_the_worker_the_head_or_the_driver_was_killed(tmp_path):
    skip_where_no_worker_starts()
    with two_machines(tmp_path) as (one, other):
        photos = one.folder / "photos"
        photos.mkdir()
        draw_sample(photos, 0, PHOTOS)
        one.project.rmdir()
        new_project(one.project, Path("/mnt/photos"))
        set_params(
            one.project, runtime__threads=1, profiles__folder__epochs={"train": 3, "finetune": 12, "full_head": 3}
        )
        before = [stage for stage in stages_of(MEMBERS) if stage not in STAGES]
        before = before[: before.index(f"start@{MEMBERS[-1]}") + 1]
        one.run("python", "-c", ONE_PROCESS, *before)
        one.run("dvc", "commit", "--quiet", "--force", *before)
        interrupted(one, other)
        assert files(one.project) == files(one.folder / "alone")
        assert one.run("dvc", "status", *STAGES) == "Data and pipelines are up to date.\n"


def interrupted(one: Machine, other: Machine) -> None:
    shutil.copytree(one.project, one.folder / "alone", symlinks=True)
    one.run("sh", "-c", 'cd /mnt/alone && python -c "$@"', "sh", ONE_PROCESS, *STAGES,
            environment={"PYTHONPATH": "/mnt/alone"})  # fmt: skip

    set_params(one.project, runtime__engine="ray", runtime__address=f"{one.address}:6379")
    start_cluster(one, other)
    driver = one.popen("python", "-m", "flukeprint.cli", "members", environment=OWN)
    came = checkpoint(one.project)
    kill(other)
    start_ray(other, f"--address={one.address}:6379", "--num-cpus=2")
    checkpoint(one.project, came)
    assert driver.poll() is None
    kill(one)
    said, _ = driver.communicate(timeout=LONGEST)
    assert "goes on from its last epoch" in said
    assert not any((one.project / "models/finetuned").glob("*"))

    kill(other)
    start_cluster(one, other)
    said = one.run("python", "-m", "flukeprint.cli", "members", environment=OWN)
    assert {f"{member}: done" for member in MEMBERS} <= set(said.splitlines())
    assert "finetune@m1: fluke-other" in said
    assert not list(one.project.glob(".work/finetune/*"))
    assert not list(other.folder.glob("tmp/.flukeprint*"))
