import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from imports import ROOT

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.params import RuntimeParams
from flukeprint.core.runtime import (
    _name_interface,
    derived_seed,
    open_accelerator,
    own_address,
    relaunched,
    runtime_record,
)


def runtime(**changes) -> RuntimeParams:
    values = {
        "device": "cpu",
        "precision": "auto",
        "processes": 1,
        "threads": 2,
        "workers": 1,
        "batch_size": 8,
        "engine": "local",
        "address": None,
    }
    return RuntimeParams.model_validate(values | changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_where_there_is_none_is_refused():
    with pytest.raises(FlukeprintError, match=r"runtime\.device in params\.yaml is 'cuda', but this machine has cpu"):
        open_accelerator(runtime(device="cuda"))


def test_cpu_is_full_precision_unless_asked_otherwise():
    accelerator = open_accelerator(runtime())
    assert (accelerator.device.type, accelerator.mixed_precision) == ("cpu", "no")
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_is_found_and_runs_in_bf16():
    accelerator = open_accelerator(runtime(device="auto"))
    assert (accelerator.device.type, accelerator.mixed_precision) == ("cuda", "bf16")


def test_seeds_of_different_purposes_differ_and_stay():
    seeds = [derived_seed(0, "train", "m1"), derived_seed(0, "train", "m2"), derived_seed(1, "train", "m1")]
    assert len(set(seeds)) == 3
    assert seeds[0] == derived_seed(0, "train", "m1")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_one_process_does_the_work_itself(monkeypatch):
    assert not relaunched(runtime(), "stages.embed", "m1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not relaunched(runtime(processes=2), "stages.embed", "m1")


def failing(folder: Path, monkeypatch, content: str) -> None:
    (folder / "failing.py").write_text(content)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_launcher_and_its_processes_without_a_traceback(tmp_path, number, code):
    work = "relaunched(RuntimeParams(**values), 'wait') or print(os.getpid(), flush=True) or time.sleep(100)"
    (tmp_path / "wait.py").write_text(
        "import os, time\nfrom flukeprint.core import end_at_once_on_interrupt\nend_at_once_on_interrupt()\n"
        "from flukeprint.core.console import exit_cleanly\n"
        "from flukeprint.core.params import RuntimeParams\nfrom flukeprint.core.runtime import relaunched\n"
        f"values = {runtime(processes=2).model_dump()}\nexit_cleanly(lambda: {work})"
    )
    command = [sys.executable, "-m", "wait"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as launcher:
        worker = int(launcher.stdout.readline())
        launcher.send_signal(number)
        assert launcher.wait(60) == code
        assert b"Traceback" not in launcher.stderr.read()
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize("asked", [None, "2", "4,2"])
def test_a_search_with_less_threads_than_asked_for_ends(asked):
    code = "import flukeprint.core, faiss, numpy as np; a = np.ones((3000, 64), 'f4'); faiss.knn(a, a, 3)"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_THREAD_LIMIT": "1", "PYTHONPATH": str(ROOT)} | ({"OMP_NUM_THREADS": asked} if asked else {})
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False, timeout=60).returncode == 0


def test_a_failed_process_fails_the_stage(tmp_path, monkeypatch):
    failing(tmp_path, monkeypatch, "raise SystemExit(3)")
    with pytest.raises(SystemExit) as stop:
        relaunched(runtime(processes=2), "failing")
    assert stop.value.code == 3


def test_a_killed_process_ends_the_others_and_is_named(tmp_path, monkeypatch, capfd):
    """The other one would wait for an hour."""
    failing(
        tmp_path,
        monkeypatch,
        "import os, signal, time\n"
        "time.sleep(3600) if os.environ['RANK'] == '0' else os.kill(os.getpid(), signal.SIGKILL)",
    )
    with pytest.raises(FlukeprintError, match=r"process 1 was killed \(SIGKILL\), so the others were stopped"):
        relaunched(runtime(processes=2), "failing")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("environment", "processes", "message"),
    [
        # As accelerate launch leaves it without GPUs, whatever --num_processes says.
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, 1, "several processes were asked for"),
        ({"WORLD_SIZE": "4"}, 1, "4 processes were asked for, but 1 would work"),
        ({"WORLD_SIZE": "2"}, 2, "this runs in one process, but 2 were launched"),
    ],
)
def test_another_number_of_processes_than_asked_for_is_refused(monkeypatch, environment, processes, message):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", processes)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(FlukeprintError, match=message):
        open_accelerator(runtime())


def test_processes_launched_by_hand_against_the_params(monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert open_accelerator(runtime(processes=2), several=True).num_processes == 2
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(FlukeprintError, match=r"runtime\.processes in params\.yaml is 3, but 2 were launched"):
        open_accelerator(runtime(processes=3), several=True)


def test_processes_are_counted_on_each_machine(monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 4)
    for name, value in {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert open_accelerator(runtime(processes=2), several=True).num_processes == 4
    with pytest.raises(FlukeprintError, match=r"runtime\.processes in params\.yaml is 4, but 2 were launched here"):
        open_accelerator(runtime(processes=4), several=True)


@pytest.mark.parametrize(("host", "name"), [("10.1.2.3", "eth7"), ("fe80::1", "eth8")])
def test_gloo_takes_the_interface_that_leads_to_the_others(monkeypatch, host, name):
    addresses = {"lo": ["127.0.0.1"], "eth7": ["fe80::7%eth7", "10.1.2.3"], "eth8": ["10.1.2.4", "fe80::1%eth8"]}
    cards = {card: [SimpleNamespace(address=each) for each in found] for card, found in addresses.items()}
    monkeypatch.setattr("psutil.net_if_addrs", lambda: cards)
    monkeypatch.setattr("flukeprint.core.runtime.own_address", lambda: host)
    several_machines(monkeypatch, host)
    _name_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == name


def test_what_is_said_of_the_interface_counts_and_one_machine_needs_none(monkeypatch):
    several_machines(monkeypatch, "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    _name_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth9"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    _name_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ


def test_a_meeting_point_that_only_this_machine_reaches_is_refused(monkeypatch):
    several_machines(monkeypatch, "localhost")
    with pytest.raises(FlukeprintError, match=r"MASTER_ADDR is localhost, which leads to (127\.0\.0\.1|::1) on this"):
        open_accelerator(runtime(), several=True)


def test_the_own_address_is_that_of_the_way_to_the_meeting_point(monkeypatch):
    several_machines(monkeypatch, "127.0.0.5")
    assert own_address().startswith("127.")


def several_machines(monkeypatch, address: str) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    values = {"MASTER_ADDR": address, "MASTER_PORT": "29500", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
    for name, value in values.items():
        # Also what the code under test adds is gone afterwards.
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_machines_that_cannot_meet_are_told_what_was_tried(monkeypatch):
    several_machines(monkeypatch, "localhost")
    for name, value in {"GLOO_SOCKET_IFNAME": "no-such-card", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setitem(os.environ, name, value)

    def accelerator(**options):
        raise RuntimeError("Unable to find address for: no-such-card\nframe #0: ...")

    monkeypatch.setattr("accelerate.Accelerator", accelerator)
    with pytest.raises(FlukeprintError, match=r"meet the others at localhost:29500 \(.*card\)\. .* is no-such-card\."):
        open_accelerator(runtime(), several=True)


def test_joining_other_machines_needs_to_know_the_first_and_the_own_number(monkeypatch):
    monkeypatch.setenv("PET_NNODES", "2")
    with pytest.raises(FlukeprintError, match=r"PET_NNODES is set, but PET_MASTER_ADDR is not"):
        relaunched(runtime(), "stages.embed", "m1")
    monkeypatch.setenv("PET_MASTER_ADDR", "10.1.2.3")
    with pytest.raises(FlukeprintError, match=r"PET_NNODES is set, but PET_NODE_RANK is not"):
        relaunched(runtime(), "stages.embed", "m1")


def test_the_record_holds_what_bits_depend_on():
    record = runtime_record(open_accelerator(runtime()))
    version = record.pop("torch")
    assert record == {"device": "cpu", "precision": "fp32", "processes": 1, "threads": 2}
    assert torch.__version__.startswith(version)
    assert "+" not in version
    assert runtime_record(open_accelerator(runtime(threads=1)))["threads"] == 1
