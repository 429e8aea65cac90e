"""Whom a request is from: the machine's one user, a browser known by its cookie, or who signed in with it.

Cookies are read from the header as it came: a name that stands there twice with different values means
that somebody planted one (another page of the same domain can), and then none of them counts.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from app.accounts.records import SignIn
    from app.accounts.sign_ins import SignIns
    from app.settings import Settings
    from app.ui.guard import Scope

__all__ = [
    "COOKIE", "LOCAL_OWNER", "Accounts", "Identities", "Identity", "Single", "Visitors", "session_cookie",
]  # fmt: skip

LOCAL_OWNER: Final = "local"
COOKIE: Final = "bimedix2-visitor"
_SESSION_COOKIE: Final = "bimedix2-session"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_YEAR_S: Final = 365 * 24 * 3600
_LONGEST_HEADER: Final = 8192
_NO_USE: Final = ("/gradio_api/heartbeat/", "/gradio_api/queue/data", "/page/", "/healthz", "/account/state")
"""What a page asks by itself, while nobody does anything."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of who asks."""

    owner: str | None
    """Whose images and conversations may be seen; ``None``: nobody's."""
    sign_in: SignIn | None = None
    token: str | None = None
    """Of the sign-in, for ending or locking it."""
    set_cookie: bytes | None = None


class Identities(Protocol):
    """One way to tell who asks."""

    async def identify(self, scope: Scope, cookies: str) -> Identity:
        """Tell who asks, from a request and its cookies."""

    async def holds(self, identity: Identity) -> bool:
        """Whether a connection that was opened earlier may still be served."""


class Single:
    """Everything belongs to the one user of this machine."""

    async def identify(self, scope: Scope, cookies: str) -> Identity:
        """Tell who asks."""
        del scope, cookies
        return Identity(LOCAL_OWNER)

    async def holds(self, identity: Identity) -> bool:
        """Whether it may still be served."""
        del identity
        return True


class Visitors(Single):
    """Each browser is an owner of its own, from its first look at the page on."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def identify(self, scope: Scope, cookies: str) -> Identity:
        """Tell who asks and, on a browser's first visit, make the cookie that will tell next time."""
        token = _cookie(cookies, COOKIE)
        if token is not None:
            return Identity(_owner_of(token))
        if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
            return Identity(None)
        token = secrets.token_urlsafe(32)
        return Identity(_owner_of(token), set_cookie=self._set_cookie(token))

    def _set_cookie(self, token: str) -> bytes:
        # Inside another site's frame only a partitioned SameSite=None cookie comes back. Lax, not Strict: a
        # visitor who follows a link to the page must not be taken for a new one; posts are checked by origin.
        site = "SameSite=None; Secure; Partitioned" if self._settings.secure_cookies else "SameSite=Lax"
        if self._settings.is_https and not self._settings.secure_cookies:
            site += "; Secure"
        return f"{COOKIE}={token}; Path=/; Max-Age={_YEAR_S}; HttpOnly; {site}".encode()


class Accounts:
    """Who has signed in."""

    def __init__(self, settings: Settings, sign_ins: SignIns) -> None:
        self._cookie = _session_cookie_name(settings)
        self._sign_ins = sign_ins

    async def identify(self, scope: Scope, cookies: str) -> Identity:
        """Tell who asks; only a clinician who need not first unlock or change a password owns anything."""
        token = _cookie(cookies, self._cookie)
        if token is None:
            return Identity(None)
        is_use = not scope["path"].startswith(_NO_USE)
        sign_in = await run_in_threadpool(self._sign_ins.find, token, is_use=is_use)
        if sign_in is None:
            return Identity(None)
        account = sign_in.account
        may_work = account.role == "clinician" and not sign_in.locked and not account.must_change
        return Identity(account.owner if may_work else None, sign_in, token)

    async def holds(self, identity: Identity) -> bool:
        """Whether the sign-in has not ended since; a locked page goes on receiving under its cover."""
        if identity.token is None:
            return True
        return await run_in_threadpool(self._sign_ins.find, identity.token, is_use=False) is not None


def session_cookie(settings: Settings, token: str | None) -> str:
    """Cookie of a sign-in, or the one that removes it.

    It ends with the browser's session; the server knows when the sign-in ends. Over https its name's
    prefix keeps other hosts of the domain from setting it.
    """
    site = "SameSite=None; Secure; Partitioned" if settings.secure_cookies else "SameSite=Lax"
    if settings.is_https and not settings.secure_cookies:
        site += "; Secure"
    value, age = (token, "") if token is not None else ("", "Max-Age=0; ")
    return f"{_session_cookie_name(settings)}={value}; Path=/; {age}HttpOnly; {site}"


def _session_cookie_name(settings: Settings) -> str:
    return f"__Host-{_SESSION_COOKIE}" if settings.is_https or settings.secure_cookies else _SESSION_COOKIE


def _owner_of(token: str) -> str:
    """Owner a cookie stands for; the history holds this digest, never what would open it."""
    return f"visitor-{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def _cookie(header: str, name: str) -> str | None:
    """Value of a cookie, if it stands there once and has the shape of a token."""
    if len(header) > _LONGEST_HEADER:
        return None
    pairs = (piece.strip().partition("=") for piece in header.split(";"))
    values = {value for found, _, value in pairs if found == name}
    return values.pop() if len(values) == 1 and _TOKEN.fullmatch(next(iter(values))) else None
