"""Where the tests' catalogues are: SQLite in a folder, and PostgreSQL on a server of their own where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
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
    programs = [_program(name) for name in ("initdb", "pg_ctl")]
    if None in programs:
        pytest.skip("no PostgreSQL server here: initdb and pg_ctl are not installed (Debian: postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'flukeprint[postgres]'")
    # A short path: a socket's may have 107 characters. The server refuses to be root.
    folder = Path(tempfile.mkdtemp(prefix="fp-pg-"))
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    if user:
        shutil.chown(folder, "nobody", "nogroup")
    data, log = folder / "data", folder / "log"
    run = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run([*user, programs[0], "-D", data, "-U", "flukeprint", "-A", "trust", "--no-sync"], **run)  # noqa: PLW1510
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    subprocess.run([*user, programs[1], "-D", data, "-l", log, "-o", options, "-w", "start"], **run)  # noqa: PLW1510
    try:
        yield f"postgresql://flukeprint@/{{}}?host={folder}"
    finally:
        subprocess.run([*user, programs[1], "-D", data, "-m", "immediate", "-w", "stop"], **run)  # noqa: PLW1510
        shutil.rmtree(folder)


def new_database(server: str) -> str:
    """Make a database on the server; return its URL."""
    import psycopg

    name = f"c{uuid.uuid4().hex}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a catalogue can be made."""
    if request.param == "sqlite":
        return str(tmp_path / "catalogue")
    return new_database(request.getfixturevalue("postgresql"))


@pytest.fixture
def catalogue(place: str, tmp_path: Path) -> Catalogue:
    """A catalogue without any photo."""
    return create_catalogue(place, tmp_path / "photos" if "://" in place else None)
