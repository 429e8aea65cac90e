"""Digests of questions, answers and judgements, so that a row changed behind the store's back is found.

The rows there are sealed as they stand, in one entry of the record.
"""

import secrets

import sqlalchemy as sa
from alembic import op

from app.history.audit import append
from app.history.seals import Kind, row_seals

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KEYS: dict[Kind, tuple[str, str]] = {"turn": ("turns", "id"), "answer": ("answers", "id"), "feedback": ("feedback", "answer_id")}


def upgrade() -> None:
    op.add_column("audit", sa.Column("content", sa.String(64)))
    op.create_table(
        "seals",
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("thread_id", sa.String(32), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sequence", "place", name="pk_seals"),
        sa.ForeignKeyConstraint(["sequence"], ["audit.sequence"], name="fk_seals_sequence_audit"),
    )
    op.create_index("ix_seals_subject", "seals", ["subject"])
    for name, _ in _KEYS.values():
        op.add_column(name, sa.Column("salt", sa.String(32)))
    connection = op.get_bind()
    made = []
    for kind, (name, key) in _KEYS.items():
        ids = connection.scalars(sa.text(f"SELECT {key} FROM {name} ORDER BY {key}")).all()
        salt = sa.text(f"UPDATE {name} SET salt = :salt WHERE {key} = :id")
        for start in range(0, len(ids), 1000):
            some = ids[start : start + 1000]
            connection.execute(salt, [{"salt": secrets.token_urlsafe(16), "id": one} for one in some])
            made += row_seals(connection, kind, some)
    if made:
        append(connection, "", "sealed", "", made)
