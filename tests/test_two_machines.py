"""The two machines that other tests use are two: network, files, names and processes."""

import socket
import subprocess

import pytest
from two_machines import HERE, copy_project, two_machines, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def test_they_share_a_cable_and_nothing_else(tmp_path):
    with two_machines(tmp_path) as (one, other):
        copy_project(one.project)
        assert (one.project / "flukeprint/core/errors.py").exists()
        assert not (one.project / ".git").exists()
        server = one.popen("python", "-u", "-m", "http.server", "--bind", one.address, "8000")
        assert "Serving" in server.stdout.readline()
        read = f"import urllib.request as u; print(u.urlopen('http://{one.address}:8000/Makefile').read(6))"
        assert other.run("python", "-c", read) == "b'# make'\n"
        assert other.run("sh", "-c", f"ls; ls {tmp_path}; hostname; echo $HOME") == f"fluke-other\n{HERE}/home\n"
        assert "gaierror" in other.run("python", "-c", "import socket; socket.gethostbyname('fluke-one')", ok=False)
        [found] = one.processes("http.server")
        assert other.processes() == []
        one.stop()
        server.communicate()
        assert not found.is_running()
    assert socket.gethostname() != "fluke-one"
    assert "fluke0" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
