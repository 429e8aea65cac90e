"""The search's index in parts by time on SQLite, so that a deletion is quick; an index on PostgreSQL."""

import sqlalchemy as sa
from alembic import op

from app.history import parts

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LIST = """
CREATE TABLE search_parts (
    number INTEGER PRIMARY KEY, first BIGINT NOT NULL UNIQUE, messages INTEGER NOT NULL,
    unswept INTEGER NOT NULL
)
"""
# Words as they are, each once; facets begin with a sign no word has. A vector has room for 1 MiB, so of a
# longer text only the beginning is found.
_LEXEMES = """
ALTER TABLE passages ADD COLUMN lexemes tsvector GENERATED ALWAYS AS (
    array_to_tsvector(array_remove(
        string_to_array(left(words, 250000), ' ') || string_to_array('~' || replace(facets, ' ', ' ~'), ' '),
    ''))
) STORED
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.execute(_LEXEMES)
        op.execute("CREATE INDEX ix_passages_lexemes ON passages USING gin (lexemes)")
        return
    for name in ("passages_added", "passages_removed", "passages_changed"):
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    connection.exec_driver_sql("DROP TABLE search")
    connection.exec_driver_sql(_LIST)
    parts.begin_part(connection)
    number = -(2**63)
    query = sa.text("SELECT id, facets, words FROM passages WHERE id > :number ORDER BY id LIMIT 1000")
    while some := connection.execute(query, {"number": number}).all():
        parts.put(connection, [tuple(row) for row in some])
        number = some[-1].id
