"""The database: its tables, what it refuses by itself, and places that are no catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from catalogue_rows import add_encounter
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from flukeprint.catalogue.catalogues import MODEL, create_catalogue, open_catalogue, printed, set_setting
from flukeprint.catalogue.database import VERSION, open_database
from flukeprint.catalogue.entities import AnswerRow, Base, DecisionRow, ModelRow
from flukeprint.catalogue.vector_cache import open_model_of
from flukeprint.core.errors import FlukeprintError


def test_the_migrations_make_the_tables_that_the_program_expects(catalogue):
    with catalogue.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    config = Config()
    config.set_main_option("script_location", "flukeprint.catalogue:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == VERSION


def test_an_older_catalogue_gets_the_tables_that_are_missing_and_keeps_its_answers(place, tmp_path):
    catalogue = create_catalogue(place, tmp_path / "photos" if "://" in place else None)
    with catalogue.database.writing() as connection:
        connection.execute(text("DROP TABLE keypoint_matches"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
        add_encounter(connection, 1, 1)
        connection.execute(insert(ModelRow).values(id=1, fingerprint="f", provenance="{}"))
        connection.execute(insert(AnswerRow).values(encounter_id=1, model_id=1, content="{}", worth=0, certainty=0.5))
    with open_catalogue(place).database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.execute(select(AnswerRow.certainty)).scalar_one() == 0.5
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == VERSION


def decide(connection, number: int = 1) -> None:
    values = {"id": number, "at": "2026-01-01T00:00:00", "who": "ann", "action": "unsure", "encounter_id": 1}
    connection.execute(insert(DecisionRow).values(**values))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE decisions SET who = 'bob'",
        "UPDATE decisions SET action = 'confirm' WHERE id = 1",
        "DELETE FROM decisions",
        "DELETE FROM photos",
        "DELETE FROM encounters",
        "DELETE FROM individuals",
    ],
)
def test_the_database_itself_refuses_to_change_or_delete_what_was_decided(catalogue, change):
    with catalogue.database.writing() as connection:
        add_encounter(connection, 1, 2)
        decide(connection)
        if "individuals" in change:
            connection.execute(text("INSERT INTO individuals (key, first_id) VALUES (1, 'w_1')"))
    with pytest.raises(DBAPIError, match="never changed or deleted"), catalogue.database.writing() as connection:
        connection.execute(text(change))
    with catalogue.database.reading() as connection:
        assert connection.execute(select(DecisionRow.who, DecisionRow.action)).all() == [("ann", "unsure")]


def test_no_decision_is_replaced_by_an_insert(tmp_path):
    catalogue = create_catalogue(str(tmp_path / "catalogue"))
    with catalogue.database.writing() as connection:
        add_encounter(connection, 1, 1)
        decide(connection)
    for how in ("INSERT OR REPLACE", "REPLACE"):
        with pytest.raises(DBAPIError, match="never changed or deleted"), catalogue.database.writing() as connection:
            connection.execute(text(f"{how} INTO decisions (id, at, who, action) VALUES (1, '', 'bob', 'unsure')"))


def test_a_change_that_fails_is_not_made_at_all(catalogue):
    with pytest.raises(RuntimeError), catalogue.database.writing() as connection:
        add_encounter(connection, 1, 2)
        raise RuntimeError
    with catalogue.database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM encounters")).scalar() == 0


@pytest.mark.parametrize(
    "setting", ["PRAGMA journal_mode", "PRAGMA foreign_keys", "PRAGMA synchronous", "PRAGMA busy_timeout"]
)
def test_sqlite_is_set_up_for_several_writers_and_for_keeping_what_was_said_to_be_saved(tmp_path, setting):
    expected = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 60_000}
    with create_catalogue(str(tmp_path / "catalogue")).database.reading() as connection:
        assert connection.execute(text(setting)).scalar() == expected[setting.split()[1]]


def test_a_writer_waits_for_the_other_one_and_not_for_ever(place, tmp_path, monkeypatch):
    monkeypatch.setattr("flukeprint.catalogue.database._PATIENCE", 1)
    store = tmp_path / "photos" if "://" in place else None
    one, other = create_catalogue(place, store), open_catalogue(place)
    with one.database.writing(), pytest.raises(FlukeprintError, match="cannot be used"), other.database.writing():
        pytest.fail("two write at once")
    with other.database.writing() as connection:
        set_setting(connection, "free", "again")


def test_a_connection_that_broke_meanwhile_is_replaced(new_database, tmp_path):
    catalogue = create_catalogue(new_database, tmp_path / "photos")
    with catalogue.database.reading() as connection:
        own = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    others = open_database(catalogue.place)
    with others.writing() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:own, 5000)"), {"own": own})
    with catalogue.database.reading() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != own


def test_places_that_are_no_catalogue_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("a")
    with pytest.raises(FlukeprintError, match="not empty"):
        create_catalogue(str(tmp_path / "full"))
    with pytest.raises(FlukeprintError, match="no catalogue"):
        open_catalogue(str(tmp_path / "full"))
    (tmp_path / "full" / "catalogue.db").write_bytes(b"no database at all, " * 100)
    with pytest.raises(FlukeprintError, match="no database"):
        open_catalogue(str(tmp_path / "full"))
    for place in ("mysql://host/name", "postgresql://nobody@127.0.0.1:1/none", "x://"):
        with pytest.raises(FlukeprintError):
            open_catalogue(place)


def test_a_catalogue_that_was_not_finished_is_made_again_and_a_finished_one_is_not(tmp_path):
    folder = tmp_path / "catalogue"
    folder.mkdir()
    open_database(folder / "catalogue.db")  # killed before anything else was said
    with pytest.raises(FlukeprintError, match="create"):
        open_catalogue(str(folder))
    (folder / "model").mkdir()  # killed before it was known to be the catalogue's
    unfinished = create_catalogue(str(folder))
    with pytest.raises(FlukeprintError, match="has no model"):
        open_model_of(unfinished)
    create_catalogue(str(folder))
    with unfinished.database.writing() as connection:
        set_setting(connection, MODEL, "f" * 64)
    with pytest.raises(FlukeprintError, match="is a catalogue already"):
        create_catalogue(str(folder))


def test_no_password_is_printed():
    assert printed("postgresql://ann:secret@host/whales") == "postgresql://ann:***@host/whales"


def test_a_newer_catalogue_is_refused(tmp_path):
    catalogue = create_catalogue(str(tmp_path / "catalogue"))
    with catalogue.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FlukeprintError, match="9999"):
        open_catalogue(catalogue.place)


def test_other_tables_than_a_catalogues_are_left_alone(tmp_path):
    import sqlite3

    folder = tmp_path / "catalogue"
    folder.mkdir()
    with sqlite3.connect(folder / "catalogue.db") as other:
        other.execute("CREATE TABLE notes (a)")
    with pytest.raises(FlukeprintError, match="other tables"):
        open_catalogue(str(folder))
    assert [path.name for path in Path(folder).iterdir() if path.suffix == ".db"] == ["catalogue.db"]
