"""Rows of a conversation that was taken in: all at once, since nobody else can write meanwhile.

In: a record as ``checked`` of :mod:`app.history.archive_schema` returned it. A statement for each kind of
row and not for each row: a long conversation would otherwise keep everybody waiting for half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from app.history import rows
from app.history.indexing import Message, index_messages
from app.history.lines import LONGEST_TITLE, one_line, storable
from app.history.models import answers, feedback, images, tags, threads, turns, view_images, views
from app.history.words import facets_of, indexed, judged_facets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Table

__all__ = ["TakenIn", "prepared", "store"]


@dataclass(slots=True)
class TakenIn:
    """Everything of a conversation but its images, ready to be stored."""

    thread: dict[str, Any]
    tags: list[str]
    rows: list[tuple[Table, list[dict[str, Any]]]] = field(default_factory=list)
    """In the order in which they can be stored."""
    messages: list[Message] = field(default_factory=list)
    """For the search."""


def prepared(owner: str, thread: Mapping[str, Any], kept: Mapping[str, tuple[str, str]]) -> TakenIn:
    """Make the rows of a conversation; no database is asked, so nobody waits.

    Parameters
    ----------
    owner : str
        Whose it becomes.
    thread : mapping
        The record's.
    kept : mapping
        Digest here and neutral label, by the sender's digest.
    """
    thread_id = rows.new_id()
    made = TakenIn(
        {
            "id": thread_id,
            "owner": owner,
            "title": one_line(thread["title"])[:LONGEST_TITLE],
            "created": thread["created"],
            "updated": thread["updated"],
            "answer_language": thread["answer_language"],
        },
        sorted({one_line(tag)[:40].strip() for tag in thread["tags"]} - {""}),
    )
    names = {theirs: ours for theirs, (ours, _) in kept.items()}
    labels = dict(kept.values())
    by_table: dict[Table, list[dict[str, Any]]] = {
        table: [] for table in (turns, views, view_images, answers, feedback)
    }
    shown: set[str] = set()
    for position, turn in enumerate(thread["turns"]):
        asked: dict[str, Any] = {
            "id": rows.new_id(),
            "thread_id": thread_id,
            "position": position,
            "salt": rows.new_id(),
        }
        asked |= {"question": storable(turn["question"]), "created": turn["created"]}
        by_table[turns].append(asked)
        for place, view in enumerate(turn["views"]):
            digests = list(dict.fromkeys(names[digest] for digest in view["images"]))
            mine = {"turn_id": asked["id"], "position": place}
            drawn = {"view": _renamed(view["view"], names), "render_digest": view["render_digest"]}
            by_table[views].append(mine | drawn)
            by_table[view_images] += [{**mine, "place": n, "digest": one} for n, one in enumerate(digests)]
            shown.update(digests)
        facets = facets_of(owner, {labels[digest] for digest in shown})
        made.messages.append(Message(turn["created"], facets, indexed(asked["question"]), asked["id"]))
        for answer, judged in _answers(turn, asked["id"]):
            by_table[answers].append(answer)
            by_table[feedback] += [] if judged is None else [judged]
            with_judgement = judged_facets(facets, None if judged is None else judged["reasons"])
            words = indexed(answer["text"])
            made.messages.append(Message(answer["started"], with_judgement, words, asked["id"], answer["id"]))
    made.rows = list(by_table.items())
    return made


def store(connection: Connection, made: TakenIn, kept: Mapping[str, tuple[str, str]]) -> str:
    """Store what was prepared, in the caller's transaction; returns the id of the conversation."""
    owner, thread_id, now = str(made.thread["owner"]), str(made.thread["id"]), datetime.now(UTC)
    for digest, label in kept.values():
        _insert_image(connection, owner, digest, label, now)
    connection.execute(insert(threads).values(**made.thread))
    if made.tags:
        connection.execute(insert(tags), [{"thread_id": thread_id, "tag": tag} for tag in made.tags])
    for table, some in made.rows:
        if some:
            connection.execute(insert(table), some)
    _adopt_study(connection, thread_id)
    index_messages(connection, made.messages)
    return thread_id


def _answers(turn: Mapping[str, Any], turn_id: str) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Rows of a question's answers, each with that of its judgement."""
    ids: list[str] = []
    for place, answer in enumerate(turn["answers"]):
        ids.append(rows.new_id())
        values = {name: value for name, value in answer.items() if name != "feedback"}
        values |= {"id": ids[-1], "turn_id": turn_id, "position": place}
        values |= {"text": storable(answer["text"]), "salt": rows.new_id()}
        if answer["translation_of"] is not None:
            values["translation_of"] = ids[answer["translation_of"]]
        said = answer["feedback"]
        judged = said and {
            **said,
            "answer_id": ids[-1],
            "salt": rows.new_id(),
            "text": storable(said["text"]),
        }
        yield values, judged or None


def _insert_image(connection: Connection, owner: str, digest: str, label: str, now: datetime) -> None:
    known = select(images.c.digest).where(images.c.owner == owner, images.c.digest == digest)
    if connection.execute(known).first() is None:
        connection.execute(insert(images).values(owner=owner, digest=digest, label=label, created=now))


def _adopt_study(connection: Connection, thread_id: str) -> None:
    """Give the conversation the patient and study of the first image that knows them."""
    query = select(turns.c.id).join(view_images, view_images.c.turn_id == turns.c.id)
    query = query.join(threads, threads.c.id == turns.c.thread_id).where(threads.c.id == thread_id)
    query = query.join(
        images, (images.c.owner == threads.c.owner) & (images.c.digest == view_images.c.digest)
    )
    query = query.where(images.c.study.is_not(None) | images.c.patient.is_not(None))
    order = (turns.c.position, view_images.c.position, view_images.c.place)
    query = query.with_only_columns(images.c.patient, images.c.study).order_by(*order).limit(1)
    if (found := connection.execute(query).first()) is not None:
        values = {"patient": found.patient, "study": found.study}
        connection.execute(update(threads).where(threads.c.id == thread_id).values(**values))


def _renamed(value: Any, kept: Mapping[str, str]) -> Any:
    """Give a view the digests its images have here."""
    if isinstance(value, dict):
        return {name: _renamed(item, kept) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, kept) for item in value]
    return kept.get(value, value) if isinstance(value, str) else value
