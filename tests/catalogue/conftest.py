"""Where the tests' catalogues are: SQLite in a folder, and PostgreSQL on a server of their own where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flukeprint.catalogue.catalogues import Catalogue, create_catalogue

# Where Debian keeps the server's programs: not on the PATH.
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _program(name: str) -> str | None:
    return next((str(folder / name) for folder in DEBIAN if (folder / name).is_file()), None) or shutil.which(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a server that is there for these tests alone, but for the database's name."""
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL server here: initdb and postgres are not installed (Debian: postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'flukeprint[postgres]'")
    # A short path: a socket's may have 107 characters. The server refuses to be root.
    folder = Path(tempfile.mkdtemp(prefix="fp-pg-"))
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    make = [*user, initdb, "-D", folder / "data", "-U", "flukeprint", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, cwd=folder)
    options = ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen([*user, server, "-D", folder / "data", *options], cwd=folder, stderr=log, stdout=log)
    url = f"postgresql://flukeprint@/{{}}?host={folder}"
    try:
        _wait_for(url.format("postgres"))
        yield url
    finally:
        run.send_signal(signal.SIGQUIT)  # at once: nothing here is to be kept
        run.wait(60)
        shutil.rmtree(folder)


def _wait_for(url: str) -> None:
    import psycopg

    for _ in range(300):
        try:
            return psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise TimeoutError("PostgreSQL does not start")


@pytest.fixture
def new_database(postgresql: str) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"c{uuid.uuid4().hex}"
    with psycopg.connect(postgresql.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a catalogue can be made."""
    if request.param == "sqlite":
        return str(tmp_path / "catalogue")
    return str(request.getfixturevalue("new_database"))


@pytest.fixture
def catalogue(place: str, tmp_path: Path) -> Catalogue:
    """A catalogue without any photo."""
    return create_catalogue(place, tmp_path / "photos" if "://" in place else None)
