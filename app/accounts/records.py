"""Values of accounts and sign-ins, and what each role may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["CLOCKS_DIFFER", "ROLES", "Account", "Role", "SignIn"]

Role = Literal["clinician", "reviewer", "administrator"]
"""``clinician``: images and conversations of their own. ``reviewer``: reads everybody's conversations,
changes none, and each look is recorded. ``administrator``: accounts and sign-ins, and no patient's data."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)

CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""How far ahead a stored time may be, where several machines share a database. One further ahead was stored
before the clock was set back, and is taken for long ago."""


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account."""

    id: str
    """Random; what the history knows its owner by, so that no table but this one holds a name."""
    name: str
    role: Role
    disabled: bool
    must_change: bool
    """Whether the password was set by somebody else and opens nothing but the change of it."""
    has_password: bool
    created: datetime
    last_seen: datetime | None = None

    @property
    def owner(self) -> str:
        """Owner of the account's images and conversations."""
        return f"user-{self.id}"


@dataclass(frozen=True, slots=True)
class SignIn:
    """One browser that somebody has signed in with."""

    id: str
    """Names it in lists; opens nothing."""
    account: Account
    program: str
    """Browser and system, e.g. ``Firefox, Linux``."""
    created: datetime
    seen: datetime
    locked: bool
    """Whether it waits for the password after a time without use."""
