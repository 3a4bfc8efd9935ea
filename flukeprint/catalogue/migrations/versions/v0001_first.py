"""The first version: what is there, the append-only log, the present state, and what is computed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEPT = ("photos", "encounters", "individuals")  # rows are never deleted
_ACTIONS = "'new', 'confirm', 'reject', 'unsure', 'split', 'merge', 'rename', 'undo'"


def upgrade() -> None:
    """Make the tables, and the triggers that keep what was decided."""
    _make_things()
    _make_decisions()
    _make_states()
    _make_computed()
    if op.get_bind().dialect.name == "sqlite":
        _keep_on_sqlite()
    else:
        _keep_on_postgresql()


def _refers(column: str, table: str, key: str = "id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{table}.{key}"])


def _make_things() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )
    op.create_table(
        "encounters",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("key", sa.Text(), nullable=False, unique=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("date", sa.String(32)),
        sa.Column("place", sa.Text()),
        sa.Column("notes", sa.Text()),
    )
    op.create_table(
        "individuals",
        sa.Column("key", sa.Integer(), primary_key=True),
        sa.Column("first_id", sa.String(64), nullable=False),
        sa.Column("first_name", sa.Text()),
        sa.Column("notes", sa.Text()),
    )
    _make_photos()


def _make_photos() -> None:
    op.create_table(
        "photos",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("stored", sa.Text()),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("taken_at", sa.String(32)),
        sa.Column("latitude", sa.Float(53)),
        sa.Column("longitude", sa.Float(53)),
        sa.Column("photographer", sa.Text()),
        sa.Column("viewpoint", sa.Text()),
        sa.Column("quality", sa.Text()),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("phash", sa.String(16), nullable=False),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=False),
        sa.Column("encounter_id", sa.Integer(), nullable=False, index=True),
        _refers("encounter_id", "encounters"),
    )


def _make_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("encounter_id", sa.Integer(), index=True),
        sa.Column("photo_id", sa.Integer(), index=True),
        sa.Column("individual", sa.Integer()),
        sa.Column("other", sa.Integer()),
        sa.Column("undoes", sa.Integer(), index=True),
        sa.Column("seen", sa.Integer()),
        sa.Column("new_id", sa.String(64)),
        sa.Column("new_name", sa.Text()),
        sa.Column("model", sa.String(64)),
        sa.Column("shown", sa.Text()),
        sa.Column("note", sa.Text()),
        sa.CheckConstraint(f"action IN ({_ACTIONS})", name="known_action"),
        sa.CheckConstraint("encounter_id IS NULL OR photo_id IS NULL", name="one_subject"),
        sa.CheckConstraint("(action = 'undo') = (undoes IS NOT NULL)", name="undo_names_a_decision"),
        _refers("encounter_id", "encounters"),
        _refers("photo_id", "photos"),
        _refers("individual", "individuals", "key"),
        _refers("other", "individuals", "key"),
        _refers("undoes", "decisions"),
        sqlite_autoincrement=True,
    )
    op.create_index("decisions_of_individual", "decisions", ["individual"])


def _make_states() -> None:
    op.create_table(
        "decision_states",
        sa.Column("decision_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("holds", sa.Boolean(), nullable=False),
        _refers("decision_id", "decisions"),
    )
    op.create_table(
        "individual_states",
        sa.Column("key", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.Text()),
        sa.Column("merged_into", sa.Integer(), index=True),
        _refers("key", "individuals", "key"),
        _refers("merged_into", "individuals", "key"),
    )
    for subject, further in (("encounter", [sa.Column("version", sa.Integer(), nullable=False)]), ("photo", [])):
        op.create_table(
            f"{subject}_states",
            sa.Column(f"{subject}_id", sa.Integer(), primary_key=True, autoincrement=False),
            sa.Column("status", sa.String(16), nullable=False),
            sa.Column("individual", sa.Integer(), index=True),
            sa.Column("rejected", sa.Text(), nullable=False),
            *further,
            _refers(f"{subject}_id", f"{subject}s"),
            _refers("individual", "individuals", "key"),
        )


def _make_computed() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False, unique=True),
        sa.Column("provenance", sa.Text(), nullable=False),
    )
    op.create_table(
        "vectors",
        sa.Column("model_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("photo_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        _refers("model_id", "models"),
        _refers("photo_id", "photos"),
    )
    op.create_table(
        "answers",
        sa.Column("encounter_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        _refers("encounter_id", "encounters"),
        _refers("model_id", "models"),
    )


def _keep_on_sqlite() -> None:
    forbidden = [("decisions", "UPDATE"), ("decisions", "DELETE"), *((table, "DELETE") for table in _KEPT)]
    for table, change in forbidden:
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table}: rows are never changed or deleted'); END"
        )
    # INSERT OR REPLACE deletes without asking a trigger on DELETE.
    op.execute(
        "CREATE TRIGGER decisions_no_replace BEFORE INSERT ON decisions "
        "WHEN EXISTS (SELECT 1 FROM decisions WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'decisions: rows are never changed or deleted'); END"
    )


def _keep_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION flukeprint_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION '%: rows are never changed or deleted', TG_TABLE_NAME; END $$"
    )
    for table, changes in [("decisions", "UPDATE OR DELETE OR TRUNCATE"), *((t, "DELETE OR TRUNCATE") for t in _KEPT)]:
        op.execute(f"CREATE TRIGGER {table}_no_change BEFORE {changes} ON {table} EXECUTE FUNCTION flukeprint_refuse()")
