"""The language a conversation is answered in, answers that translate another, patient and study by pseudonym."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("threads", sa.Column("answer_language", sa.String(2)))
    for table in ("threads", "images"):
        op.add_column(table, sa.Column("patient", sa.String(64)))
        op.add_column(table, sa.Column("study", sa.String(64)))
    # no foreign key: an answer goes with its turn, and never without the one it translates
    op.add_column("answers", sa.Column("translation_of", sa.String(32)))
    op.create_index("ix_threads_owner_study", "threads", ["owner", "study"])
