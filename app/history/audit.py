"""Who did what, when: entries that cannot be changed or removed unnoticed.

Each entry's hash is taken over its values and the hash before, and the newest one is noted apart. An entry
holds ids and never a word of a conversation, so it stays when the conversation is deleted; the rows it
brought are covered by digests (:mod:`app.history.seals`). The limit:
whoever may write the database can write the whole record anew. Only a head kept elsewhere
(:meth:`Auditing.head`) tells such a record from the true one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import func, insert, select, update

from app.history.models import audit, audit_head, seals
from app.history.rows import check_thread
from app.history.seals import Seal, first_changed, list_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Row

    from app.history.database import Database

__all__ = ["Action", "AuditEntry", "AuditHead", "Auditing", "BrokenLink", "append"]

Action = Literal[
    "answered",
    "asked",
    "asked_again",
    "backed_up",
    "deleted",
    "exported",
    "forked",
    "found",
    "imported",
    "interrupted",
    "judged",
    "managed",
    "opened",
    "pruned",
    "renamed",
    "reviewed",
    "sealed",
    "seen",
    "signed_in",
    "translated",
]
_NOTHING_YET: Final = "0" * 64
# written out once: every question and answer adds an entry
_HEAD: Final = select(audit_head).with_for_update()
_ADD: Final = insert(audit)
_LIST: Final = insert(seals)
_NOTE: Final = update(audit_head)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing somebody did."""

    sequence: int
    """From 1."""
    time: datetime
    owner: str
    action: str
    subject: str
    """Id of the thread, turn or answer; digest of an image; for a copy of everything, who of the system."""
    hash: str
    content: str | None = None
    """Digest of what it brought: the questions, answers and judgements."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The newest entry: what to keep elsewhere to be sure of all before it."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The first place where the record is not what was written."""

    sequence: int
    kind: Literal["missing", "changed", "head", "content", "removed", "added"]
    """``missing``: also where only the list of what an entry brought is there. ``head``: the record ends
    elsewhere than noted, or does not hold the head given. ``content``: a question, answer or judgement that
    this entry brought is not as it was stored, or its conversation has become somebody else's; ``removed``:
    it is gone without having been deleted. ``added``: one that no entry brought (then ``sequence`` is 0)."""
    subject: str = ""
    """Id of the question or answer."""


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
            noted = connection.execute(select(audit_head.c.sequence, audit_head.c.hash)).one_or_none()
            return _last_written(connection) if noted is None else AuditHead(*noted)

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
            if broken := _first_broken(connection, owner, kept):
                return broken
            changed = first_changed(connection, owner)
            return None if changed is None else BrokenLink(*astuple(changed))


def append(  # the columns of one row
    connection: Connection, owner: str, action: Action, subject: str, sealed_rows: Sequence[Seal] = ()
) -> None:
    """Add an entry, in the transaction of what it tells of, with the rows it brought.

    Where the newest entry is noted no more, somebody was at the database: work goes on behind what is left,
    and the note stays missing, so that :meth:`Auditing.verify` keeps telling it.
    """
    before = connection.execute(_HEAD).one_or_none() or _last_written(connection)
    content = list_digest(sealed_rows) if sealed_rows else None
    entry = AuditEntry(before.sequence + 1, datetime.now(UTC), owner, action, subject, "", content)
    sealed = _hash(before.hash, entry)
    connection.execute(_ADD, {**_values(entry), "hash": sealed})
    if sealed_rows:
        listed = [{"sequence": entry.sequence, "place": place, **_values(seal)}
                  for place, seal in enumerate(sealed_rows)]  # fmt: skip
        connection.execute(_LIST, listed)
    connection.execute(_NOTE, {"sequence": entry.sequence, "hash": sealed})


def _last_written(connection: Connection) -> AuditHead:
    """Newest entry there is, where it is noted nowhere; never a number that a list of seals has."""
    last = connection.execute(select(audit).order_by(audit.c.sequence.desc()).limit(1)).one_or_none()
    listed = connection.execute(select(func.max(seals.c.sequence))).scalar() or 0
    sequence, digest = (0, _NOTHING_YET) if last is None else (last.sequence, last.hash)
    return AuditHead(max(sequence, listed), digest)


def _values(value: AuditEntry | Seal) -> dict[str, Any]:
    """Fields by name; ``asdict`` would copy each."""
    return {name: getattr(value, name) for name in value.__slots__}


def _hash(before: str, entry: AuditEntry) -> str:
    moment = entry.time.astimezone(UTC).isoformat(timespec="microseconds")
    values: list[str | int] = [before, entry.sequence, moment, entry.owner, entry.action, entry.subject]
    values += [] if entry.content is None else [entry.content]  # earlier versions wrote none
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _first_broken(connection: Connection, owner: str | None, kept: AuditHead | None) -> BrokenLink | None:
    entries = select(audit).order_by(audit.c.sequence).execution_options(yield_per=1000)
    lists = select(seals).order_by(seals.c.sequence, seals.c.place).execution_options(yield_per=1000)
    with connection.execute(entries) as found, connection.execute(lists) as listed:
        return _walk(connection, found, _Lists(listed), owner, kept)


def _walk(
    connection: Connection,
    found: Iterable[Row[Any]],
    listed: _Lists,
    owner: str | None,
    kept: AuditHead | None,
) -> BrokenLink | None:
    last, before = 0, _NOTHING_YET
    for row in found:
        entry = AuditEntry(*tuple(row))
        if entry.sequence != last + 1:
            return BrokenLink(last + 1, "missing")
        is_whole = entry.hash == _hash(before, entry) and entry.content == listed.digest(entry.sequence)
        if not is_whole and owner in (None, entry.owner):
            return BrokenLink(entry.sequence, "changed")
        last, before = entry.sequence, entry.hash
        if kept is not None and kept.sequence == last and kept.hash != before:
            return BrokenLink(last, "head")
    if (stray := listed.stray(last)) is not None:
        return BrokenLink(stray, "missing")
    noted = connection.execute(select(audit_head.c.sequence, audit_head.c.hash)).one_or_none()
    if noted is None or tuple(noted) != (last, before):
        return BrokenLink(last + 1, "head")
    if kept is not None and kept.sequence > last:
        return BrokenLink(last + 1, "head")
    return None


class _Lists:
    """Lists of seals, read in step with the entries they belong to."""

    def __init__(self, listed: Iterable[Row[Any]]) -> None:
        self._lists = groupby(listed, key=lambda row: row.sequence)
        self._next = next(self._lists, None)
        self._stray: int | None = None

    def digest(self, sequence: int) -> str | None:
        """Digest of what is listed under an entry; ``None`` if nothing is."""
        while self._next is not None and self._next[0] < sequence:
            self._pass_over(sequence - 1)
        if self._next is None or self._next[0] != sequence:
            return None
        return list_digest(Seal(row.kind, row.subject, row.thread_id, row.digest) for row in self._next[1])

    def stray(self, last: int) -> int | None:
        """Find a list whose entry there never was, once all entries up to ``last`` were walked."""
        while self._next is not None:
            self._pass_over(last)
        return self._stray

    def _pass_over(self, last: int) -> None:
        assert self._next is not None  # noqa: S101  # for the type checker
        number = self._next[0]
        if self._stray is None and not 1 <= number <= last:
            self._stray = number
        self._next = next(self._lists, None)
