"""What the review page needs: answers in the order of the queue, photos by name and status, reviewers, their access.

Answers of before have no place in the queue. They are dropped: `flukeprint catalogue identify` computes them again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the columns, indexes and tables."""
    op.execute("DELETE FROM answers")
    op.add_column("answers", sa.Column("worth", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("answers", sa.Column("certainty", sa.Float(53), nullable=False, server_default="0"))
    op.create_index("answers_in_order", "answers", ["worth", "certainty"])
    op.create_index("ix_photos_name", "photos", ["name"])
    for table in ("photo_states", "encounter_states"):
        op.create_index(f"ix_{table}_status", table, ["status"])
    op.create_table(
        "reviewers",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
    )
    op.create_table(
        "accesses",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reviewer", sa.String(64), sa.ForeignKey("reviewers.name"), nullable=False, index=True),
        sa.Column("ends_at", sa.String(32), nullable=False),
    )
