"""Who is signed in: random tokens in cookies, of which the database holds only digests.

A sign-in ends when it is revoked, after a time without use, and in any case after a working day; before
that it locks when nobody uses it for some minutes, and the password opens it again. Each request asks
here, so what was found is remembered for a moment; this process forgets it at once when it changes it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, delete, insert, or_, select, update

from app.accounts.records import CLOCKS_DIFFER, Account, SignIn
from app.accounts.tables import accounts, sign_ins
from app.history.audit import append

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row

    from app.history.database import Database

__all__ = ["SignIns"]

_REMEMBERED_S: Final = 2.0
"""How long another process's change, such as ``users disable``, may go unseen."""
_MOST_REMEMBERED: Final = 1000
_NOTED_EVERY: Final = timedelta(seconds=30)
"""How exactly the time of the last use is kept; each note is a write."""
_MOST_AT_ONCE: Final = 20
"""Sign-ins of one account; the oldest ends when one more begins."""


class SignIns:
    """Sign-ins of everybody; safe to use from several threads at once.

    Parameters
    ----------
    database : Database
        The history's; not closed with this.
    lock_after : timedelta
        Time without use after which the password is asked again.
    idle : timedelta
        Time without use after which a sign-in ends.
    longest : timedelta
        Time after which it ends in any case.
    clock : callable, optional
        Gives the time, for tests.
    """

    def __init__(
        self,
        database: Database,
        lock_after: timedelta,
        idle: timedelta,
        longest: timedelta,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._lock_after, self._idle, self._longest = lock_after, idle, longest
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, SignIn]] = OrderedDict()
        self._changes = 0
        self._lock = threading.Lock()

    def begin(self, account: Account, program: str = "", ending: str | None = None) -> str:
        """Sign an account in; returns the token for its cookie, which stands nowhere else.

        Parameters
        ----------
        program : str
            Browser and system, for the list of sign-ins.
        ending : str, optional
            Token this one takes the place of: nobody who knew it before is signed in with it.
        """
        token, now = secrets.token_urlsafe(32), self._clock()
        values = {"account_id": account.id, "program": program[:64], "created": now, "seen": now}
        mine = select(sign_ins.c.id).where(sign_ins.c.account_id == account.id)
        oldest = mine.order_by(sign_ins.c.seen.desc(), sign_ins.c.id).offset(_MOST_AT_ONCE - 1)
        with self._database.write() as connection:
            connection.execute(delete(sign_ins).where(self._over(now)))
            if ending is not None:
                connection.execute(delete(sign_ins).where(sign_ins.c.token == _digest(ending)))
            surplus = list(connection.scalars(oldest))
            connection.execute(delete(sign_ins).where(sign_ins.c.id.in_(surplus)))
            connection.execute(
                insert(sign_ins).values(
                    id=secrets.token_hex(16), token=_digest(token), locked=False, **values
                )
            )
            append(connection, account.owner, "signed_in", account.id)
        self.forget()
        return token

    def find(self, token: str, *, is_use: bool = True) -> SignIn | None:
        """Sign-in of a token, or ``None`` when it has ended.

        Parameters
        ----------
        is_use : bool
            Whether somebody does something; a page that only keeps its connection does not.
        """
        digest, now = _digest(token), self._clock()
        found = self._recall(digest) or self._look_up(digest)
        if found is None or found.account.disabled or self._has_ended(found, now):
            return None
        found = replace(found, locked=found.locked or now - found.seen > self._lock_after)
        if is_use and not found.locked and now - found.seen > _NOTED_EVERY:
            self._note_use(found, digest, now)
        return found

    def list(self, account: Account) -> list[SignIn]:
        """List the sign-ins of an account that have not ended, newest use first."""
        now = self._clock()
        query = _QUERY.where(sign_ins.c.account_id == account.id, ~self._over(now))
        with self._database.read() as connection:
            return [_sign_in(row) for row in connection.execute(query.order_by(sign_ins.c.seen.desc()))]

    def lock(self, token: str) -> None:
        """Ask for the password before anything else."""
        with self._database.write() as connection:
            mine = sign_ins.c.token == _digest(token)
            connection.execute(update(sign_ins).where(mine).values(locked=True))
        self.forget()

    def end(self, token: str) -> None:
        """Sign out."""
        with self._database.write() as connection:
            connection.execute(delete(sign_ins).where(sign_ins.c.token == _digest(token)))
        self.forget()

    def revoke(self, account: Account, sign_in_id: str) -> bool:
        """End one of an account's sign-ins, e.g. that of a lost computer; ``False`` if it has none such."""
        mine = and_(sign_ins.c.id == sign_in_id, sign_ins.c.account_id == account.id)
        with self._database.write() as connection:
            count = connection.execute(delete(sign_ins).where(mine)).rowcount
        self.forget()
        return bool(count)

    def forget(self) -> None:
        """Look everything up anew."""
        with self._lock:
            self._changes += 1
            self._remembered.clear()

    def _over(self, now: datetime) -> Any:
        late = now + CLOCKS_DIFFER
        return or_(
            sign_ins.c.seen < now - self._idle,
            sign_ins.c.created < now - self._longest,
            sign_ins.c.seen > late,
            sign_ins.c.created > late,
        )

    def _has_ended(self, found: SignIn, now: datetime) -> bool:
        late = now + CLOCKS_DIFFER  # of a time to come nobody knows how long ago it was
        old = now - found.seen > self._idle or now - found.created > self._longest
        return old or found.seen > late or found.created > late

    def _recall(self, digest: str) -> SignIn | None:
        with self._lock:
            found = self._remembered.get(digest)
        if found is None or time.monotonic() - found[0] > _REMEMBERED_S:
            return None
        return found[1]

    def _look_up(self, digest: str) -> SignIn | None:
        changes = self._changes
        with self._database.read() as connection:
            row = connection.execute(_QUERY.where(sign_ins.c.token == digest)).one_or_none()
        found = None if row is None else _sign_in(row)
        if found is not None:
            self._remember(digest, found, changes)
        return found

    def _remember(self, digest: str, found: SignIn, changes: int) -> None:
        with self._lock:
            if changes != self._changes:
                return  # what was read may be what another thread has just changed
            self._remembered[digest] = time.monotonic(), found
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)

    def _note_use(self, found: SignIn, digest: str, now: datetime) -> None:
        mine, changes = and_(sign_ins.c.token == digest, ~sign_ins.c.locked), self._changes
        with self._database.write(durable=False) as connection:
            connection.execute(update(sign_ins).where(mine).values(seen=now))
        self._remember(digest, replace(found, seen=now), changes)


_QUERY: Final = select(
    accounts,
    sign_ins.c.id.label("sign_in_id"),
    sign_ins.c.program,
    sign_ins.c.created.label("began"),
    sign_ins.c.seen,
    sign_ins.c.locked,
).join(accounts, accounts.c.id == sign_ins.c.account_id)


def _sign_in(row: Row[Any]) -> SignIn:
    account = Account(
        row.id, row.name, row.role, row.disabled, row.must_change, row.password is not None, row.created
    )
    return SignIn(row.sign_in_id, account, row.program, row.began, row.seen, row.locked)


def _digest(token: str) -> str:
    # no salt and no slow hash: the token is random, there is nothing to guess
    return hashlib.sha256(token.encode()).hexdigest()
