"""The database: SQLite as one file, or PostgreSQL by its URL. Every change is one transaction; writers take turns.

So a killed program leaves a change whole or not at all, and decisions stand in the log in the order in which they were
committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.safe_text import printable

# The newest migration. An older database is migrated when it is opened, a newer one is refused.
VERSION = "0004"
# Seconds that a writer waits for the others.
_PATIENCE = 60
# Name of the lock by which writers on PostgreSQL take turns: any number that nobody else uses.
_TURNS = 7_205_759_403
_WRITES = "flukeprint_writes"


@dataclass(frozen=True)
class Database:
    """A database that was opened; transactions on it."""

    engine: Engine

    @property
    def _is_server(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection on which everything is seen as of one moment."""
        options = {"isolation_level": "REPEATABLE READ"} if self._is_server else {}
        with self._transaction(**options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection for one change, which is made whole at the end, or not at all; others wait."""
        with self._transaction(**{_WRITES: True}) as connection:
            if self._is_server:
                connection.execute(text(f"SET LOCAL lock_timeout = '{_PATIENCE}s'"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:turns)"), {"turns": _TURNS})
            yield connection

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[Connection]:
        with (
            _named_faults(self.engine),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection


def inserted(connection: Connection, table: Any, key: Any, rows: Iterable[dict[str, Any]]) -> list[int]:
    """Insert rows; return their keys in the same order, if a key is wanted."""
    content = list(rows)
    if not content:
        return []
    if key is None:
        connection.execute(insert(table), content)
        return []
    return list(connection.execute(insert(table).returning(key, sort_by_parameter_order=True), content).scalars())


def open_database(place: Path | str) -> Database:
    """Open the SQLite file, or the PostgreSQL database of a URL, and bring its tables to this program's version.

    Raises:
        FlukeprintError: it cannot be reached, is something else, or was written by a newer version.
    """
    engine = _sqlite(place) if isinstance(place, Path) else _postgresql(place)
    database = Database(engine)
    with database.reading() as connection:
        version = _version(connection)
    if version != VERSION:
        with database.writing() as connection:
            _migrate(connection)
    return database


def _sqlite(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": _PATIENCE})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own, and too late
        # SQLite's own knows A to Z alone: it would find no Ñandú.
        connection.create_function("lower", 1, _lower, deterministic=True)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes its turn at once: one that first reads and then writes would fail where others wrote meanwhile.
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _postgresql(given: str) -> Engine:
    try:
        url = make_url(given)
    except ArgumentError:
        raise FlukeprintError(f"{printable(given)} is no URL of a database. {_EXPECTED}") from None
    if url.get_backend_name() != "postgresql":
        raise FlukeprintError(f"{printable(url.drivername)} is no database that catalogues use. {_EXPECTED}")
    try:
        # A writer sees what was committed while it waited for its turn; a reader sees one moment. A connection that
        # broke while nobody used it, because the server was started anew, is replaced.
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"), isolation_level="READ COMMITTED", pool_pre_ping=True
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise FlukeprintError("PostgreSQL needs psycopg: `pip install 'flukeprint[postgres]'`.") from None
    return engine


_EXPECTED = "Name a folder, or postgresql://USER@HOST/DATABASE (the password in PGPASSWORD or ~/.pgpass)."


def _version(connection: Connection) -> str | None:
    """Return the version of the tables, None where there are none; refuse what this program cannot read."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    found: str | None = None
    if {"alembic_version", "decisions", "encounters"} <= tables:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    where = printable(connection.engine.url.render_as_string())
    if found is None:
        raise FlukeprintError(f"{where} holds other tables than a catalogue's. Name another place.")
    if found > VERSION:
        raise FlukeprintError(f"{where} has version {found}, this program knows {VERSION}. Update flukeprint.")
    return found


def _migrate(connection: Connection) -> None:
    """Run the migrations that are missing. Another program may just have run them: then there are none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "flukeprint.catalogue:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _named_faults(engine: Engine) -> Iterator[None]:
    """Turn what a database refuses into a FlukeprintError; its own checks (of the append-only log) stay as they are."""
    where = printable(engine.url.render_as_string())
    try:
        yield
    except OperationalError as error:
        raise FlukeprintError(f"the database {where} cannot be used: {_reason(error)}. {_REPAIR}") from None
    except DBAPIError as error:
        if "not a database" not in str(error.orig) and "malformed" not in str(error.orig):
            raise
        raise FlukeprintError(f"{where} is damaged, or no database: {_reason(error)}. Restore a copy of it.") from None


_REPAIR = "See that its place exists and can be written to, that the server runs, and that there is room."


def _reason(error: DBAPIError) -> str:
    return printable(str(error.orig).strip().splitlines()[0]) if str(error.orig).strip() else "no reason given"
