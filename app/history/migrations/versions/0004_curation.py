"""What a reader adds: pins and tags of conversations, a judgement of an answer."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("threads", sa.Column("pinned", sa.DateTime(timezone=True)))
    op.create_table(
        "tags",
        sa.Column("thread_id", sa.String(32), nullable=False),
        sa.Column("tag", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("thread_id", "tag", name="pk_tags"),
        sa.ForeignKeyConstraint(
            ["thread_id"], ["threads.id"], name="fk_tags_thread_id_threads", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "feedback",
        sa.Column("answer_id", sa.String(32), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("answer_id", name="pk_feedback"),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answers.id"], name="fk_feedback_answer_id_answers", ondelete="CASCADE"
        ),
    )
