"""The statements of the history, each inside its caller's transaction.

What is read before a write is locked where the database can; SQLite's writer is alone. The lock is always
the thread's, taken first, so that two never wait for each other.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from app.errors import AnswerNotFoundError, ImageNotFoundError, ThreadNotFoundError, TurnNotFoundError
from app.history.indexing import unindex_thread
from app.history.lines import is_plain, storable_values
from app.history.models import (
    answers,
    feedback,
    images,
    passages,
    tags,
    threads,
    turns,
    view_images,
    views,
)
from app.history.records import Answer, ImageRecord, StoredView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import BindParameter, Connection, Row, Select, Update

__all__ = [
    "NewTurn",
    "answers_of",
    "check_answer",
    "check_image",
    "check_thread",
    "check_turn",
    "delete_thread",
    "end_answer",
    "image_record",
    "insert_answer",
    "insert_thread",
    "insert_turn",
    "lengthen_answer",
    "lock_answer",
    "lock_thread_of",
    "new_id",
    "release_image",
    "tags_of",
    "touch",
    "views_of",
]

_OPEN_STATES = ("streaming", "interrupted")
"""States an answer may still be written in; ``interrupted`` too, because a second process that starts on
the same history marks the first one's answers, and what the first still writes must not be lost."""
_LONGEST_NAME = 255
_MINE: Final = answers.c.id == bindparam("answer")
_STILL_OPEN: Final = and_(_MINE, answers.c.state.in_(_OPEN_STATES))
_ENDING: Final = {
    name: f"new_{name}" for name in ("text", "state", "usage", "error_key", "error_values", "finished")
}
_END: Final = (
    update(answers)
    .where(_STILL_OPEN)
    .values({answers.c[name]: bindparam(given) for name, given in _ENDING.items()})
)
_BEFORE_END: Final = (
    select(answers, turns.c.thread_id, threads.c.owner, passages.c.facets, feedback.c.reasons)
    .join(turns, answers.c.turn_id == turns.c.id)
    .join(threads, turns.c.thread_id == threads.c.id)
    .outerjoin(passages, and_(passages.c.turn_id == turns.c.id, passages.c.answer_id.is_(None)))
    .outerjoin(feedback, feedback.c.answer_id == answers.c.id)
    .where(_MINE)
    .with_for_update(of=threads)
)
# written out once: every question needs them
_ADD_THREAD: Final = insert(threads)
_ADD_TURN: Final = insert(turns)
_ADD_ANSWER: Final = insert(answers)
_PARENT: Final[BindParameter[str]] = bindparam("parent")
_LAST_TURN: Final = select(func.max(turns.c.position)).where(turns.c.thread_id == _PARENT)
_LAST_ANSWER: Final = select(func.max(answers.c.position)).where(answers.c.turn_id == _PARENT)
_TOUCH: Final = update(threads).where(threads.c.id == bindparam("thread")).values(updated=bindparam("now"))
_ANSWER_COLUMNS = (
    answers.c.id,
    answers.c.text,
    answers.c.state,
    answers.c.backend,
    answers.c.language,
    answers.c.usage,
    answers.c.error_key,
    answers.c.error_values,
    answers.c.started,
    answers.c.finished,
    answers.c.translation_of,
    answers.c.grounding,
)
"""In the order of the fields of ``Answer``."""


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A question as it was just stored."""

    id: str
    thread_id: str
    position: int
    question: str
    created: datetime
    salt: str
    views: tuple[StoredView, ...]


def new_id() -> str:
    """128 random bits: an id cannot be guessed, so knowing it is part of the permission."""
    return secrets.token_urlsafe(16)


def check_thread(connection: Connection, owner: str, thread_id: str, *, lock: bool) -> Row[Any]:
    """Row of a thread of this owner; ``lock`` it when it is going to change."""
    query = select(threads).where(threads.c.id == thread_id, threads.c.owner == owner)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise ThreadNotFoundError(found=thread_id)
    return row


def check_turn(connection: Connection, owner: str, turn_id: str) -> Row[Any]:
    """Thread, question and position of a turn."""
    query = select(turns).join(threads, turns.c.thread_id == threads.c.id)
    query = query.where(turns.c.id == turn_id, threads.c.owner == owner).with_for_update(of=threads)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise TurnNotFoundError(found=turn_id)
    return row


def check_answer(connection: Connection, owner: str, answer_id: str) -> Row[Any]:
    """Row of an answer in a thread of this owner."""
    query = select(answers).join(turns, answers.c.turn_id == turns.c.id)
    query = query.join(threads, turns.c.thread_id == threads.c.id)
    query = query.where(answers.c.id == answer_id, threads.c.owner == owner).with_for_update(of=threads)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise AnswerNotFoundError(found=answer_id)
    return row


def check_image(connection: Connection, owner: str, digest: str, *, lock: bool = False) -> ImageRecord:
    """Image of this owner; ``lock`` it against deletion when a view is going to show it."""
    query = select(images).where(images.c.owner == owner, images.c.digest == digest)
    query = query.with_for_update(read=True) if lock else query
    row = connection.execute(query).one_or_none()
    if row is None:
        raise ImageNotFoundError(found=digest)
    return image_record(row)


def image_record(row: Row[Any]) -> ImageRecord:
    """Value of a row."""
    return ImageRecord(row.digest, row.owner, row.label, row.created, row.patient, row.study)


def insert_thread(
    connection: Connection, owner: str, title: str, now: datetime, language: str | None = None
) -> str:
    """Begin a thread, the language of whose answers may be fixed."""
    thread_id = new_id()
    values = {"id": thread_id, "owner": owner, "title": title, "created": now, "updated": now}
    connection.execute(_ADD_THREAD, {**values, "answer_language": language})
    return thread_id


def insert_turn(  # noqa: PLR0917  # the columns of one row
    connection: Connection,
    thread_id: str,
    question: str,
    shown: Iterable[StoredView],
    created: datetime,
    position: int | None = None,
) -> NewTurn:
    """Add a turn with its views, behind the last one if no position is given."""
    if position is None:
        position = _next(connection, _LAST_TURN, thread_id)
    turn = NewTurn(new_id(), thread_id, position, question, created, new_id(), tuple(shown))
    values = {"id": turn.id, "thread_id": thread_id, "position": position, "question": question}
    connection.execute(_ADD_TURN, {**values, "created": created, "salt": turn.salt})
    if turn.views:
        _insert_views(connection, turn.id, turn.views)
        _adopt_study(connection, thread_id, turn.id)
    return turn


def _insert_views(connection: Connection, turn_id: str, shown: Sequence[StoredView]) -> None:
    connection.execute(
        insert(views),
        [
            {"turn_id": turn_id, "position": number, "view": one.view, "render_digest": one.render_digest}
            for number, one in enumerate(shown)
        ],
    )
    named = [
        {"turn_id": turn_id, "position": number, "place": place, "digest": digest}
        for number, one in enumerate(shown)
        for place, digest in enumerate(dict.fromkeys(one.images))
    ]
    if named:
        connection.execute(insert(view_images), named)


def _adopt_study(connection: Connection, thread_id: str, turn_id: str) -> None:
    """Give a conversation without one the patient and study of the first image that knows them."""
    query = select(images.c.patient, images.c.study)
    query = query.join(threads, and_(threads.c.id == thread_id, threads.c.owner == images.c.owner))
    query = query.join(
        view_images, and_(view_images.c.digest == images.c.digest, view_images.c.turn_id == turn_id)
    )
    query = query.where(threads.c.study.is_(None), threads.c.patient.is_(None))
    query = query.where(or_(images.c.study.is_not(None), images.c.patient.is_not(None)))
    found = connection.execute(query.order_by(view_images.c.position, view_images.c.place).limit(1)).first()
    if found is not None:
        values = {"patient": found.patient, "study": found.study}
        connection.execute(update(threads).where(threads.c.id == thread_id).values(**values))


def insert_answer(  # noqa: PLR0917  # the columns of one row
    connection: Connection,
    turn_id: str,
    language: str,
    backend: str,
    now: datetime,
    translation_of: str | None = None,
    position: int | None = None,
) -> str:
    """Begin an answer, after those the turn has if no position is given."""
    answer_id = new_id()
    values = {
        "id": answer_id,
        "turn_id": turn_id,
        "position": _next(connection, _LAST_ANSWER, turn_id) if position is None else position,
        "text": "",
        "state": "streaming",
        "backend": backend[:_LONGEST_NAME],
        "language": language,
        "started": now,
        "translation_of": translation_of,
        "salt": new_id(),
    }
    connection.execute(_ADD_ANSWER, values)
    return answer_id


def _next(connection: Connection, last_among: Select[Any], parent: str) -> int:
    """Position after the last one."""
    last = connection.execute(last_among, {"parent": parent}).scalar()
    return 0 if last is None else int(last) + 1


def end_answer(connection: Connection, answer_id: str, end: Mapping[str, object]) -> None:
    """Store how an answer ended: text, state, usage, error_key, error_values and finished.

    Raises
    ------
    AnswerNotFoundError
        If it is gone.
    ValueError
        If it was finished already.
    """
    _change_open(connection, _END, answer_id, {given: end[name] for name, given in _ENDING.items()})


def lengthen_answer(connection: Connection, answer_id: str, text: str) -> None:
    """Store the text so far of an answer that was taken for cut off; raises as :func:`end_answer`."""
    _change_open(connection, update(answers).where(_STILL_OPEN).values(text=text), answer_id, {})


def _change_open(
    connection: Connection, change: Update, answer_id: str, values: Mapping[str, object]
) -> None:
    if connection.execute(change, {"answer": answer_id, **values}).rowcount:
        return
    if connection.execute(select(answers.c.id).where(answers.c.id == answer_id)).one_or_none() is None:
        raise AnswerNotFoundError(found=answer_id)
    raise ValueError(f"the answer {answer_id} was finished already")


def lock_answer(connection: Connection, answer_id: str) -> Row[Any]:
    """Lock the thread an answer stands in; returns the answer's row, with what its end needs to know.

    Returns
    -------
    Row
        Of the answer, with its ``thread_id`` and ``owner``, the ``facets`` of its question and the
        ``reasons`` it was judged with already.

    Raises
    ------
    AnswerNotFoundError
    """
    row = connection.execute(_BEFORE_END, {"answer": answer_id}).one_or_none()
    if row is None:
        raise AnswerNotFoundError(found=answer_id)
    return row


def lock_thread_of(connection: Connection, answer_id: str) -> tuple[str, str]:
    """Lock the thread an answer stands in; returns its id and owner."""
    query = select(threads.c.id, threads.c.owner).join(turns, turns.c.thread_id == threads.c.id)
    query = query.join(answers, answers.c.turn_id == turns.c.id).where(answers.c.id == answer_id)
    row = connection.execute(query.with_for_update(of=threads)).one_or_none()
    if row is None:
        raise AnswerNotFoundError(found=answer_id)
    return row.id, row.owner


def touch(connection: Connection, thread_id: str, now: datetime) -> None:
    """Note when a thread changed."""
    connection.execute(_TOUCH, {"thread": thread_id, "now": now})


def views_of(connection: Connection, thread_id: str) -> dict[str, list[StoredView]]:
    """Collect the views of a thread by turn, in order."""
    mine = turns.c.thread_id == thread_id
    query = select(view_images).join(turns, view_images.c.turn_id == turns.c.id).where(mine)
    digests: dict[tuple[str, int], list[str]] = {}
    for row in connection.execute(query.order_by(view_images.c.place)):
        digests.setdefault((row.turn_id, row.position), []).append(row.digest)
    query = select(views).join(turns, views.c.turn_id == turns.c.id).where(mine)
    found: dict[str, list[StoredView]] = {}
    for row in connection.execute(query.order_by(views.c.position)):
        shown = tuple(digests.get((row.turn_id, row.position), ()))
        found.setdefault(row.turn_id, []).append(StoredView(shown, row.view, row.render_digest))
    return found


def answers_of(connection: Connection, thread_id: str) -> dict[str, list[Answer]]:
    """Answers of a thread by turn, oldest first."""
    query = select(answers.c.turn_id, *_ANSWER_COLUMNS).join(turns, answers.c.turn_id == turns.c.id)
    query = query.where(turns.c.thread_id == thread_id).order_by(answers.c.position)
    found: dict[str, list[Answer]] = {}
    for turn_id, *values in connection.execute(query):
        found.setdefault(turn_id, []).append(_readable(Answer(*values)))
    return found


def _readable(answer: Answer) -> Answer:
    """Answer whose values can be shown and exported, also where an earlier version stored what cannot."""
    if answer.usage is None and answer.error_values is None and answer.grounding is None:
        return answer
    return replace(
        answer,
        usage=storable_values(answer.usage),
        error_values=storable_values(answer.error_values),
        grounding=storable_values(answer.grounding) if is_plain(answer.grounding) else None,
    )


def tags_of(connection: Connection, thread_ids: Sequence[str]) -> dict[str, list[str]]:
    """Tags of threads, sorted."""
    found: dict[str, list[str]] = {}
    query = select(tags).where(tags.c.thread_id.in_(thread_ids)).order_by(tags.c.tag)
    for thread_id, tag in connection.execute(query):
        found.setdefault(thread_id, []).append(tag)
    return found


def delete_thread(connection: Connection, owner: str, thread_id: str) -> list[str]:
    """Delete a thread with all that hangs from it; returns the images that nobody has any more.

    The rest of a study goes with the last thread that shows something of it.
    """
    used = select(view_images.c.digest).join(turns, view_images.c.turn_id == turns.c.id)
    used = used.where(turns.c.thread_id == thread_id)
    digests = connection.scalars(used.distinct()).all()
    of_them = select(images.c.study).where(images.c.owner == owner, images.c.digest.in_(used))
    studies = [study for study in connection.scalars(of_them.distinct()) if study]
    unindex_thread(connection, thread_id)
    connection.execute(delete(threads).where(threads.c.id == thread_id))
    left = [digest for study in studies for digest in _unused_study(connection, owner, study)]
    return [digest for digest in dict.fromkeys((*digests, *left)) if release_image(connection, owner, digest)]


def _unused_study(connection: Connection, owner: str, study: str) -> Sequence[str]:
    """Images of an owner's study; none when a thread of theirs shows any of them."""
    mine = select(images.c.digest).where(images.c.owner == owner, images.c.study == study)
    shown = select(view_images.c.digest).join(turns, view_images.c.turn_id == turns.c.id)
    shown = shown.join(threads, turns.c.thread_id == threads.c.id)
    shown = shown.where(threads.c.owner == owner, view_images.c.digest.in_(mine)).limit(1)
    return [] if connection.execute(shown).first() is not None else connection.scalars(mine).all()


def release_image(connection: Connection, owner: str, digest: str) -> bool:
    """Drop an owner's image that no thread of theirs shows; true when nobody has it any more."""
    shown = select(view_images.c.digest).join(turns, view_images.c.turn_id == turns.c.id)
    shown = shown.join(threads, turns.c.thread_id == threads.c.id)
    shown = shown.where(threads.c.owner == owner, view_images.c.digest == digest)
    mine = and_(images.c.owner == owner, images.c.digest == digest)
    # waits for a turn that is just being stored; only the statement after this one sees its view
    connection.execute(select(images.c.digest).where(mine).with_for_update())
    connection.execute(delete(images).where(mine, ~shown.exists()))
    return (
        connection.execute(select(images.c.digest).where(images.c.digest == digest).limit(1)).first() is None
    )
