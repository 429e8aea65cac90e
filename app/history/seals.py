"""Digests of questions, answers and judgements as they were stored, by which a changed row is found.

Each is taken over the row and a random salt that stands in the row, so that once the row is deleted its
digest tells nothing, not even to somebody who guesses the text. Digests are listed under the entry of the
record of who did what that brought them; the entry's hash covers the list. What is written anew, a
judgement, is listed anew: the last digest counts. That a conversation is still its owner's is told by the
owner of the entry, which its hash covers; conversations from before there were seals have an entry without
one. How much an answer depends on its image is measured later and is not covered; nor are titles, pins and
tags.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import and_, bindparam, func, select

from app.history.models import answers, audit, feedback, seals, threads, turns, view_images, views

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import BindParameter, Connection, Row

    from app.history.rows import NewTurn

__all__ = [
    "Change",
    "Kind",
    "Seal",
    "answer_seal",
    "first_changed",
    "list_digest",
    "row_seals",
    "thread_seals",
    "turn_seal",
]

Kind = Literal["turn", "answer", "feedback"]

_ANSWER: Final = (
    "id",
    "turn_id",
    "position",
    "text",
    "state",
    "backend",
    "language",
    "usage",
    "error_key",
    "error_values",
    "started",
    "finished",
    "translation_of",
)
# written out once: every question and answer is sealed
_IDS: Final[BindParameter[str]] = bindparam("ids", expanding=True)
_TURNS: Final = select(turns).where(turns.c.id.in_(_IDS))
_VIEWS: Final = select(views).where(views.c.turn_id.in_(_IDS)).order_by(views.c.position)
_IMAGES: Final = select(view_images).where(view_images.c.turn_id.in_(_IDS)).order_by(view_images.c.place)
_ANSWERS: Final = (
    select(answers, turns.c.thread_id)
    .join(turns, answers.c.turn_id == turns.c.id)
    .where(answers.c.id.in_(_IDS), answers.c.state != "streaming")
)
_OWNERS: Final = (
    select(turns.c.id, threads.c.owner)
    .join(threads, turns.c.thread_id == threads.c.id)
    .where(turns.c.id.in_(_IDS))
)
_SOME: Final = 500
"""Rows read at a time: a statement takes about a thousand values."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A row as it was stored."""

    kind: Kind
    subject: str
    """Id of the turn or answer."""
    thread_id: str
    digest: str
    """Of the row; empty for a judgement that was taken back."""


@dataclass(frozen=True, slots=True)
class Change:
    """A row that is not as it was sealed."""

    sequence: int
    """Of the entry that brought it; 0 if none did."""
    kind: Literal["content", "removed", "added"]
    subject: str


def list_digest(seals: Iterable[Seal]) -> str:
    """Digest of a list of seals, for the entry they belong to."""
    summed = hashlib.sha256()
    for seal in seals:
        summed.update(f"{seal.kind}\t{seal.subject}\t{seal.thread_id}\t{seal.digest}\n".encode())
    return summed.hexdigest()


def row_seals(connection: Connection, kind: Kind, subjects: Sequence[str]) -> list[Seal]:
    """Seal rows as they stand now; ids that are not there, and answers still being written, are left out."""
    read = {"turn": _turns, "answer": _answers, "feedback": _feedback}[kind]
    made: list[Seal] = []
    for start in range(0, len(subjects), _SOME):
        some = subjects[start : start + _SOME]
        made += [Seal(kind, *one) for one in read(connection, some)]
    return made


def turn_seal(turn: NewTurn) -> Seal:
    """Seal a question as it was just stored: as :func:`row_seals` would, without reading it again."""
    shown = [
        [place, one.view, one.render_digest, list(dict.fromkeys(one.images))]
        for place, one in enumerate(turn.views)
    ]
    return Seal("turn", turn.id, turn.thread_id, _turn_digest(turn, shown))


def answer_seal(thread_id: str, answer: Mapping[str, Any]) -> Seal:
    """Seal an ended answer by the values of its row."""
    digest = _digest("answer", answer["salt"], [answer[name] for name in _ANSWER])
    return Seal("answer", answer["id"], thread_id, digest)


def thread_seals(connection: Connection, thread_id: str) -> list[Seal]:
    """Seal everything of a conversation that was copied or taken in."""
    mine = turns.c.thread_id == thread_id
    asked = connection.scalars(select(turns.c.id).where(mine).order_by(turns.c.position)).all()
    said = select(answers.c.id).join(turns, answers.c.turn_id == turns.c.id).where(mine)
    given = connection.scalars(said.order_by(turns.c.position, answers.c.position)).all()
    sealed = row_seals(connection, "turn", asked) + row_seals(connection, "answer", given)
    return sealed + row_seals(connection, "feedback", given)


def first_changed(connection: Connection, owner: str | None) -> Change | None:
    """Compare every sealed row with its last seal, and every row with there being one.

    Parameters
    ----------
    owner : str, optional
        Only rows this owner's entries brought.

    Returns
    -------
    Change or None
        The one of the earliest entry.
    """
    deleted = set(
        connection.scalars(select(audit.c.subject).where(audit.c.action.in_(("deleted", "pruned"))))
    )
    newest = select(seals.c.kind, seals.c.subject, func.max(seals.c.sequence).label("sequence"))
    last = newest.group_by(seals.c.kind, seals.c.subject).subquery()
    same = and_(
        seals.c.sequence == last.c.sequence, seals.c.kind == last.c.kind, seals.c.subject == last.c.subject
    )
    query = select(seals, audit.c.owner).join(last, same).join(audit, audit.c.sequence == seals.c.sequence)
    if owner is not None:
        query = query.where(
            audit.c.owner.in_((owner, ""))
        )  # without one: the rows of before there were seals
    query = query.order_by(seals.c.sequence, seals.c.place)
    with connection.execute(query.execution_options(yield_per=_SOME)) as listed:
        for some in listed.partitions(_SOME):
            if found := _first_of(connection, some, deleted):
                return found
    return None if owner is not None else _first_unsealed(connection)


def _first_of(connection: Connection, sealed: Sequence[Row[Any]], deleted: Container[str]) -> Change | None:
    now: dict[tuple[str, str], str] = {}
    for kind in ("turn", "answer", "feedback"):
        subjects = [row.subject for row in sealed if row.kind == kind]
        now |= {(kind, seal.subject): seal.digest for seal in row_seals(connection, kind, subjects)}
    asked = [row.subject for row in sealed if row.kind == "turn"]
    owners = {row.id: row.owner for row in connection.execute(_OWNERS, {"ids": asked})}
    for row in sealed:
        found = now.get((row.kind, row.subject), "")
        if row.kind == "turn" and found and row.owner not in ("", owners.get(row.subject)):
            return Change(row.sequence, "content", row.subject)
        if found != row.digest and (found or row.thread_id not in deleted):
            return Change(row.sequence, "content" if found else "removed", row.subject)
    return None


def _first_unsealed(connection: Connection) -> Change | None:
    kept = {"turn": turns.c.id, "answer": answers.c.id, "feedback": feedback.c.answer_id}
    for kind, key in kept.items():
        query = select(key).outerjoin(seals, and_(seals.c.subject == key, seals.c.kind == kind))
        query = query.where(seals.c.subject.is_(None))
        if kind == "answer":
            query = query.where(answers.c.state != "streaming")
        if found := connection.execute(query.limit(1)).scalar():
            return Change(0, "added", found)
    return None


def _turns(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    shown: dict[str, list[Any]] = {}
    digests = _digests(connection, ids)
    for row in connection.execute(_VIEWS, {"ids": ids}):
        images = digests.get((row.turn_id, row.position), [])
        shown.setdefault(row.turn_id, []).append([row.position, row.view, row.render_digest, images])
    for row in connection.execute(_TURNS, {"ids": ids}):
        yield row.id, row.thread_id, _turn_digest(row, shown.get(row.id, []))


def _digests(connection: Connection, ids: Sequence[str]) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for row in connection.execute(_IMAGES, {"ids": ids}):
        found.setdefault((row.turn_id, row.position), []).append(row.digest)
    return found


def _answers(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for row in connection.execute(_ANSWERS, {"ids": ids}).mappings():
        yield row["id"], row["thread_id"], answer_seal(row["thread_id"], dict(row)).digest


def _feedback(connection: Connection, ids: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    query = select(feedback, turns.c.thread_id).join(answers, feedback.c.answer_id == answers.c.id)
    query = query.join(turns, answers.c.turn_id == turns.c.id).where(feedback.c.answer_id.in_(ids))
    for row in connection.execute(query):
        values = [row.answer_id, list(row.reasons), row.text, row.created]
        yield row.answer_id, row.thread_id, _digest("feedback", row.salt, values)


def _turn_digest(turn: Row[Any] | NewTurn, shown: list[Any]) -> str:
    values = [turn.id, turn.thread_id, turn.position, turn.question, turn.created, shown]
    return _digest("turn", turn.salt, values)


def _digest(kind: Kind, salt: str | None, values: list[Any]) -> str:
    text = json.dumps([kind, salt, *values], sort_keys=True, default=_moment)
    return hashlib.sha256(text.encode()).hexdigest()


def _moment(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(type(value).__name__)
    return value.astimezone(UTC).isoformat(timespec="microseconds")
