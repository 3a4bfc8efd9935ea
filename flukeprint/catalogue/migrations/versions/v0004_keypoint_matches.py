"""Where keypoints of photos in question matched those of candidates' photos; answers of before have none."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "keypoint_matches",
        sa.Column("photo_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("other_id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["photo_id"], ["photos.id"]),
        sa.ForeignKeyConstraint(["other_id"], ["photos.id"]),
    )
