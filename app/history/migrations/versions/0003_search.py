"""The search: words of every question and ended answer, and SQLite's full-text index of them.

The rows there are indexed as they stand; the words are today's, because the code that asks is today's.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from app.history.words import facets_of, indexed

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEX = """
CREATE VIRTUAL TABLE search USING fts5(
    facets, words, content='passages', content_rowid='id', columnsize=0, prefix='2 3', tokenize='ascii'
)
"""
_PUT = "INSERT INTO search(rowid, facets, words) VALUES (new.id, new.facets, new.words);"
_TAKE = "INSERT INTO search(search, rowid, facets, words) VALUES ('delete', old.id, old.facets, old.words);"
_TRIGGERS = (
    f"CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN {_PUT} END",
    f"CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN {_TAKE} END",
    f"CREATE TRIGGER passages_changed AFTER UPDATE ON passages BEGIN {_TAKE} {_PUT} END",
)
_MESSAGES = """
SELECT threads.owner, threads.id AS thread_id, turns.id AS turn_id, NULL AS answer_id,
       turns.question AS text, turns.created AS time
FROM turns JOIN threads ON threads.id = turns.thread_id
UNION ALL
SELECT threads.owner, threads.id, turns.id, answers.id, answers.text, answers.started
FROM answers JOIN turns ON turns.id = answers.turn_id JOIN threads ON threads.id = turns.thread_id
WHERE answers.state <> 'streaming'
"""
_LABELS = """
SELECT DISTINCT turns.thread_id, images.label
FROM views JOIN turns ON turns.id = views.turn_id JOIN threads ON threads.id = turns.thread_id
JOIN images ON images.owner = threads.owner AND images.digest = views.image
"""


def upgrade() -> None:
    passages = op.create_table(
        "passages",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False, autoincrement=False
        ),
        sa.Column("turn_id", sa.String(32), nullable=False),
        sa.Column("answer_id", sa.String(32)),
        sa.Column("facets", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_passages"),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name="fk_passages_turn_id_turns", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["answer_id"], ["answers.id"], name="fk_passages_answer_id_answers", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_passages_turn_id", "passages", ["turn_id"])
    op.create_index("ix_passages_answer_id", "passages", ["answer_id"])
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        for statement in (_INDEX, *_TRIGGERS):
            connection.exec_driver_sql(statement)
    _index_what_is_there(connection, passages)


def _index_what_is_there(connection: sa.Connection, passages: sa.Table) -> None:
    labels: dict[str, list[str]] = {}
    for thread_id, label in connection.execute(sa.text(_LABELS)):
        labels.setdefault(thread_id, []).append(label)
    messages = sa.text(_MESSAGES).columns(time=sa.DateTime(timezone=True))
    found = connection.execute(messages)
    taken: set[int] = set()
    while some := found.fetchmany(1000):
        connection.execute(
            sa.insert(passages),
            [
                {
                    "id": _number(row.time, taken),
                    "turn_id": row.turn_id,
                    "answer_id": row.answer_id,
                    "facets": facets_of(row.owner, labels.get(row.thread_id, ())),
                    "words": indexed(row.text),
                }
                for row in some
            ],
        )


def _number(time: datetime, taken: set[int]) -> int:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    number = round((aware - datetime.fromtimestamp(0, UTC)).total_seconds() * 1_000_000)
    while number in taken:
        number += 1
    taken.add(number)
    return number
