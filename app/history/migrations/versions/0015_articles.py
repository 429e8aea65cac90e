"""Words of the search written anew: without any article, without accents, units apart from their numbers."""

import logging
import re

import sqlalchemy as sa
from alembic import op

from app.history import parts
from app.history.words import indexed

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# what may be written otherwise now; of most messages little is, and taking them apart is what takes the time
_TOUCHED = re.compile(
    "(?:^| )(?:[وف]?[بك]?ال|[وف]?لل)[^ ]|[0-9][a-z]|[\u00c0-\u024f\u0300-\u052f\u1e00-\u1fff]"
)
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
        touched = [row for row in some if _TOUCHED.search(row.words)]
        made = [(row, words) for row in touched if (words := indexed(row.said)) != row.words]
        if connection.dialect.name == "sqlite":
            parts.take(connection, [(row.id, row.facets, row.words) for row, _ in made])
            parts.put(connection, [(row.id, row.facets, words) for row, words in made])
        if made:
            connection.execute(_CHANGE, [{"id": row.id, "words": words} for row, words in made])
        number, seen = some[-1].id, seen + len(some)
        if seen % _TOLD_EVERY == 0:
            logging.getLogger("bimedix2.history").warning("words of %d messages were looked at", seen)
