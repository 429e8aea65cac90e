"""Everything about the people who use one installation, opened together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from app.accounts.passwords import Passwords
from app.accounts.review import Reviews
from app.accounts.sign_ins import SignIns
from app.accounts.store import AccountStore

if TYPE_CHECKING:
    from app.accounts.oidc import Provider
    from app.history.store import HistoryStore
    from app.settings import Settings

__all__ = ["People"]


@dataclass(frozen=True, slots=True)
class People:
    """Accounts, sign-ins, reviews, and the organisation's sign-in if there is one."""

    settings: Settings
    accounts: AccountStore
    sign_ins: SignIns
    reviews: Reviews
    provider: Provider | None = None

    @classmethod
    def open(cls, settings: Settings, history: HistoryStore, passwords: Passwords | None = None) -> People:
        """Make them over a history, which stays open.

        Raises
        ------
        SettingsError
            If the organisation's sign-in is set but cannot be used as it is.
        """
        database = history.database
        sign_ins = SignIns(
            database,
            timedelta(minutes=settings.lock_after_minutes),
            timedelta(minutes=settings.idle_minutes),
            timedelta(hours=settings.sign_in_hours),
        )
        provider = None
        if settings.oidc_issuer:
            from app.accounts.oidc import Provider

            provider = Provider.of(settings)
        return cls(
            settings, AccountStore(database, passwords or Passwords()), sign_ins, Reviews(history), provider
        )
