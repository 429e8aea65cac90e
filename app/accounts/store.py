"""Accounts in the database: made, changed and listed; passwords checked, failures counted.

In: names and passwords as typed. Out: :class:`~app.accounts.records.Account`. An attempt is counted before
its password is looked at, so that many at once get no more tries than one after the other; a name without
an account is counted, delayed and computed for like any other.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, or_, select, update

from app.accounts.errors import (
    AccountExistsError,
    AccountMissingError,
    LastAdministratorError,
    PasswordUnfitError,
    SignInDelayedError,
    SignInFailedError,
)
from app.accounts.names import LONGEST_NAME, checked_name, same_name
from app.accounts.passwords import LEAST, MOST, Passwords, check_new
from app.accounts.records import CLOCKS_DIFFER, Account
from app.accounts.tables import accounts, sign_in_failures, sign_ins
from app.history.audit import append
from app.history.lines import storable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Connection, Row

    from app.accounts.records import Role
    from app.history.database import Database

__all__ = ["COMMAND_LINE", "AccountStore"]

COMMAND_LINE: Final = "command line"
"""Who managed an account, in the audit, when it was done on the machine itself."""

_FREE_FROM_ONE_ADDRESS: Final = 5
_FREE_IN_ALL: Final = 25
"""Failures of one name from all addresses; more, so that a stranger cannot easily keep somebody out."""
_FIRST_DELAY_S: Final = 15
_LONGEST_DELAY_S: Final = 15 * 60
_FORGOTTEN: Final = timedelta(days=1)
_OF_THE_NAME: Final = 32
"""Characters of a key that stand for the name; the others stand for name and address."""


class AccountStore:
    """Accounts of everybody; safe to use from several threads at once.

    Parameters
    ----------
    database : Database
        The history's; not closed with this.
    passwords : Passwords, optional
        Another cost of hashing, for tests.
    clock : callable, optional
        Gives the time, for tests.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._passwords = passwords or Passwords()
        self._clock = clock

    # --- managing -----------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        role: Role,
        password: str | None,
        *,
        must_change: bool = True,
        by: str = COMMAND_LINE,
    ) -> Account:
        """Make an account.

        Parameters
        ----------
        by : str
            Owner of the account that manages this one, for the audit; so in the other methods.
        password : str or None
            ``None`` for one that signs in through the organisation only.

        Raises
        ------
        AccountNameError, AccountExistsError, PasswordUnfitError
            For what stands in the way.
        """
        known = checked_name(name)
        if password is not None:
            check_new(password, known)
        hashed = None if password is None else self._passwords.hash(password)
        values = {"id": secrets.token_hex(16), "name": known, "role": role, "password": hashed}
        with self._database.write() as connection:
            if _row(connection, accounts.c.name == known) is not None:
                raise AccountExistsError(found=known)
            connection.execute(
                insert(accounts).values(
                    **values,
                    disabled=False,
                    must_change=must_change and hashed is not None,
                    created=self._clock(),
                )
            )
            append(connection, by, "managed", str(values["id"]))
            return _account(_require(connection, known))

    def reset(self, name: str, password: str, *, by: str = COMMAND_LINE) -> None:
        """Give an account another password, which it must change, and end its sign-ins."""
        with self._database.read() as connection:
            found = _require(connection, name)
        check_new(password, found.name)
        hashed = self._passwords.hash(password)
        with self._database.write() as connection:
            self._change(connection, found.id, password=hashed, must_change=True)
            append(connection, by, "managed", found.id)
            connection.execute(delete(sign_ins).where(sign_ins.c.account_id == found.id))
            mine = sign_in_failures.c.key.startswith(_key(found.name)[:_OF_THE_NAME])
            connection.execute(delete(sign_in_failures).where(mine))

    def set_disabled(self, name: str, *, disabled: bool, by: str = COMMAND_LINE) -> None:
        """Keep an account out, at once, or let it in again.

        Raises
        ------
        LastAdministratorError
            If nobody could let anybody in afterwards.
        """
        with self._database.write() as connection:
            found = _require(connection, name)
            if disabled:
                _keep_an_administrator(connection, found)
                connection.execute(delete(sign_ins).where(sign_ins.c.account_id == found.id))
            self._change(connection, found.id, disabled=disabled)
            append(connection, by, "managed", found.id)

    def set_role(self, name: str, role: Role, *, by: str = COMMAND_LINE) -> None:
        """Change what an account may do, and end its sign-ins.

        Raises
        ------
        LastAdministratorError
            If nobody could manage accounts afterwards.
        """
        with self._database.write() as connection:
            found = _require(connection, name)
            if role != "administrator":
                _keep_an_administrator(connection, found)
            connection.execute(delete(sign_ins).where(sign_ins.c.account_id == found.id))
            self._change(connection, found.id, role=role)
            append(connection, by, "managed", found.id)

    def list(self) -> list[Account]:
        """List all accounts by name."""
        seen = (
            select(sign_ins.c.account_id, func.max(sign_ins.c.seen).label("last_seen"))
            .group_by(sign_ins.c.account_id)
            .subquery()
        )
        query = (
            select(accounts, seen.c.last_seen)
            .outerjoin(seen, seen.c.account_id == accounts.c.id)
            .order_by(accounts.c.name)
        )
        with self._database.read() as connection:
            return [_account(row, row.last_seen) for row in connection.execute(query)]

    # --- proving who one is -------------------------------------------------------------------------

    def authenticate(self, name: str, password: str, address: str = "") -> Account:
        """Find the account of a name and its password.

        Parameters
        ----------
        address : str
            Where the attempt comes from.

        Raises
        ------
        SignInDelayedError
            After too many failures, whether or not there is such an account.
        SignInFailedError
            For any other reason; it cannot be told which.
        """
        known = storable(same_name(name))[: LONGEST_NAME + 1]
        keys = {_key(known, address): _FREE_FROM_ONE_ADDRESS, _key(known): _FREE_IN_ALL}
        self._count_attempt(keys)
        with self._database.read() as connection:
            row = _row(connection, accounts.c.name == known)
        stored = None if row is None or row.disabled else row.password
        if not self._passwords.verify(stored, password) or row is None:
            raise SignInFailedError
        with self._database.write() as connection:
            connection.execute(delete(sign_in_failures).where(sign_in_failures.c.key.in_(keys)))
            if self._passwords.outdated(row.password):
                self._change(connection, row.id, password=self._passwords.hash(password))
        return _account(row)

    def change_password(self, account: Account, old: str, new: str, address: str = "") -> None:
        """Replace one's own password and end all sign-ins.

        Raises
        ------
        SignInFailedError, SignInDelayedError
            If the old one is wrong.
        PasswordUnfitError
            If the new one is too easy to guess, or the old one.
        """
        self.authenticate(account.name, old, address)
        check_new(new, account.name)
        if new == old:
            raise PasswordUnfitError(least=LEAST, most=MOST)
        hashed = self._passwords.hash(new)
        with self._database.write() as connection:
            self._change(connection, account.id, password=hashed, must_change=False)
            connection.execute(delete(sign_ins).where(sign_ins.c.account_id == account.id))

    def by_subject(self, subject: str, name: str, role: Role) -> Account:
        """Find or make the account of somebody the organisation vouches for, in today's role.

        Parameters
        ----------
        subject : str
            Issuer and subject; what identifies, while the name may change.
        name : str
            Wanted name; a number is added when another account has it.

        Raises
        ------
        SignInFailedError
            If the account is disabled.
        """
        digest = hashlib.sha256(subject.encode()).hexdigest()
        with self._database.write() as connection:
            row = _row(connection, accounts.c.subject == digest)
            if row is None:
                connection.execute(
                    insert(accounts).values(
                        id=secrets.token_hex(16), name=_free_name(connection, name), role=role,
                        subject=digest, disabled=False, must_change=False, created=self._clock(),
                    )
                )  # fmt: skip
            elif row.role != role:
                self._change(connection, row.id, role=role)
                connection.execute(delete(sign_ins).where(sign_ins.c.account_id == row.id))
            row = _row(connection, accounts.c.subject == digest)
        if row is None or row.disabled:
            raise SignInFailedError
        return _account(row)

    def _count_attempt(self, keys: dict[str, int]) -> None:
        """Count an attempt as failed until it has succeeded; refuse it while a delay runs."""
        now = self._clock()
        with self._database.write() as connection:
            over = or_(
                sign_in_failures.c.last < now - _FORGOTTEN, sign_in_failures.c.last > now + CLOCKS_DIFFER
            )
            connection.execute(delete(sign_in_failures).where(over))
            query = select(sign_in_failures).where(sign_in_failures.c.key.in_(keys)).with_for_update()
            found = {row.key: row for row in connection.execute(query)}
            waiting = max((row.until for row in found.values()), default=now)
            waiting = min(waiting, now + timedelta(seconds=_LONGEST_DELAY_S))
            if waiting > now:
                raise SignInDelayedError(seconds=int((waiting - now).total_seconds()) + 1)
            for key, free in keys.items():
                count = int(found[key][1]) + 1 if key in found else 1
                values = {"count": count, "last": now, "until": now + _delay(count, free)}
                mine = sign_in_failures.c.key == key
                if not connection.execute(update(sign_in_failures).where(mine).values(**values)).rowcount:
                    connection.execute(insert(sign_in_failures).values(key=key, **values))

    @staticmethod
    def _change(connection: Connection, account_id: str, **values: Any) -> None:
        connection.execute(update(accounts).where(accounts.c.id == account_id).values(**values))


def _delay(count: int, free: int) -> timedelta:
    """How long the next attempt waits after this many failures."""
    if count < free:
        return timedelta(0)
    return timedelta(seconds=min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(count - free, 10)))


def _key(name: str, address: str | None = None) -> str:
    # digests: somebody may have typed a password where the name belongs. All keys of a name begin alike
    parts = (repr((name, None)), repr((name, address)))
    return "".join(hashlib.sha256(part.encode()).hexdigest()[:_OF_THE_NAME] for part in parts)


def _row(connection: Connection, condition: ColumnElement[bool]) -> Row[Any] | None:
    return connection.execute(select(accounts).where(condition)).one_or_none()


def _require(connection: Connection, name: str) -> Row[Any]:
    found = _row(connection, accounts.c.name == storable(same_name(name)))
    if found is None:
        raise AccountMissingError(found=name[:LONGEST_NAME])
    return found


def _account(row: Row[Any], last_seen: datetime | None = None) -> Account:
    return Account(
        row.id, row.name, row.role, row.disabled, row.must_change, row.password is not None,
        row.created, last_seen,
    )  # fmt: skip


def _keep_an_administrator(connection: Connection, leaving: Row[Any]) -> None:
    others = select(func.count()).where(
        accounts.c.role == "administrator", ~accounts.c.disabled, accounts.c.id != leaving.id
    )
    if leaving.role == "administrator" and not leaving.disabled and not connection.scalar(others):
        raise LastAdministratorError(found=leaving.name)


def _free_name(connection: Connection, wanted: str) -> str:
    """Name like the one wanted that no account has."""
    base = checked_name(wanted)
    for number in range(2, 10_000):
        name = base if number == 2 else f"{base[: LONGEST_NAME - 5]}-{number - 1}"
        if _row(connection, accounts.c.name == name) is None:
            return name
    raise AccountExistsError(found=base)
