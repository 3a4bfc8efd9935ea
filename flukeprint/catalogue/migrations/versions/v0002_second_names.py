"""Files that sources have under two ids: the second one is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_TABLE = "second_names"
_REFUSAL = f"{_TABLE}: rows are never changed or deleted"


def upgrade() -> None:
    """Make the table, of which rows are never deleted."""
    op.create_table(
        _TABLE,
        sa.Column("photo_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("individual", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.id"]),
        sa.ForeignKeyConstraint(["individual"], ["individuals.key"]),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {_TABLE}_no_delete BEFORE DELETE ON {_TABLE} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )
    else:
        op.execute(
            f"CREATE TRIGGER {_TABLE}_no_change BEFORE DELETE OR TRUNCATE ON {_TABLE} "
            "EXECUTE FUNCTION flukeprint_refuse()"
        )
