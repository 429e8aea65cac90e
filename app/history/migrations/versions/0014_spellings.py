"""Words of the search written anew where their spelling counts for less: hamza on waw and ya, joiners, other hehs."""

import logging
import re

import sqlalchemy as sa
from alembic import op

from app.history import parts
from app.history.words import indexed

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# what is written otherwise now; of most messages nothing is, and taking them apart is what takes the time
_TOUCHED = re.compile("[\u00ad\u034f\u0624\u0626\u0654\u06be-\u06c3\u06d2-\u06d5\u180e\u200b-\u200d\u2060\ufb50-\ufdff\ufe70-\ufeff]")
_A_STEP = 1000
_TOLD_EVERY = 100_000
_MESSAGES = sa.text(
    "SELECT passages.id, facets, words, coalesce(answers.text, turns.question) AS said FROM passages "
    "JOIN turns ON turns.id = passages.turn_id LEFT JOIN answers ON answers.id = passages.answer_id "
    "WHERE passages.id > :number ORDER BY passages.id LIMIT :step"
)
_CHANGE = sa.text("UPDATE passages SET words = :words WHERE id = :id")


def upgrade() -> None:
    connection = op.get_bind()
    number, seen = -(2**63), 0
    while some := connection.execute(_MESSAGES, {"number": number, "step": _A_STEP}).all():
        touched = [row for row in some if _TOUCHED.search(row.said)]
        made = [(row, words) for row in touched if (words := indexed(row.said)) != row.words]
        if connection.dialect.name == "sqlite":
            parts.take(connection, [(row.id, row.facets, row.words) for row, _ in made])
            parts.put(connection, [(row.id, row.facets, words) for row, words in made])
        if made:
            connection.execute(_CHANGE, [{"id": row.id, "words": words} for row, words in made])
        number, seen = some[-1].id, seen + len(some)
        if seen % _TOLD_EVERY == 0:
            logging.getLogger("bimedix2.history").warning("words of %d messages were looked at", seen)
