"""Who did what, when: entries that cannot be changed or removed unnoticed.

Each entry's hash is taken over its values and the hash before, and the newest one is noted apart. An entry
holds ids and never a word of a conversation, so it stays when the conversation is deleted. The limit:
whoever may write the database can write the whole record anew. Only a head kept elsewhere
(:meth:`Auditing.head`) tells such a record from the true one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import insert, select, update

from app.history.models import audit, audit_head
from app.history.rows import check_thread

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from app.history.database import Database

__all__ = ["Action", "AuditEntry", "AuditHead", "Auditing", "BrokenLink", "append"]

Action = Literal[
    "asked",
    "asked_again",
    "deleted",
    "exported",
    "forked",
    "imported",
    "judged",
    "managed",
    "pruned",
    "renamed",
    "reviewed",
    "seen",
    "signed_in",
    "translated",
]
_NOTHING_YET: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing somebody did."""

    sequence: int
    """From 1."""
    time: datetime
    owner: str
    action: str
    subject: str
    """Id of the thread, turn or answer."""
    hash: str


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest entry: what to keep elsewhere to be sure of all before it."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The first place where the record is not what was written."""

    sequence: int
    kind: Literal["missing", "changed", "head"]
    """``head``: the record ends elsewhere than noted, or does not hold the head given."""


class Auditing:
    """The record of a history."""

    _database: Database

    def record_seen(self, owner: str, thread_id: str) -> None:
        """Note that a conversation was shown.

        Raises
        ------
        ThreadNotFoundError
            If it is not there for this owner.
        """
        with self._database.write() as connection:
            check_thread(connection, owner, thread_id, lock=False)
            append(connection, owner, "seen", thread_id)

    def head(self) -> AuditHead:
        """Return the newest entry's number and hash, to be kept where the database's writers cannot write."""
        with self._database.read() as connection:
            return AuditHead(*connection.execute(select(audit_head.c.sequence, audit_head.c.hash)).one())

    def audit(self, owner: str | None = None, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """List entries, oldest first; of one owner or of all."""
        query = select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence).limit(limit)
        if owner is not None:
            query = query.where(audit.c.owner == owner)
        with self._database.read() as connection:
            return [AuditEntry(*row) for row in connection.execute(query)]

    def verify(self, owner: str | None = None, kept: AuditHead | None = None) -> BrokenLink | None:
        """Find the first entry that was changed or removed.

        Parameters
        ----------
        owner : str, optional
            Pass over changed entries of others. A missing one is always told: nobody knows whose it was.
        kept : AuditHead, optional
            What :meth:`head` gave earlier; then a record written anew up to there is found too.

        Returns
        -------
        BrokenLink or None
            ``None`` when every entry is as it was written.
        """
        with self._database.read() as connection:
            return _first_broken(connection, owner, kept)


def append(connection: Connection, owner: str, action: Action, subject: str) -> None:
    """Add an entry, in the transaction of what it tells of."""
    before = connection.execute(select(audit_head).with_for_update()).one()
    entry = AuditEntry(before.sequence + 1, datetime.now(UTC), owner, action, subject, "")
    sealed = _hash(before.hash, entry)
    connection.execute(
        insert(audit).values(
            sequence=entry.sequence,
            time=entry.time,
            owner=owner,
            action=action,
            subject=subject,
            hash=sealed,
        )
    )
    connection.execute(update(audit_head).values(sequence=entry.sequence, hash=sealed))


def _hash(before: str, entry: AuditEntry) -> str:
    moment = entry.time.astimezone(UTC).isoformat(timespec="microseconds")
    values = [before, entry.sequence, moment, entry.owner, entry.action, entry.subject]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _first_broken(connection: Connection, owner: str | None, kept: AuditHead | None) -> BrokenLink | None:
    last, before = 0, _NOTHING_YET
    for row in connection.execute(select(audit).order_by(audit.c.sequence)):
        entry = AuditEntry(*row)
        if entry.sequence != last + 1:
            return BrokenLink(last + 1, "missing")
        if entry.hash != _hash(before, entry) and owner in (None, entry.owner):
            return BrokenLink(entry.sequence, "changed")
        last, before = entry.sequence, entry.hash
        if kept is not None and kept.sequence == last and kept.hash != before:
            return BrokenLink(last, "head")
    noted = connection.execute(select(audit_head.c.sequence, audit_head.c.hash)).one_or_none()
    if noted is None or tuple(noted) != (last, before):
        return BrokenLink(last + 1, "head")
    if kept is not None and kept.sequence > last:
        return BrokenLink(last + 1, "head")
    return None
