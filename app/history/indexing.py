"""What the search finds: a passage for each question and each ended answer, kept with their rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.history import parts
from app.history.models import answers, feedback, images, passages, threads, turns, view_images
from app.history.words import facets_of, feedback_facet, indexed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

    from app.history.rows import NewTurn

__all__ = [
    "index_answer",
    "index_first",
    "index_judgement",
    "index_question",
    "passage_number",
    "unindex_thread",
]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_ADD: Final[Mapping[str, Any]] = {
    name: dialect.insert(passages).on_conflict_do_nothing().returning(passages.c.id)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}

_SHOWN: Final = (
    select(images.c.label)
    .join(view_images, and_(view_images.c.digest == images.c.digest, images.c.owner == bindparam("owner")))
    .join(turns, view_images.c.turn_id == turns.c.id)
    .where(turns.c.thread_id == bindparam("thread"))
    .distinct()
)


def passage_number(time: datetime) -> int:
    """Count a moment for the search: microseconds since 1970, so that numbers sort by time."""
    elapsed = time - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def index_question(connection: Connection, owner: str, turn: NewTurn) -> None:
    """Put a question into the search, with the modalities its conversation has shown so far."""
    labels: Sequence[str] = ()
    if turn.position or turn.views:
        labels = connection.scalars(_SHOWN, {"owner": owner, "thread": turn.thread_id}).all()
    _put(connection, turn.created, facets_of(owner, labels), indexed(turn.question), turn.id)


def index_first(connection: Connection, answer: Row[Any], text: str) -> None:
    """Put an answer that has just ended into the search, where nothing is of it yet.

    Parameters
    ----------
    answer : Row
        See :func:`rows.lock_answer`.
    text : str
        As it ended.
    """
    facets = _with_reasons(answer.facets, answer.reasons)
    _put(connection, answer.started, facets, indexed(text), answer.turn_id, answer.id)


def index_answer(connection: Connection, answer_id: str) -> None:
    """Put an ended answer into the search, in place of what was there of it."""
    _take(connection, passages.c.answer_id == answer_id)
    query = select(answers.c.turn_id, answers.c.text, answers.c.started, passages.c.facets)
    query = query.join(
        passages, and_(passages.c.turn_id == answers.c.turn_id, passages.c.answer_id.is_(None))
    )
    turn_id, text, started, facets = connection.execute(query.where(answers.c.id == answer_id)).one()
    _put(connection, started, _judged(connection, answer_id, facets), indexed(text), turn_id, answer_id)


def index_judgement(connection: Connection, answer_id: str) -> None:
    """Let the search choose an ended answer by what was said of it."""
    query = select(passages.c.id, passages.c.facets, passages.c.words)
    found = connection.execute(query.where(passages.c.answer_id == answer_id)).one_or_none()
    if found is None:
        return
    facets = _judged(connection, answer_id, found.facets)
    if connection.dialect.name == "sqlite":
        parts.take(connection, [(found.id, found.facets, found.words)])
        parts.put(connection, [(found.id, facets, found.words)])
    connection.execute(update(passages).where(passages.c.id == found.id).values(facets=facets))


def unindex_thread(connection: Connection, thread_id: str) -> None:
    """Take everything of a conversation out of the search."""
    mine = select(turns.c.id).join(threads, turns.c.thread_id == threads.c.id)
    _take(connection, passages.c.turn_id.in_(mine.where(threads.c.id == thread_id)))


def _judged(connection: Connection, answer_id: str, facets: str) -> str:
    said = connection.execute(select(feedback.c.reasons).where(feedback.c.answer_id == answer_id)).scalar()
    return _with_reasons(facets, said)


def _with_reasons(facets: str, said: Sequence[str] | None) -> str:
    kept = [word for word in facets.split() if not word.startswith("f")]
    return " ".join(kept + [feedback_facet(one) for one in ("any", *said)] if said is not None else kept)


def _put(  # noqa: PLR0917  # the columns of one row
    connection: Connection,
    time: datetime,
    facets: str,
    words: str,
    turn_id: str,
    answer_id: str | None = None,
) -> None:
    """Insert a passage under the first free number from its time on."""
    number = passage_number(time)
    values = {"turn_id": turn_id, "answer_id": answer_id, "facets": facets, "words": words}
    add = _ADD[connection.dialect.name]
    while connection.execute(add, {"id": number, **values}).first() is None:
        number += 1
    if connection.dialect.name == "sqlite":
        parts.put(connection, [(number, facets, words)])


def _take(connection: Connection, which: ColumnElement[bool]) -> None:
    if connection.dialect.name == "sqlite":
        found = connection.execute(select(passages.c.id, passages.c.facets, passages.c.words).where(which))
        parts.take(connection, [(row.id, row.facets, row.words) for row in found])
    connection.execute(delete(passages).where(which))
