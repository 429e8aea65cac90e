"""What the search finds: a passage for each question and each ended answer, kept with their rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.history import parts
from app.history.models import answers, feedback, images, passages, threads, turns, view_images
from app.history.words import facets_of, indexed, judged_facets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

    from app.history.rows import NewTurn

__all__ = [
    "Message",
    "index_answer",
    "index_first",
    "index_judgement",
    "index_messages",
    "index_question",
    "passage_number",
    "unindex_thread",
]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_ADD: Final[Mapping[str, Any]] = {
    name: dialect.insert(passages).on_conflict_do_nothing().returning(passages.c.id)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}

_NEAR_US: Final = 1000
"""Microseconds in which a free number is looked for at first; ten times as many where they are full."""
_LAST_WITHIN: Final = select(func.max(passages.c.id)).where(
    passages.c.id >= bindparam("first"), passages.c.id < bindparam("end")
)

_SHOWN: Final = (
    select(images.c.label)
    .join(view_images, and_(view_images.c.digest == images.c.digest, images.c.owner == bindparam("owner")))
    .join(turns, view_images.c.turn_id == turns.c.id)
    .where(turns.c.thread_id == bindparam("thread"))
    .distinct()
)


@dataclass(frozen=True, slots=True)
class Message:
    """A question or an ended answer, as the search keeps it."""

    time: datetime
    facets: str
    words: str
    turn_id: str
    answer_id: str | None = None
    """``None`` for the question."""


def passage_number(time: datetime) -> int:
    """Count a moment for the search: microseconds since 1970, so that numbers sort by time."""
    elapsed = time - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def index_question(connection: Connection, owner: str, turn: NewTurn) -> None:
    """Put a question into the search, with the modalities its conversation has shown so far."""
    labels: Sequence[str] = ()
    if turn.position or turn.views:
        labels = connection.scalars(_SHOWN, {"owner": owner, "thread": turn.thread_id}).all()
    _put(connection, Message(turn.created, facets_of(owner, labels), indexed(turn.question), turn.id))


def index_first(connection: Connection, answer: Row[Any], text: str) -> None:
    """Put an answer that has just ended into the search, where nothing is of it yet.

    Parameters
    ----------
    answer : Row
        See :func:`rows.lock_answer`.
    text : str
        As it ended.
    """
    facets = judged_facets(answer.facets, answer.reasons)
    _put(connection, Message(answer.started, facets, indexed(text), answer.turn_id, answer.id))


def index_answer(connection: Connection, answer_id: str) -> None:
    """Put an ended answer into the search, in place of what was there of it."""
    _take(connection, passages.c.answer_id == answer_id)
    query = select(answers.c.turn_id, answers.c.text, answers.c.started, passages.c.facets)
    query = query.join(
        passages, and_(passages.c.turn_id == answers.c.turn_id, passages.c.answer_id.is_(None))
    )
    turn_id, text, started, facets = connection.execute(query.where(answers.c.id == answer_id)).one()
    judged = _judged(connection, answer_id, facets)
    _put(connection, Message(started, judged, indexed(text), turn_id, answer_id))


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


def index_messages(connection: Connection, messages: Iterable[Message]) -> None:
    """Put messages that come together into the search; those of one time in their order."""
    wanted = [(passage_number(one.time), one) for one in sorted(messages, key=lambda message: message.time)]
    if wanted:
        wanted[0] = _free(connection, wanted[0][0]), wanted[0][1]
    while wanted:
        numbered: dict[int, Message] = {}
        number = -(2**62)
        for least, one in wanted:
            number = max(number + 1, least)
            numbered[number] = one
        given = [{"id": number, **_values(one)} for number, one in numbered.items()]
        done = set(connection.scalars(_ADD[connection.dialect.name], given))
        if connection.dialect.name == "sqlite":
            parts.put(connection, [(n, one.facets, one.words) for n, one in numbered.items() if n in done])
        # another conversation has a message of this very instant
        wanted = [(_free(connection, n + 1), one) for n, one in numbered.items() if n not in done]


def unindex_thread(connection: Connection, thread_id: str) -> None:
    """Take everything of a conversation out of the search."""
    mine = select(turns.c.id).join(threads, turns.c.thread_id == threads.c.id)
    _take(connection, passages.c.turn_id.in_(mine.where(threads.c.id == thread_id)))


def _judged(connection: Connection, answer_id: str, facets: str) -> str:
    said = connection.execute(select(feedback.c.reasons).where(feedback.c.answer_id == answer_id)).scalar()
    return judged_facets(facets, said)


def _put(connection: Connection, message: Message) -> None:
    """Insert a passage under the number of its time, or under a free one soon after it."""
    number, values = passage_number(message.time), _values(message)
    add = _ADD[connection.dialect.name]
    while connection.execute(add, {"id": number, **values}).first() is None:
        number = _free(connection, number + 1)
    if connection.dialect.name == "sqlite":
        parts.put(connection, [(number, message.facets, message.words)])


def _values(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in ("turn_id", "answer_id", "facets", "words")}


def _free(connection: Connection, first: int) -> int:
    """Find a number nobody has, behind those that stand close together from ``first`` on.

    One step for each number that is taken would let a thousand messages of one instant take a million.
    """
    width = _NEAR_US
    while True:
        last = connection.execute(_LAST_WITHIN, {"first": first, "end": first + width}).scalar()
        if last is None:
            return first
        if last + 1 < first + width:
            return int(last) + 1
        width *= 10


def _take(connection: Connection, which: ColumnElement[bool]) -> None:
    if connection.dialect.name == "sqlite":
        found = connection.execute(select(passages.c.id, passages.c.facets, passages.c.words).where(which))
        parts.take(connection, [(row.id, row.facets, row.words) for row in found])
    connection.execute(delete(passages).where(which))
