import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ray_here import ray_in_this_process

from flukeprint.core import ray_cluster
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.ray_cluster import Cluster, connected, contents_of, packages, refuse_other_packages
from flukeprint.core.worker_processes import spread_map


def test_files_that_any_machine_can_read_go_with_a_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path.relative_to(tmp_path) / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "b.jpg").write_bytes(b"")
    contents = contents_of([folder / "a.jpg", folder / "b.jpg"])
    assert {name: bytes(content) for name, content in contents.items()} == {"photos/a.jpg": b"a", "photos/b.jpg": b""}
    assert contents_of([]) == {}


def link(path):
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("missing.jpg", lambda _: None),
        ("link.jpg", link),
        ("pipe.jpg", os.mkfifo),
        ("folder.jpg", lambda path: path.mkdir()),
        ("large.jpg", lambda path: path.write_bytes(bytes(9))),
        ("nul\0.jpg", lambda _: None),
        ("../outside.jpg", lambda path: path.write_bytes(b"a")),
    ],
)
def test_what_another_machine_would_read_otherwise_is_read_here(tmp_path, monkeypatch, name, make):
    monkeypatch.setattr(ray_cluster, "_MOST_BYTES", 8)
    (tmp_path / "project/photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    photos = Path("photos")
    (photos / "a.jpg").write_bytes(b"a")
    make(photos / name)
    assert contents_of([photos / "a.jpg"]) is not None
    assert contents_of([photos / "a.jpg", photos / name]) is None
    assert contents_of([tmp_path / "project/photos/a.jpg"]) is None


def test_the_versions_are_those_of_the_pipelines_packages():
    assert packages()["numpy"] == np.__version__
    assert {"torch", "pillow", "accelerate"} <= set(packages())
    assert not {"ray", "pytest", "fastapi", "ruff"} & set(packages())


def test_a_worker_with_other_packages_is_refused():
    refuse_other_packages(packages())
    with pytest.raises(
        FlukeprintError, match=r"has other packages .*: numpy .* \(not 1\.0\), torchaudio none \(not 2\)"
    ):
        refuse_other_packages(packages() | {"numpy": "1.0", "torchaudio": "2"})


def test_the_engine_without_its_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"runtime\.engine .* is 'ray', but .* `pip install 'flukeprint\[cluster\]'`"
    with pytest.raises(FlukeprintError, match=message), spread_map(Cluster("auto")):
        pass
    message = r"^--ray asks for Ray, but .* `pip install 'flukeprint\[cluster\]'`, or leave --ray out\.$"
    with pytest.raises(FlukeprintError, match=message), spread_map(Cluster("auto", option="--ray")):
        pass


@pytest.fixture
def machines(monkeypatch) -> list[dict]:
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    machines: list[dict] = []
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": one} for one in machines])
    return machines


@pytest.mark.parametrize(
    ("cluster", "there", "need"),
    [
        (Cluster(None, 2, 1, "auto"), [{"CPU": 8.0}], {"num_cpus": 2}),
        (Cluster(None, 2, 3, "cpu"), [{"CPU": 8.0, "GPU": 4.0}], {"num_cpus": 6}),
        (Cluster(None, 2, 1, "auto"), [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 4.0}], {"num_cpus": 0, "num_gpus": 1}),
        (Cluster(None, 2, 2, "cuda"), [{"CPU": 1.0, "GPU": 4.0}], {"num_cpus": 0, "num_gpus": 2}),
    ],
)
def test_a_task_has_gpus_or_threads_of_its_own(machines, cluster, there, need):
    machines += there
    assert cluster.need() == need


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (Cluster(None, 4, 3), r"12 CPUs \(runtime\.threads x runtime\.processes .* more than 8"),
        (Cluster(None, device="cuda"), r"1 GPUs \(runtime\.processes .* more than 0"),
    ],
)
def test_a_task_that_fits_no_machine_is_refused(machines, cluster, message):
    machines += [{"CPU": 8.0}, {"CPU": 8.0}]
    with pytest.raises(FlukeprintError, match=message):
        cluster.need()


def test_the_workers_of_a_ray_of_our_own_have_the_commands_priority(monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    name = ray._private.ray_constants.RAY_WORKER_NICENESS  # as Ray reads it
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    given = []
    monkeypatch.setattr(ray, "init", lambda *_, **__: given.append(os.environ[name]))
    with connected(Cluster(None)):
        assert given == ["0"]


def test_an_option_of_a_command_is_named_as_what_asked(machines):
    machines += [{"CPU": 0.0}]
    with pytest.raises(FlukeprintError, match=r"^a task asks for 1 CPUs, but no .* more than 0\. Let a larger"):
        Cluster("auto", option="--ray").need()


def test_an_address_where_nothing_is_is_refused(machines):
    message = r"no Ray that can be used at runtime\.address '127\.0\.0\.1:9' .*refused"
    with pytest.raises(FlukeprintError, match=message), connected(Cluster("127.0.0.1:9")):
        pass


def test_an_environment_from_which_no_worker_starts_is_refused(machines, monkeypatch):
    monkeypatch.setattr(ray_cluster.sys, "executable", "/home/ada/my whales/.venv/bin/python")
    message = r"at runtime\.address 'auto' .*my whales.*, or set runtime\.address to null"
    with pytest.raises(FlukeprintError, match=message), connected(Cluster("auto")):
        pass


@pytest.mark.parametrize("address", ["here", ":6379", "gpu1:", "gpu1:port"])
def test_what_is_no_address_is_refused(machines, address):
    message = rf"at --ray '{address}' \(expected auto or HOST:PORT\).* or leave --ray out\.$"
    with pytest.raises(FlukeprintError, match=message), connected(Cluster(address, option="--ray")):
        pass


def test_workers_get_the_code_that_runs_wherever_that_is_asked_for(tmp_path, monkeypatch, machines):
    ray, sent = sys.modules["ray"], []

    def join(address, runtime_env, **_):
        sent.extend(sorted(str(path.name) for path in Path(runtime_env["working_dir"]).iterdir()))

    monkeypatch.setattr(ray, "init", join)
    monkeypatch.chdir(tmp_path)
    with connected(Cluster("auto")):
        assert sent == ["flukeprint", "stages"]


def test_photos_are_laid_out_for_tasks_and_results_come_in_order(tmp_path, monkeypatch):
    begun = ray_in_this_process(monkeypatch, tmp_path / "tmp")
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    photos = [Path(f"photos/{number}.jpg") for number in range(12)]
    for number, path in enumerate(photos):
        path.write_text(str(number))
    photos[2].unlink()
    photos[2].symlink_to("1.jpg")  # links are followed here alone
    with spread_map(Cluster("auto")) as mapped:
        results = mapped(seen, photos, 2, files=lambda path: [path])
        assert len(begun) == 3  # of four at a time, one here
        found = list(results)
    assert [text for text, _, _ in found] == ["0", "1", "1", *map(str, range(3, 12))]
    here = [folder == str(tmp_path) for _, _, folder in found]
    assert here == [number in (2, 3) for number in range(12)]
    assert list((tmp_path / "tmp").iterdir()) == []


def seen(path: Path) -> tuple[str, int, str]:
    return path.read_text(), os.getpid(), str(Path.cwd())
