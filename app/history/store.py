"""The history: every question, what was on screen, and every answer as far as it was written.

In: an owner, ids and text. Out: the values of :mod:`app.history.records`. A turn is committed before the
model starts and each piece of its answer before it is shown, so a process killed at any instant loses
nothing a reader has seen. Every row has an owner; somebody else's row is reported exactly like a
missing one. Nothing here knows of a page, a model or pixels.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import and_, func, insert, or_, select, update

from app.history import indexing, rows
from app.history.archive import Archiving
from app.history.audit import Auditing, append
from app.history.curation import Curation
from app.history.database import Database
from app.history.lines import LONGEST_TITLE, is_plain, one_line, storable, storable_values, title_of
from app.history.measurements import Measuring
from app.history.models import answers, images, tags, threads, turns
from app.history.prompts import Prompting
from app.history.records import (
    END_STATES,
    EndState,
    ImageRecord,
    Language,
    StoredView,
    Thread,
    ThreadSummary,
    Turn,
)
from app.history.seals import answer_seal, row_seals, turn_seal
from app.history.search import Searching
from i18n.text import language_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from sqlalchemy import ColumnElement, Connection, Row

__all__ = ["HistoryStore", "title_of"]


class HistoryStore(Searching, Curation, Archiving, Auditing, Measuring, Prompting):
    """Conversations of all owners; safe to use from several threads at once.

    Parameters
    ----------
    database : Database
        Closed with the store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, source: str | Path) -> HistoryStore:
        """Open the history at a path or URL and bring it to the newest schema.

        Raises
        ------
        StorageError
            If it cannot be opened, is newer than this program, or belongs to something else.
        """
        return cls(Database.open(source))

    @property
    def database(self) -> Database:
        """The database, for what lies beside the history in it: accounts."""
        return self._database

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def recover(self) -> int:
        """Mark answers a dead process left ``streaming`` as ``interrupted``; their text is kept.

        Called once when the application starts, before it answers anything.

        Returns
        -------
        int
            How many there were.
        """
        left = answers.c.state == "streaming"
        with self._database.write() as connection:
            whose = select(answers.c.id, threads.c.owner).join(turns, answers.c.turn_id == turns.c.id)
            whose = whose.join(threads, turns.c.thread_id == threads.c.id).where(left).order_by(threads.c.id)
            found = connection.execute(whose.with_for_update(of=threads)).all()
            connection.execute(update(answers).where(left).values(state="interrupted", finished=_now()))
            for answer_id, owner in found:
                indexing.index_answer(connection, answer_id)
                sealed = row_seals(connection, "answer", [answer_id])
                append(connection, owner, "interrupted", answer_id, sealed)
        self._database.sweep()  # what that process deleted and had no time to sweep
        return len(found)

    # --- writing a turn -----------------------------------------------------------------------------

    def begin_turn(  # noqa: PLR0917 - the parts of one question
        self,
        owner: str,
        thread_id: str | None,
        question: str,
        stored_views: Iterable[StoredView | tuple[str | Sequence[str], Mapping[str, Any], str]],
        backend: str,
        language: Language | None = None,
    ) -> tuple[str, str, str]:
        """Store a question and an empty answer, in one transaction that is on the disk on return.

        Parameters
        ----------
        owner : str
            Whose conversation it is.
        thread_id : str or None
            ``None`` begins a conversation, named after the question.
        question : str
            As typed.
        stored_views : iterable of StoredView or of (image digests, view, render digest)
            What the question is about.
        backend : str
            What will answer.
        language : str, optional
            Fixed language of the answers of a conversation that begins here; see :meth:`answer_in`.

        Returns
        -------
        tuple of str
            Ids of the thread, the turn and the answer.

        Raises
        ------
        ThreadNotFoundError, ImageNotFoundError
            If the conversation, or an image of a view, is not there for this owner.
        """
        now, question = _now(), storable(question)
        shown = [view if isinstance(view, StoredView) else _stored(*view) for view in stored_views]
        with self._database.write() as connection:
            for digest in sorted({digest for view in shown for digest in view.images}):
                rows.check_image(connection, owner, digest, lock=True)
            fixed, position = language, None
            if thread_id is None:
                thread_id = rows.insert_thread(connection, owner, title_of(question), now, language)
                position = 0
            else:
                fixed = rows.check_thread(connection, owner, thread_id, lock=True).answer_language
                rows.touch(connection, thread_id, now)
            turn = rows.insert_turn(connection, thread_id, question, shown, now, position)
            wanted = fixed or language_of(question)
            answer_id = rows.insert_answer(connection, turn.id, wanted, backend, now, position=0)
            indexing.index_question(connection, owner, turn)
            append(connection, owner, "asked", turn.id, [turn_seal(turn)])
        return thread_id, turn.id, answer_id

    def begin_answer(self, owner: str, turn_id: str, backend: str) -> str:
        """Begin a further answer to a stored question; the earlier ones are kept.

        Raises
        ------
        TurnNotFoundError
            If the question is not there for this owner.
        """
        now = _now()
        with self._database.write() as connection:
            turn = rows.check_turn(connection, owner, turn_id)
            fixed = rows.check_thread(connection, owner, turn.thread_id, lock=True).answer_language
            language = fixed or language_of(turn.question)
            answer_id = rows.insert_answer(connection, turn_id, language, backend, now)
            rows.touch(connection, turn.thread_id, now)
            append(connection, owner, "asked_again", turn_id)
        return answer_id

    def begin_translation(self, owner: str, answer_id: str, backend: str) -> str:
        """Begin the twin of an ended answer: the same in the other language, linked to it.

        A translation of a translation is one of the original.

        Raises
        ------
        AnswerNotFoundError
            If the answer is not there for this owner.
        ValueError
            If it is still being written.
        """
        now = _now()
        with self._database.write() as connection:
            answer = rows.check_answer(connection, owner, answer_id)
            if answer.state == "streaming":
                raise ValueError(f"the answer {answer_id} is still being written")
            language = "en" if answer.language == "ar" else "ar"
            original = answer.translation_of or answer.id
            twin = rows.insert_answer(connection, answer.turn_id, language, backend, now, original)
            rows.touch(connection, rows.check_turn(connection, owner, answer.turn_id).thread_id, now)
            append(connection, owner, "translated", answer_id)
        return twin

    def grow(self, answer_id: str, text: str) -> None:
        """Store an answer's whole text so far; on return it survives the death of the process.

        The id is the permission: only whoever began the answer knows it.

        Raises
        ------
        AnswerNotFoundError
            If it was deleted meanwhile; the model can stop.
        ValueError
            If it was finished already.
        """
        text = storable(text)
        with self._database.write(durable=False) as connection:
            mine = and_(answers.c.id == answer_id, answers.c.state == "streaming")
            if connection.execute(update(answers).where(mine).values(text=text)).rowcount:
                return
        self._grow_interrupted(answer_id, text)

    def _grow_interrupted(self, answer_id: str, text: str) -> None:
        """Go on with an answer that another process, starting meanwhile, took for cut off."""
        with self._database.write() as connection:
            _, owner = rows.lock_thread_of(connection, answer_id)
            rows.lengthen_answer(connection, answer_id, text)
            append(connection, owner, "interrupted", answer_id, row_seals(connection, "answer", [answer_id]))

    def keep_grounding(self, owner: str, answer_id: str, value: Mapping[str, Any]) -> None:
        """Store how much an ended answer depends on its image.

        Parameters
        ----------
        owner : str
            Whose conversation the answer stands in.
        answer_id : str
            The answer.
        value : mapping
            ``difference``, ``level`` and ``sentences``, as JSON.

        Raises
        ------
        AnswerNotFoundError
            If the answer is not there for this owner.
        ValueError
            If a number of it is infinite or none at all.
        """
        if not is_plain(kept := dict(value)):
            raise ValueError("found a dependence that is no number, expected a finite one")
        with self._database.write() as connection:
            rows.check_answer(connection, owner, answer_id)
            kept = storable_values(kept)
            connection.execute(update(answers).where(answers.c.id == answer_id).values(grounding=kept))

    def finish(
        self,
        answer_id: str,
        text: str,
        state: EndState,
        *,
        usage: Mapping[str, Any] | None = None,
        error_key: str | None = None,
        error_values: Mapping[str, Any] | None = None,
    ) -> None:
        """Store an answer's final text and how it ended; on the disk on return.

        Parameters
        ----------
        answer_id : str
            From :meth:`begin_turn` or :meth:`begin_answer`.
        text : str
            The whole text.
        state : str
            One of ``END_STATES``.
        usage : mapping, optional
            Token counts and durations, as JSON.
        error_key, error_values : optional
            Catalogue key and values of what went wrong, to be shown in any language later.

        Raises
        ------
        AnswerNotFoundError
            If it was deleted meanwhile.
        ValueError
            If the state is not an end, or the answer was finished already.
        """
        if state not in END_STATES:
            raise ValueError(f"found the state {state!r}, expected one of {', '.join(END_STATES)}")
        now = _now()
        text = storable(text)
        end = {
            "text": text,
            "state": state,
            "usage": None if usage is None else storable_values(dict(usage)),
            "error_key": error_key,
            "error_values": None if error_values is None else storable_values(dict(error_values)),
            "finished": now,
        }
        with self._database.write() as connection:
            before = rows.lock_answer(connection, answer_id)
            rows.end_answer(connection, answer_id, end)
            if before.state == "streaming":
                indexing.index_first(connection, before, text)
            else:
                indexing.index_answer(connection, answer_id)
            rows.touch(connection, before.thread_id, now)
            sealed = answer_seal(before.thread_id, dict(before._mapping) | end)  # noqa: SLF001  # public in fact
            append(connection, before.owner, "answered", answer_id, [sealed])

    # --- reading ------------------------------------------------------------------------------------

    def threads(
        self,
        owner: str,
        limit: int = 100,
        before: ThreadSummary | str | None = None,
        *,
        tag: str | None = None,
        study: str | None = None,
        patient: str | None = None,
    ) -> list[ThreadSummary]:
        """List an owner's conversations: the pinned ones first, then the last changed first.

        Parameters
        ----------
        owner : str
            Whose.
        limit : int
            How many at most.
        before : ThreadSummary or str, optional
            The last one of the page before, or its id.
        tag, study, patient : str, optional
            Only those with this tag; only those of this study; only those of this patient.

        Raises
        ------
        ThreadNotFoundError
            If ``before`` is an id that is not there for this owner.
        """
        count = select(func.count()).where(turns.c.thread_id == threads.c.id).scalar_subquery()
        query = select(threads, count.label("turn_count")).where(threads.c.owner == owner)
        if tag is not None:
            query = query.where(threads.c.id.in_(select(tags.c.thread_id).where(tags.c.tag == tag)))
        if study is not None:
            query = query.where(threads.c.study == study)
        if patient is not None:
            query = query.where(threads.c.patient == patient)
        pinned = threads.c.pinned.is_not(None)
        query = query.order_by(pinned.desc(), threads.c.updated.desc(), threads.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            if before is not None:
                last = before if isinstance(before, ThreadSummary) else _last(connection, owner, before)
                query = query.where(_comes_after(last))
            found = connection.execute(query).all()
            given = rows.tags_of(connection, [row.id for row in found])
        return [_summary(row, row.turn_count, given.get(row.id, ())) for row in found]

    def load(self, owner: str, thread_id: str) -> Thread:
        """Load one conversation with all turns, views and answers.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        with self._database.read() as connection:
            row = rows.check_thread(connection, owner, thread_id, lock=False)
            found = connection.execute(
                select(turns).where(turns.c.thread_id == thread_id).order_by(turns.c.position)
            ).all()
            shown = rows.views_of(connection, thread_id)
            given = rows.answers_of(connection, thread_id)
        loaded = tuple(
            Turn(
                turn.id,
                turn.position,
                turn.question,
                tuple(shown.get(turn.id, ())),
                tuple(given.get(turn.id, ())),
                turn.created,
            )
            for turn in found
        )
        return Thread(
            row.id, row.title, row.created, row.updated, loaded, row.answer_language, row.patient, row.study
        )

    # --- changing -----------------------------------------------------------------------------------

    def rename(self, owner: str, thread_id: str, title: str) -> None:
        """Give a conversation another title; an empty one brings back that of its first question.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        first = select(turns.c.question).where(turns.c.thread_id == thread_id).order_by(turns.c.position)
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=True)
            chosen = one_line(title)[:LONGEST_TITLE]
            chosen = chosen or title_of(connection.execute(first.limit(1)).scalar() or "")
            connection.execute(update(threads).where(threads.c.id == thread_id).values(title=chosen))
            append(connection, owner, "renamed", thread_id)

    def delete(self, owner: str, thread_id: str) -> list[str]:
        """Delete a conversation so that none of its bytes can be read back from the database's files.

        Returns
        -------
        list of str
            Digests of its images that nobody has any more: the caller deletes their pixels.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        with self._database.write() as connection:
            rows.check_thread(connection, owner, thread_id, lock=True)
            orphans = rows.delete_thread(connection, owner, thread_id)
            append(connection, owner, "deleted", thread_id)
        self._database.sweep()
        return sorted(orphans)

    # --- images -------------------------------------------------------------------------------------

    def add_image(
        self,
        owner: str,
        digest: str,
        label: str,
        *,
        patient: str = "",
        study: str = "",
        opened: bool = False,
    ) -> None:
        """Record that an owner has opened an image; once more renews its label and what else is given.

        Parameters
        ----------
        label : str
            Neutral and generated, never a file name.
        patient, study : str
            Pseudonyms, empty where unknown; conversations about the image are listed under them.
        opened : bool
            Whether it is on its way to the owner's screen, which the record of who did what then tells.
        """
        mine = and_(images.c.owner == owner, images.c.digest == digest)
        known = {"patient": patient, "study": study}
        values = {"label": one_line(label)[:LONGEST_TITLE]}
        values |= {name: one_line(value)[:64] for name, value in known.items() if value}
        with self._database.write() as connection:
            if not connection.execute(update(images).where(mine).values(**values)).rowcount:
                connection.execute(
                    insert(images).values(owner=owner, digest=digest, created=_now(), **values)
                )
            if opened:
                append(connection, owner, "opened", digest)

    def image(self, owner: str, digest: str) -> ImageRecord:
        """Look up an image of an owner.

        Raises
        ------
        ImageNotFoundError
            If it is not there for this owner.
        """
        with self._database.read() as connection:
            return rows.check_image(connection, owner, digest)

    def unowned(self, digests: Iterable[str]) -> list[str]:
        """Tell which of these images nobody has."""
        wanted = list(digests)
        with self._database.read() as connection:
            query = select(images.c.digest).where(images.c.digest.in_(wanted))
            owned = set(connection.scalars(query))
        return sorted(set(wanted) - owned)

    def release(self, owner: str, digests: Iterable[str]) -> list[str]:
        """Drop those of an owner's images that no conversation of theirs shows.

        Returns
        -------
        list of str
            Digests that nobody has any more: the caller deletes their pixels.
        """
        with self._database.write() as connection:
            return [digest for digest in digests if rows.release_image(connection, owner, digest)]

    def images(self, owner: str) -> list[ImageRecord]:
        """List an owner's images, newest first."""
        query = select(images).where(images.c.owner == owner).order_by(images.c.created.desc())
        with self._database.read() as connection:
            return [rows.image_record(row) for row in connection.execute(query)]


def _stored(images: str | Sequence[str], view: Mapping[str, Any], render_digest: str) -> StoredView:
    return StoredView((images,) if isinstance(images, str) else tuple(images), dict(view), render_digest)


def _summary(row: Row[Any], turn_count: int, given: Iterable[str]) -> ThreadSummary:
    return ThreadSummary(
        row.id, row.title, row.created, row.updated, turn_count, row.pinned is not None, tuple(given),
        row.patient, row.study,
    )  # fmt: skip


def _last(connection: Connection, owner: str, thread_id: str) -> ThreadSummary:
    return _summary(rows.check_thread(connection, owner, thread_id, lock=False), 0, ())


def _now() -> datetime:
    return datetime.now(UTC)


def _comes_after(last: ThreadSummary) -> ColumnElement[bool]:
    """Whether a conversation stands below another in the list."""
    same_time = and_(threads.c.updated == last.updated, threads.c.id < last.id)
    older = or_(threads.c.updated < last.updated, same_time)
    if last.pinned:
        return or_(threads.c.pinned.is_(None), older)
    return and_(threads.c.pinned.is_(None), older)
