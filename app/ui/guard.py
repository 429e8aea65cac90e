"""What every request passes: who it is from, where it may go, and how often.

One ASGI middleware in front of Gradio and of the application's own routes. It refuses requests from
other sites and other host names, lets through only the few Gradio routes the page uses (an upload or a
file of Gradio's would be readable by every visitor), gives each request its owner, and puts the boot
script first in the page and the security headers on everything. It knows nothing of images or
conversations.
"""

from __future__ import annotations

import asyncio
import math
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from app.accounts.errors import RateExceededError, SignedOutError, WrongRoleError
from app.errors import UploadTooLargeError
from app.ui import gradio_sessions, wire
from app.ui.gradio_sessions import BodyTooLargeError, GradioSessions
from app.ui.headers import Answer, content_security_policy, security_headers
from app.ui.identity import COOKIE, LOCAL_OWNER, Identities, Identity, Single, Visitors
from app.ui.rates import Rates
from i18n.catalogue import LOCALES, Catalogue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from app.settings import Settings
    from app.ui.rates import Kind

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["COOKIE", "IDENTITY", "LOCAL_OWNER", "OWNER", "Guard", "content_security_policy"]

OWNER: Final = "bimedix2.owner"
"""Name in the ASGI scope under which the owner of a request stands."""
IDENTITY: Final = "bimedix2.identity"
"""Name in the ASGI scope under which the :class:`Identity` stands."""

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_UNCLEAN: Final = re.compile(r"//|\\|[\x00-\x1f\x7f]|(?:^|/)\.\.?(?:/|$)")
"""Ways to write a path that one part of a server may read otherwise than another."""
_CHECKED_EVERY_S: Final = 3.0
"""How soon an open stream ends after its sign-in."""

_OWN_ROUTES: Final = (
    "/upload",
    "/images/",
    "/shown/",
    "/slides/",
    "/studies",
    "/measure",
    "/history/",
    "/prompts",
    "/grounding",
    "/adapters",
    "/page/",
    "/healthz",
)
_ACCOUNT_ROUTES: Final = ("/account", "/account/", "/review", "/review/")
"""Open in front of the sign-in or without images of one's own; their handlers ask who is there."""
_GRADIO_ROUTES: Final = (
    "/assets/",
    "/static/",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/gradio_api/queue/join",
    "/gradio_api/queue/data",
    "/gradio_api/run/",
    "/gradio_api/heartbeat/",
    "/gradio_api/startup-events",
    "/gradio_api/app_id",
    "/gradio_api/theme.css",
)
_WITHOUT_OWNER: Final = (
    "/page/",
    "/healthz",
    "/assets/",
    "/static/",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/gradio_api/startup-events",
)
_STREAMS: Final = ("/gradio_api/queue/data", "/gradio_api/heartbeat/")
_UPLOADS: Final = ("/upload", "/history/import", "/studies", "/slides")
_SHUT_PARAMETERS: Final = frozenset({"view", "deep_link"})


class Guard:
    """The middleware.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    port : int
        The port in use, which a loopback page's ``Host`` must name.
    head : bytes
        Markup put first into the page's ``<head>``.
    identities : Identities, optional
        How it is told who asks; from the settings by default, where accounts need theirs.
    rates : Rates, optional
        Another clock, for tests.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        port: int,
        head: bytes,
        *,
        identities: Identities | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._head = head
        self._identities = identities or _identities(settings)
        self._sessions = GradioSessions()
        self._rates = rates or Rates()
        self._public = urlsplit(settings.public_url)
        self._scheme = "http" if settings.tls_cert == Path() else "https"
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._headers = security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # neither the page nor Gradio uses any
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._clean(scope)
        cookies = "; ".join(v.decode("latin-1") for name, v in scope["headers"] if name == b"cookie")
        identity = await self._identities.identify(scope, cookies)
        answer = Answer(send, scope["path"], self._headers, identity.set_cookie, self._head)
        refusal = self._refusal(scope, headers) or self._too_often(scope, identity)
        if refusal is None and (place := self._elsewhere(scope["path"], identity)) is not None:
            await answer.redirect(place)
            return
        refusal = refusal or self._not_theirs(scope, identity)
        if refusal is None and gradio_sessions.has_body(scope):
            refusal, receive = await self._event(receive, identity)
        if refusal is not None:
            await answer.refuse(*refusal)
            return
        scope[OWNER], scope[IDENTITY] = identity.owner, identity
        if scope["path"].startswith(_STREAMS) and identity.token is not None:
            receive = _Watched(receive, lambda: self._identities.holds(identity)).receive
        await self._app(scope, receive, answer.send)

    def _clean(self, scope: Scope) -> None:
        """Take away what a proxy puts before the path and into headers; nothing behind reads it.

        Gradio would build addresses from a forwarded host, and whoever can send one is no proxy.
        """
        prefix = self._public.path.rstrip("/")
        if prefix and scope["path"].startswith(f"{prefix}/"):
            scope["path"] = scope["path"].removeprefix(prefix)
            scope["raw_path"] = scope["path"].encode()
        scope["headers"] = [
            (name, value)
            for name, value in scope["headers"]
            if not name.startswith((b"x-forwarded-", b"x-original-"))
            and name not in (b"forwarded", b"x-direct-url")
        ]  # fmt: skip

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, dict[str, str]] | None:
        """Why nobody gets this, whoever asks."""
        path = scope["path"]
        if self._settings.host in _LOOPBACK and not self._is_own_host(headers.get("host", "")):
            return 403, _said("app.refused_host")
        if scope["method"] not in _SAFE_METHODS and self._from_elsewhere(headers):
            return 403, _said("app.refused_site")
        if scope["method"] in _SAFE_METHODS and _read_from_elsewhere(headers):
            return 403, _said("app.refused_site")
        own = _OWN_ROUTES + _GRADIO_ROUTES
        known = path == "/" or path.startswith(own) or self._is_account_route(path)
        if not known or _UNCLEAN.search(path):
            return 403, _said("app.refused_route")
        if path == "/" and _SHUT_PARAMETERS.intersection(name for name, _ in _query(scope)):
            return 403, _said("app.refused_route")
        return None

    def _is_account_route(self, path: str) -> bool:
        if self._settings.ownership != "users":
            return False
        return path in _ACCOUNT_ROUTES or path.startswith(("/account/", "/review/"))

    def _too_often(self, scope: Scope, identity: Identity) -> tuple[Any, ...] | None:
        """Whether an owner or an address asks more than people do; the machine's one user may."""
        if self._settings.ownership == "single":
            return None
        kind = _kind(scope, identity)
        address = (scope.get("client") or ("",))[0]
        wait = self._rates.take(kind, identity.owner, address) if kind else 0.0
        if not wait:
            return None
        seconds = math.ceil(wait)
        return 429, wire.both(RateExceededError(seconds=seconds)), (b"retry-after", str(seconds).encode())

    def _elsewhere(self, path: str, identity: Identity) -> str | None:
        """Where somebody belongs who opens the page but cannot work in it."""
        if self._settings.ownership != "users" or path != "/" or identity.owner is not None:
            return None
        if identity.sign_in is None or identity.sign_in.locked:
            return "account/sign-in"
        is_reviewer = identity.sign_in.account.role == "reviewer" and not identity.sign_in.account.must_change
        return "review" if is_reviewer else "account"

    def _not_theirs(self, scope: Scope, identity: Identity) -> tuple[Any, ...] | None:
        """Why this one does not get it."""
        path = scope["path"]
        if path.startswith(_WITHOUT_OWNER) or self._is_account_route(path):
            return None
        if identity.owner is None:
            if self._settings.ownership != "users":
                return 401, _said("app.refused_visitor")
            if identity.sign_in is None or identity.sign_in.locked:
                return 401, wire.both(SignedOutError())
            return 403, wire.both(WrongRoleError())
        named = gradio_sessions.named_in_url(path, _query(scope))
        if not self._sessions.owned(identity.owner, named):
            return 403, _said("app.refused_session")
        return None

    async def _event(self, receive: Receive, identity: Identity) -> tuple[tuple[Any, ...] | None, Receive]:
        """Check the session an event's body names, and hand the body on unchanged."""
        try:
            body = await gradio_sessions.read_body(receive)
        except BodyTooLargeError:
            error = UploadTooLargeError(found="> 1 MiB", limit="1 MiB")
            return (413, wire.both(error)), receive
        named = gradio_sessions.named_in_body(body)
        if named is None:
            return (422, _said("app.refused_event")), receive
        if not self._sessions.owned(identity.owner or "", named):
            return (403, _said("app.refused_session")), receive
        return None, gradio_sessions.replay(body, receive)

    def _from_elsewhere(self, headers: dict[str, str]) -> bool:
        """Whether a browser says that another site made this request; programs say nothing."""
        site = headers.get("sec-fetch-site")
        if site is not None:  # no page can set or change it, and no proxy's renaming confuses it
            return site not in ("same-origin", "none")
        if "origin" not in headers:
            return False
        try:
            origin = urlsplit(headers["origin"])
        except ValueError:
            return True
        found = _with_port(origin.netloc, origin.scheme)
        return not found or found not in {
            _with_port(headers.get("host", ""), origin.scheme),
            self._public_host,
        }

    @property
    def _public_host(self) -> str:
        return _with_port(self._public.netloc, self._public.scheme)

    def _is_own_host(self, host: str) -> bool:
        """Whether a ``Host`` names this page: a browser leaves out the port that goes with the scheme."""
        if _with_port(host, self._scheme) in self._hosts:
            return True
        return bool(self._public_host) and _with_port(host, self._public.scheme) == self._public_host


class _Watched:
    """What a stream hears from its browser; it hears a farewell when the sign-in has ended."""

    def __init__(self, receive: Receive, holds: Callable[[], Awaitable[bool]]) -> None:
        self._receive = receive
        self._holds = holds
        self._pending: asyncio.Future[Message] | None = None

    async def receive(self) -> Message:
        """Receive the browser's next message."""
        # kept over a cancelled call, which must not lose the message it waited for
        self._pending = self._pending or asyncio.ensure_future(self._receive())
        while True:
            done, _ = await asyncio.wait({self._pending}, timeout=_CHECKED_EVERY_S)
            if done:
                message, self._pending = self._pending.result(), None
                return message
            if not await self._holds():
                self._pending.cancel()
                return {"type": "http.disconnect"}


@cache
def _said(key: str) -> dict[str, str]:
    """Sentence in every language; the page shows the reader's."""
    return {locale: Catalogue().text(key, locale) for locale in LOCALES}


def _identities(settings: Settings) -> Identities:
    if settings.ownership == "users":
        raise ValueError("accounts need their identities")
    return Single() if settings.ownership == "single" else Visitors(settings)


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _kind(scope: Scope, identity: Identity) -> Kind | None:
    """Which bucket a request is counted in; files of the page in none."""
    path, posts = scope["path"], scope["method"] not in _SAFE_METHODS
    if path.startswith(_WITHOUT_OWNER):
        return None
    if posts and path in ("/account/sign-in", "/account/password"):
        return "sign_in"
    if identity.set_cookie is not None:
        return "begin"
    if posts and path.startswith(_UPLOADS):
        return "upload"
    return "ask" if gradio_sessions.has_body(scope) else "look"


def _with_port(host: str, scheme: str) -> str:
    """Write a host in lower case and with its port, also where that is the scheme's; empty for none."""
    host = host.lower()
    if not host or re.search(r":[0-9]+$", host):
        return host
    return f"{host}:{443 if scheme == 'https' else 80}"


def _read_from_elsewhere(headers: dict[str, str]) -> bool:
    """Whether another site reads: following a link to the page, or framing it, is no reading."""
    mode = headers.get("sec-fetch-mode", "navigate")
    return headers.get("sec-fetch-site") in ("cross-site", "same-site") and mode != "navigate"
