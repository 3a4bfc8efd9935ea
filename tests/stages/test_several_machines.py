"""Stages that two machines without a common folder do together, as docs/pipeline.md says."""

import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pipeline_project import ONE_PROCESS, set_params
from pixel_folder import pixel_folder
from two_machines import Machine, copy_project, two_machines, why_not

from flukeprint.core.files import read_json, write_frame

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]

LONGEST = 3600  # seconds, on a very busy machine
WEIGHTS, CURVE = Path("models/finetuned/m1.safetensors"), Path("metrics/finetune/m1.json")
EMBEDDINGS = Path("data/embeddings/m1")


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two machines with the same code, params and inputs of m1's fine-tuning and embedding."""
    with two_machines(tmp_path_factory.mktemp("machines")) as (one, other):
        write_photos(copy_project(one.project) / "data")
        shutil.rmtree(one.project / "metrics")  # which are in git
        set_params(
            one.project, profiles__sample__image_size=32, profiles__sample__epochs__finetune=12, finetune__on="full",
            finetune__batch_size=16, runtime__threads=1, runtime__batch_size=8,
        )  # fmt: skip
        one.run("python", "-c", ONE_PROCESS, "backbone", "start@m1")
        shutil.copytree(one.project, other.project, dirs_exist_ok=True)
        yield one, other


def write_photos(data: Path) -> None:
    """Write random pixels, some photos twice, and the tables that stage select would make of them."""
    pixels = np.random.default_rng(0).integers(0, 255, (37, 3, 32, 32), np.uint8)
    pixels[[5, 20]] = pixels[30]
    rows = np.arange(len(pixels))
    columns = {"Image": rows.astype(str), "Id": (rows % 3).astype(str), "pixel": rows}
    table = pd.DataFrame(columns | {"split": np.where(rows < 29, "train", "valid")})
    for name in ("small", "full"):
        write_frame(data / f"selected/{name}.parquet", table)
    for name, photos in (("train", pixels), ("test", pixels[:9])):
        pixel_folder(data / f"pixels/{name}", photos)


def together(machines, *stage: str) -> list:
    """Start a stage on both, as DVC does: torchrun reads its options from these variables."""
    found = []
    for number, machine in enumerate(machines):
        joining = {"PET_NNODES": "2", "PET_NODE_RANK": str(number), "PET_MASTER_ADDR": machines[0].address}
        found.append(machine.popen("python", "-m", *stage, environment=joining))
    return found


def ends(started) -> list[tuple[int, str]]:
    """Return how each ended, and what it said."""
    said = [process.communicate(timeout=LONGEST)[0] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def wait_for_epoch(machine: Machine) -> None:
    """Wait until a checkpoint is written that is not there now."""
    start, end = time.time(), time.monotonic() + LONGEST
    while not any(path.stat().st_mtime > start for path in machine.project.glob(".work/finetune/*/last.safetensors")):
        assert time.monotonic() < end
        time.sleep(0.01)


def worker(machine: Machine):
    [found] = [process for process in machine.processes("stages.finetune") if "LOCAL_RANK" in process.environ()]
    return found


def test_accelerate_that_starts_one_process_is_refused_on_both(machines):
    launch = ("accelerate", "launch", "--num_machines", "2", "--num_processes", "2", "--main_process_port", "29500")
    started = [
        machine.popen(*launch, "--main_process_ip", machines[0].address, "--machine_rank", str(rank), "-m",
                      "stages.finetune", "m1")
        for rank, machine in enumerate(machines)
    ]  # fmt: skip
    for code, said in ends(started):
        assert code != 0
        assert "error: several processes were asked for, but 1 would work, alone" in said
        assert not any((machine.project / WEIGHTS).exists() for machine in machines)


def test_another_input_is_refused_on_both_with_its_name(machines):
    one, other = machines
    pixels = min((other.project / "data/pixels/train").glob("*.npy"))
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for code, said in ends(together(machines, "stages.finetune", "m1")):
        assert code != 0
        named = pixels.relative_to(other.project)
        assert f"{named} is not what process 0 has there. Every machine needs the same code" in said
        assert "Traceback" not in said
    pixels.write_bytes(content)
    assert not (one.project / WEIGHTS).exists()


def test_what_two_train_has_the_bytes_of_an_undisturbed_training_whatever_happened(machines):
    one, other = machines
    launch = ("torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", one.address, "--node-rank")
    whole = ends([each.popen(*launch, str(n), "-m", "stages.finetune", "m1") for n, each in enumerate(machines)])
    assert [code for code, _ in whole] == [0, 0], whole
    weights, curve = (one.project / WEIGHTS).read_bytes(), (one.project / CURVE).read_bytes()
    assert read_json(one.project / CURVE)["runtime"]["processes"] == 2
    for path in (WEIGHTS, CURVE):
        assert not (other.project / path).exists()
        (one.project / path).unlink()

    started = together(machines, "stages.finetune", "m1")
    wait_for_epoch(one)
    other.plug(into=False)
    for rank, (code, said) in enumerate(ends(started)):
        assert code != 0
        assert f"process {1 - rank} of 2 ended, or its machine cannot be reached" in said
        assert "Traceback" not in said
    other.plug(into=True)

    [checkpoint] = one.project.glob(".work/finetune/*/last.safetensors")
    theirs = other.project / checkpoint.relative_to(one.project)
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"of another time")
    for rank in (1, 0):
        started = together(machines, "stages.finetune", "m1")
        wait_for_epoch(one)
        worker(machines[rank]).kill()
        ended = ends(started)
        assert [code for code, _ in ended] == [1, 1], ended
        assert f"process {rank} was killed (SIGKILL)" in ended[rank][1]
        assert f"process {rank} of 2 ended, or its machine cannot be reached" in ended[1 - rank][1]
        assert "Traceback" not in ended[0][1] + ended[1][1]

    again = ends(together(machines, "stages.finetune", "m1"))
    assert [code for code, _ in again] == [0, 0], again
    assert (one.project / WEIGHTS).read_bytes() == weights
    assert (one.project / CURVE).read_bytes() == curve
    embedded_like_alone(one, other)


def embedded_like_alone(one: Machine, other: Machine) -> None:
    shutil.copytree(one.project / WEIGHTS.parent, other.project / WEIGHTS.parent)
    assert [code for code, _ in ends(together((one, other), "stages.embed", "m1"))] == [0, 0]
    spread = {path.name: path.read_bytes() for path in (one.project / EMBEDDINGS).iterdir()}
    assert not (other.project / EMBEDDINGS).exists()
    one.run("python", "-m", "stages.embed", "m1")
    assert {path.name: path.read_bytes() for path in (one.project / EMBEDDINGS).iterdir()} == spread
