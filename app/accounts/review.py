"""Conversations of everybody, to read and nothing else; each one opened or found is in the audit first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import and_, exists, func, or_, select

from app.accounts.tables import accounts
from app.errors import ThreadNotFoundError
from app.history.audit import append
from app.history.models import audit, threads, turns

if TYPE_CHECKING:
    from datetime import datetime

    from app.accounts.records import Account
    from app.history.records import FeedbackReason, SearchHit, Thread
    from app.history.store import HistoryStore

__all__ = ["Reviewed", "Reviews"]

_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One conversation in the list, without a word of it: the title is its first question."""

    id: str
    owner: str
    """Name of the account, or the owner as the history knows it."""
    updated: datetime
    turn_count: int


class Reviews:
    """Reading beyond one owner.

    Parameters
    ----------
    history : HistoryStore
        Not closed with this.
    """

    def __init__(self, history: HistoryStore) -> None:
        self._history = history

    def threads(self, before: str | None = None) -> list[Reviewed]:
        """List conversations of all owners, newest first, fifty at a time.

        Parameters
        ----------
        before : str, optional
            Id of the last one of the page before.
        """
        count = select(func.count()).where(turns.c.thread_id == threads.c.id).scalar_subquery()
        query = (
            select(threads.c.id, threads.c.owner, threads.c.updated, count, accounts.c.name)
            .outerjoin(accounts, threads.c.owner == "user-" + accounts.c.id)
            .order_by(threads.c.updated.desc(), threads.c.id.desc())
            .limit(_PAGE)
        )
        with self._history.database.read() as connection:
            if before is not None:
                last = connection.execute(select(threads).where(threads.c.id == before)).one_or_none()
                if last is None:
                    raise ThreadNotFoundError(found=before[:64])
                same = and_(threads.c.updated == last.updated, threads.c.id < last.id)
                query = query.where(or_(threads.c.updated < last.updated, same))
            return [
                Reviewed(row[0], row.name or row.owner, row.updated, row[3])
                for row in connection.execute(query)
            ]

    def open(self, reviewer: Account, thread_id: str) -> tuple[str, Thread]:
        """Read one conversation; returns its owner and itself.

        Raises
        ------
        ThreadNotFoundError
            If it is not there.
        """
        with self._history.database.write() as connection:
            owner = connection.scalar(select(threads.c.owner).where(threads.c.id == thread_id))
            if owner is None:
                raise ThreadNotFoundError(found=thread_id[:64])
            append(connection, reviewer.owner, "reviewed", thread_id)
        return owner, self._history.load(owner, thread_id)

    def search(
        self,
        reviewer: Account,
        query: str,
        *,
        user: str = "",
        modality: str | None = None,
        feedback: FeedbackReason | Literal["any"] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
    ) -> list[tuple[str, SearchHit]]:
        """Find questions and answers of everybody, or of one user; newest first, twenty at a time.

        Words of a conversation are shown with a hit, so the audit names each conversation found before it is.

        Parameters
        ----------
        user : str
            Name of an account, or an owner as the history knows it; empty for everybody.
        before : int, optional
            Number of the last hit of the page before.

        Returns
        -------
        list of (str, SearchHit)
            Each with the name of whose it is.
        """
        whose = select(threads.c.owner, accounts.c.name).distinct()
        whose = whose.outerjoin(accounts, threads.c.owner == "user-" + accounts.c.id)
        with self._history.database.read() as connection:
            names = {row.owner: row.name or row.owner for row in connection.execute(whose)}
        wanted = [owner for owner, name in names.items() if not user or user.casefold() == name.casefold()]
        hits = self._history.search(
            wanted, query, match="beginnings", modality=modality, feedback=feedback,
            since=since, until=until, before=before,
        )  # fmt: skip
        if hits:
            with self._history.database.write() as connection:
                for thread_id in dict.fromkeys(hit.thread_id for hit in hits):
                    append(connection, reviewer.owner, "found", thread_id)
        return [(names[hit.owner], hit) for hit in hits]

    def opened(self, reviewer: Account, thread_id: str) -> str:
        """Owner of a conversation this reviewer has opened before, for its pictures.

        Raises
        ------
        ThreadNotFoundError
            If it is not there, or the audit holds no such look.
        """
        looked = exists().where(
            audit.c.owner == reviewer.owner, audit.c.action == "reviewed", audit.c.subject == thread_id
        )
        with self._history.database.read() as connection:
            owner = connection.scalar(select(threads.c.owner).where(threads.c.id == thread_id, looked))
        if owner is None:
            raise ThreadNotFoundError(found=thread_id[:64])
        return str(owner)
