"""What a reader does with a conversation: branch off, ask differently, pin, tag, judge an answer.

A branch is a conversation of its own: nothing in it changes when the one it came from does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select, update

from app.errors import TurnNotFoundError
from app.history import indexing, rows
from app.history.audit import append
from app.history.lines import one_line, storable, title_of
from app.history.measurements import copy_measurements
from app.history.models import answers, feedback, passages, tags, threads, turns
from app.history.records import FEEDBACK_REASONS, Feedback
from app.history.seals import Seal, row_seals, thread_seals
from app.history.words import indexed
from i18n.text import language_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Row, RowMapping

    from app.history.database import Database
    from app.history.records import FeedbackReason, Language, StoredView

__all__ = ["Curation"]

_LONGEST_TAG: Final = 40
_MOST_TAGS: Final = 20


class Curation:
    """Branches, pins, tags and judgements of a history."""

    _database: Database

    # --- branches -----------------------------------------------------------------------------------

    def fork(self, owner: str, thread_id: str, turn_id: str) -> str:
        """Begin another conversation with the turns of this one up to a turn, that one included.

        What was measured goes along, except on images only later turns show. Answers still being written
        are left out; times stay those of the original.

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
            branch, _ = _branch(connection, owner, thread_id, turn_id, keep_last=True)
            append(connection, owner, "forked", branch, thread_seals(connection, branch))
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
            branch, language = _branch(connection, owner, thread_id, turn_id, keep_last=False)
            shown = rows.views_of(connection, thread_id).get(turn_id, ())
            new_turn = rows.insert_turn(connection, branch, question, shown, now)
            language = language or language_of(question)
            answer_id = rows.insert_answer(connection, new_turn.id, language, backend, now)
            indexing.index_question(connection, owner, new_turn)
            append(connection, owner, "asked", new_turn.id, thread_seals(connection, branch))
            if new_turn.position == 0:
                connection.execute(
                    update(threads).where(threads.c.id == branch).values(title=title_of(question))
                )
        return branch, new_turn.id, answer_id

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

    def answer_in(self, owner: str, thread_id: str, language: Language | None) -> None:
        """Fix the language a conversation is answered in; ``None``: each answer follows its question.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        ValueError
            For another language.
        """
        if language not in (None, "en", "ar"):
            raise ValueError(f"found the language {language!r}, expected 'en', 'ar' or None")
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=True)
            chosen = update(threads).where(threads.c.id == thread_id).values(answer_language=language)
            connection.execute(chosen)

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
            rows.check_answer(connection, owner, answer_id)
            connection.execute(delete(feedback).where(feedback.c.answer_id == answer_id))
            if given or text:
                connection.execute(
                    insert(feedback).values(
                        answer_id=answer_id,
                        reasons=given,
                        text=text,
                        created=datetime.now(UTC),
                        salt=rows.new_id(),
                    )
                )
            indexing.index_judgement(connection, answer_id)
            sealed = row_seals(connection, "feedback", [answer_id])
            thread_id, _ = rows.lock_thread_of(connection, answer_id)
            sealed = sealed or [Seal("feedback", answer_id, thread_id, "")]
            append(connection, owner, "judged", answer_id, sealed)

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


def _branch(
    connection: Connection, owner: str, thread_id: str, turn_id: str, *, keep_last: bool
) -> tuple[str, str | None]:
    """Copy a thread up to a turn, with or without that one; returns it and its language of answers.

    What was measured is copied too, but not on images only the turns behind show.
    """
    thread = rows.check_thread(connection, owner, thread_id, lock=True)
    found = _turns_until(connection, thread_id, turn_id)
    branch = rows.insert_thread(connection, owner, thread.title, datetime.now(UTC))
    same = {name: thread._mapping[name] for name in ("answer_language", "patient", "study")}  # noqa: SLF001
    connection.execute(update(threads).where(threads.c.id == branch).values(**same))
    shown = rows.views_of(connection, thread_id)
    _copy_turns(connection, thread_id, found if keep_last else found[:-1], shown, branch)
    kept = {turn.id for turn in found}
    images, kept_images = (
        {digest for turn, views in shown.items() if turn in some for view in views for digest in view.images}
        for some in (shown, kept)
    )
    copy_measurements(connection, thread_id, branch, images - kept_images)
    return branch, thread.answer_language


def _turns_until(connection: Connection, thread_id: str, turn_id: str) -> Sequence[Row[Any]]:
    query = select(turns).where(turns.c.thread_id == thread_id).order_by(turns.c.position)
    found = connection.execute(query).all()
    for count, turn in enumerate(found, 1):
        if turn.id == turn_id:
            return found[:count]
    raise TurnNotFoundError(found=turn_id)


def _copy_turns(
    connection: Connection,
    thread_id: str,
    found: Sequence[Row[Any]],
    shown: Mapping[str, Sequence[StoredView]],
    branch: str,
) -> None:
    """Copy turns with their ended answers, and what the search knows of them: everybody waits meanwhile."""
    mine = turns.c.thread_id == thread_id
    query = select(passages).join(turns, passages.c.turn_id == turns.c.id).where(mine)
    known = {(row.turn_id, row.answer_id): row for row in connection.execute(query)}
    given: dict[str, list[RowMapping]] = {}
    query = select(answers).join(turns, answers.c.turn_id == turns.c.id)
    query = query.where(mine, answers.c.state != "streaming").order_by(answers.c.position)
    for answer in connection.execute(query).mappings():
        given.setdefault(answer["turn_id"], []).append(answer)
    messages: list[indexing.Message] = []
    copies: list[dict[str, Any]] = []
    for turn in found:
        copied = rows.insert_turn(
            connection, branch, turn.question, shown.get(turn.id, ()), turn.created, turn.position
        )
        asked = known[turn.id, None]
        messages.append(indexing.Message(turn.created, asked.facets, asked.words, copied.id))
        made: dict[str, str] = {}
        for row in given.get(turn.id, ()):
            made[row["id"]] = rows.new_id()
            twin_of = row["translation_of"]
            copies.append(
                {
                    **row,
                    "id": made[row["id"]],
                    "salt": rows.new_id(),
                    "turn_id": copied.id,
                    "translation_of": twin_of and made[twin_of],
                }
            )
            said = known.get((turn.id, row["id"]))
            # one that was taken for cut off may have grown since it was put into the search
            known_words = said.words if said is not None and row["state"] != "interrupted" else None
            words = indexed(row["text"]) if known_words is None else known_words
            messages.append(indexing.Message(row["started"], asked.facets, words, copied.id, made[row["id"]]))
    if copies:
        connection.execute(insert(answers), copies)
    indexing.index_messages(connection, messages)
