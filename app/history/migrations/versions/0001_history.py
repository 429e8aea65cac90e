"""Threads, turns, views, answers and images.

Written out instead of built from the models, so that it stays what it was when they change.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "threads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        _time("created"),
        _time("updated"),
        sa.PrimaryKeyConstraint("id", name="pk_threads"),
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("thread_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        _time("created"),
        sa.PrimaryKeyConstraint("id", name="pk_turns"),
        sa.ForeignKeyConstraint(
            ["thread_id"], ["threads.id"], name="fk_turns_thread_id_threads", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("thread_id", "position", name="uq_turns_thread_id_position"),
    )
    op.create_table(
        "views",
        sa.Column("turn_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(128), nullable=False),
        sa.Column("view", sa.JSON(), nullable=False),
        sa.Column("render_digest", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "position", name="pk_views"),
        sa.ForeignKeyConstraint(["turn_id"], ["turns.id"], name="fk_views_turn_id_turns", ondelete="CASCADE"),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("turn_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("backend", sa.String(255), nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("usage", sa.JSON()),
        sa.Column("error_key", sa.String(100)),
        sa.Column("error_values", sa.JSON()),
        _time("started"),
        _time("finished", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_answers_turn_id_turns", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("turn_id", "position", name="uq_answers_turn_id_position"),
    )
    op.create_table(
        "images",
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(128), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        _time("created"),
        sa.PrimaryKeyConstraint("owner", "digest", name="pk_images"),
    )
