"""What was measured on pictures, with the conversation it belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("thread_id", sa.String(32), nullable=False),
        sa.Column("view", sa.JSON, nullable=False),
        sa.Column("measurement", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.ForeignKeyConstraint(
            ["thread_id"],
            ["threads.id"],
            name="fk_measurements_thread_id_threads",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_measurements_thread_id", "measurements", ["thread_id"])
