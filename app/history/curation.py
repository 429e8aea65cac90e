"""What a reader does with a conversation: branch off, ask differently, pin, tag, judge an answer.

A branch is a conversation of its own: nothing in it changes when the one it came from does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select, update

from app.errors import AnswerNotFoundError, TurnNotFoundError
from app.history import rows
from app.history.audit import append
from app.history.lines import one_line, storable, title_of
from app.history.models import answers, feedback, tags, threads, turns, views
from app.history.records import FEEDBACK_REASONS, Feedback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import Connection, Row, Table

    from app.history.database import Database
    from app.history.records import FeedbackReason

__all__ = ["Curation"]

_LONGEST_TAG: Final = 40
_MOST_TAGS: Final = 20


class Curation:
    """Branches, pins, tags and judgements of a history."""

    _database: Database

    # --- branches -----------------------------------------------------------------------------------

    def fork(self, owner: str, thread_id: str, turn_id: str) -> str:
        """Begin another conversation with the turns of this one up to a turn, that one included.

        Answers still being written are left out; times stay those of the original.

        Returns
        -------
        str
            Id of the new conversation.

        Raises
        ------
        ThreadNotFoundError, TurnNotFoundError
            If they are not there for this owner.
        """
        with self._database.write() as connection:
            branch = _branch(connection, owner, thread_id, turn_id, keep_last=True)
            append(connection, owner, "forked", branch)
        return branch

    def edit(
        self, owner: str, thread_id: str, turn_id: str, question: str, backend: str
    ) -> tuple[str, str, str]:
        """Ask a stored turn differently: a branch of what came before it, with its views and this question.

        Returns
        -------
        tuple of str
            New thread, turn and answer, to be written as after ``begin_turn``.

        Raises
        ------
        ThreadNotFoundError, TurnNotFoundError
            If they are not there for this owner.
        """
        now, question = datetime.now(UTC), storable(question)
        with self._database.write() as connection:
            branch = _branch(connection, owner, thread_id, turn_id, keep_last=False)
            new_turn = rows.new_id()
            place = rows.next_position(connection, turns, turns.c.thread_id == branch)
            connection.execute(
                insert(turns).values(
                    id=new_turn, thread_id=branch, position=place, question=question, created=now
                )
            )
            _copy(connection, views, views.c.turn_id == turn_id, turn_id=new_turn)
            answer_id = rows.insert_answer(connection, new_turn, question, backend, now)
            rows.index_question(connection, owner, new_turn)
            append(connection, owner, "asked", new_turn)
            if place == 0:
                connection.execute(
                    update(threads).where(threads.c.id == branch).values(title=title_of(question))
                )
        return branch, new_turn, answer_id

    # --- order --------------------------------------------------------------------------------------

    def pin(self, owner: str, thread_id: str, *, pinned: bool = True) -> None:
        """Keep a conversation at the top of the list, and out of the reach of retention.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=True)
            since = datetime.now(UTC) if pinned else None
            connection.execute(update(threads).where(threads.c.id == thread_id).values(pinned=since))

    def tag(self, owner: str, thread_id: str, names: Iterable[str]) -> tuple[str, ...]:
        """Give a conversation these tags and no others.

        Returns
        -------
        tuple of str
            As stored: on one line, at most 40 characters each, sorted, none twice.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        ValueError
            For more than 20 tags.
        """
        chosen = sorted({line for name in names if (line := one_line(name)[:_LONGEST_TAG].strip())})
        if len(chosen) > _MOST_TAGS:
            raise ValueError(f"found {len(chosen)} tags, at most {_MOST_TAGS} are kept")
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=True)
            connection.execute(delete(tags).where(tags.c.thread_id == thread_id))
            for name in chosen:
                connection.execute(insert(tags).values(thread_id=thread_id, tag=name))
        return tuple(chosen)

    def tags(self, owner: str) -> list[str]:
        """List every tag an owner has given, sorted."""
        query = select(tags.c.tag).join(threads, tags.c.thread_id == threads.c.id)
        with self._database.read() as connection:
            return sorted(connection.scalars(query.where(threads.c.owner == owner).distinct()))

    # --- judgement ----------------------------------------------------------------------------------

    def judge(self, owner: str, answer_id: str, reasons: Collection[FeedbackReason], text: str = "") -> None:
        """Store what is wrong with an answer, in place of what was said before; nothing at all takes it back.

        Parameters
        ----------
        reasons : collection of str
            Of ``FEEDBACK_REASONS``.
        text : str
            In the reader's own words.

        Raises
        ------
        AnswerNotFoundError
            If it is not there for this owner.
        ValueError
            For a reason that is none.
        """
        if unknown := sorted(set(reasons) - set(FEEDBACK_REASONS)):
            raise ValueError(f"found the reasons {unknown}, expected some of {', '.join(FEEDBACK_REASONS)}")
        given = [reason for reason in FEEDBACK_REASONS if reason in reasons]
        text = storable(text).strip()
        with self._database.write() as connection:
            _check_answer(connection, owner, answer_id)
            connection.execute(delete(feedback).where(feedback.c.answer_id == answer_id))
            if given or text:
                connection.execute(
                    insert(feedback).values(
                        answer_id=answer_id, reasons=given, text=text, created=datetime.now(UTC)
                    )
                )

    def judgements(self, owner: str, thread_id: str) -> dict[str, Feedback]:
        """Collect what was said of a conversation's answers, by answer.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        query = select(feedback).join(answers, feedback.c.answer_id == answers.c.id)
        query = query.join(turns, answers.c.turn_id == turns.c.id).where(turns.c.thread_id == thread_id)
        with self._database.read() as connection:
            rows.check_thread(connection, owner, thread_id, lock=False)
            return {
                row.answer_id: Feedback(tuple(row.reasons), row.text, row.created)
                for row in connection.execute(query)
            }


def _check_answer(connection: Connection, owner: str, answer_id: str) -> None:
    query = select(answers.c.id).join(turns, answers.c.turn_id == turns.c.id)
    query = query.join(threads, turns.c.thread_id == threads.c.id)
    query = query.where(answers.c.id == answer_id, threads.c.owner == owner).with_for_update()
    if connection.execute(query).one_or_none() is None:
        raise AnswerNotFoundError(found=answer_id)


def _branch(connection: Connection, owner: str, thread_id: str, turn_id: str, *, keep_last: bool) -> str:
    """Copy a thread up to a turn, with or without that one."""
    thread = rows.check_thread(connection, owner, thread_id, lock=True)
    found = _turns_until(connection, thread_id, turn_id)
    branch = rows.insert_thread(connection, owner, thread.title, datetime.now(UTC))
    for turn in found if keep_last else found[:-1]:
        _copy_turn(connection, owner, turn, branch)
    return branch


def _turns_until(connection: Connection, thread_id: str, turn_id: str) -> Sequence[Row[Any]]:
    query = select(turns).where(turns.c.thread_id == thread_id).order_by(turns.c.position)
    found = connection.execute(query).all()
    for count, turn in enumerate(found, 1):
        if turn.id == turn_id:
            return found[:count]
    raise TurnNotFoundError(found=turn_id)


def _copy_turn(connection: Connection, owner: str, turn: Row[Any], branch: str) -> None:
    (new_turn,) = _copy(connection, turns, turns.c.id == turn.id, id=None, thread_id=branch)
    _copy(connection, views, views.c.turn_id == turn.id, turn_id=new_turn)
    rows.index_question(connection, owner, new_turn)
    ended = (answers.c.turn_id == turn.id) & (answers.c.state != "streaming")
    for answer_id in _copy(connection, answers, ended, id=None, turn_id=new_turn):
        rows.index_answer(connection, answer_id)


def _copy(connection: Connection, table: Table, which: Any, **changed: str | None) -> list[str]:
    """Insert rows again with other values; an ``id`` of ``None`` becomes a new one. Returns the ids."""
    made = []
    for row in connection.execute(select(table).where(which).order_by(table.c.position)).mappings().all():
        values = {**row, **changed}
        if "id" in changed:
            values["id"] = rows.new_id()
            made.append(values["id"])
        connection.execute(insert(table).values(**values))
    return made
