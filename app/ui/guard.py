"""What every request passes: who it is from, where it may go, and what the answer says about itself.

One ASGI middleware in front of Gradio and of the application's own routes. It refuses requests from
other sites and other host names, lets through only the few Gradio routes the page uses (an upload or a
file of Gradio's would be readable by every visitor), gives each browser its owner, puts the boot script
first in the page and the security headers on everything. It knows nothing of images or conversations.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from app.settings import Settings

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["COOKIE", "LOCAL_OWNER", "OWNER", "Guard", "content_security_policy"]

OWNER: Final = "bimedix2.owner"
"""Name in the ASGI scope under which the owner of a request stands."""
LOCAL_OWNER: Final = "local"
COOKIE: Final = "bimedix2-visitor"

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_HEARTBEAT: Final = "/gradio_api/heartbeat/"
_SESSIONS: Final = 10_000
"""Sessions remembered; as many as Gradio keeps state for."""
_YEAR_S: Final = 365 * 24 * 3600

_OWN_ROUTES: Final = ("/upload", "/images/", "/shown/", "/history/", "/prompts", "/grounding", "/adapters", "/page/", "/healthz")
_GRADIO_ROUTES: Final = (
    "/assets/",
    "/static/",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/gradio_api/queue/",
    "/gradio_api/run/",
    "/gradio_api/cancel",
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
_SHUT_PARAMETERS: Final = frozenset({"view", "deep_link"})
_FOREIGN_TAGS: Final = re.compile(
    rb'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>|\s*<link rel="manifest"[^>]*>'
)


def content_security_policy(frame_ancestors: tuple[str, ...] = ()) -> str:
    """Policy of every answer: nothing is loaded from, or sent to, anywhere else.

    ``unsafe-eval`` and ``unsafe-inline`` are what Gradio's custom components need; that no outside host is
    named is what stops a picture in a model's answer from carrying text away.
    """
    ancestors = " ".join(("'self'", *frame_ancestors))
    return (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        f"form-action 'self'; frame-ancestors {ancestors}"
    )


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
    """

    def __init__(self, app: App, settings: Settings, port: int, head: bytes) -> None:
        self._app = app
        self._settings = settings
        self._head = head
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._headers = [
            (b"content-security-policy", content_security_policy(settings.frame_ancestors).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        owner, cookie = self._owner(scope, headers)
        refusal = self._refusal(scope, headers, owner)
        answer = _Answer(send, scope["path"], self._headers, cookie, self._head)
        if refusal is not None:
            await answer.refuse(*refusal)
            return
        scope[OWNER] = owner
        await self._app(scope, receive, answer.send)

    def _owner(self, scope: Scope, headers: dict[str, str]) -> tuple[str | None, bytes | None]:
        """Owner of a request and, on a browser's first visit, the cookie that will tell next time."""
        if self._settings.ownership == "single":
            return LOCAL_OWNER, None
        token = _cookie(headers.get("cookie", ""))
        if token is not None:
            return _owner_of(token), None
        if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
            return None, None
        token = secrets.token_urlsafe(32)
        return _owner_of(token), self._set_cookie(token)

    def _set_cookie(self, token: str) -> bytes:
        # Inside another site's frame only a partitioned SameSite=None cookie comes back. Lax, not Strict: a
        # visitor who follows a link to the page must not be taken for a new one; posts are checked by origin.
        site = "SameSite=None; Secure; Partitioned" if self._settings.secure_cookies else "SameSite=Lax"
        return f"{COOKIE}={token}; Path=/; Max-Age={_YEAR_S}; HttpOnly; {site}".encode()

    def _refusal(self, scope: Scope, headers: dict[str, str], owner: str | None) -> tuple[int, str] | None:
        path = scope["path"]
        if self._settings.host in _LOOPBACK and headers.get("host", "") not in self._hosts:
            return 403, "This page answers only under the address it was started with."
        if scope["method"] not in _SAFE_METHODS and _from_elsewhere(headers):
            return 403, "Requests from other sites are refused."
        if path != "/" and not path.startswith(_OWN_ROUTES + _GRADIO_ROUTES):
            return 403, "This route is shut."
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if path == "/" and _SHUT_PARAMETERS.intersection(name for name, _ in query):
            return 403, "This route is shut."
        if owner is None and not path.startswith(_WITHOUT_OWNER):
            return 401, "Open the page first."
        if owner is not None and not self._owns_session(owner, _session(path, query)):
            return 403, "This session belongs to another visitor."
        return None

    def _owns_session(self, owner: str, session: str) -> bool:
        """Whether a Gradio session is the owner's; the first to use one keeps it.

        Gradio itself hands the stream of a session to whoever names it.
        """
        if not session:
            return True
        first = self._sessions.setdefault(session, owner)
        self._sessions.move_to_end(session)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return first == owner


class _Answer:
    """The answer on its way out: headers added, and the page's markup completed."""

    def __init__(
        self, send: Send, path: str, headers: list[tuple[bytes, bytes]], cookie: bytes | None, head: bytes
    ) -> None:
        self._send = send
        self._extra = list(headers)
        self._head = head
        self._is_page = path == "/"
        if self._is_page or path.startswith(("/images/", "/shown/", "/upload", "/history/", "/prompts")):
            self._extra.append((b"cache-control", b"no-store"))
        elif path.startswith("/page/"):
            self._extra.append((b"cache-control", b"no-cache"))
        if cookie is not None:
            self._extra.append((b"set-cookie", cookie))
        self._start: Message | None = None
        self._body = bytearray()

    async def refuse(self, status: int, reason: str) -> None:
        await self.send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", b"text/plain; charset=utf-8")],
            }
        )
        await self.send({"type": "http.response.body", "body": reason.encode()})

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            replaced = {name for name, _ in self._extra} - {b"set-cookie"}
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in replaced]
            message["headers"] = [*kept, *self._extra]
            if self._is_page and (b"content-type", b"text/html; charset=utf-8") in kept:
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_page(self._start)
            return
        await self._send(message)

    async def _send_page(self, start: Message) -> None:
        body = _FOREIGN_TAGS.sub(b"", bytes(self._body)).replace(b"<head>", b"<head>" + self._head, 1)
        start["headers"] = [
            (name, value) for name, value in start["headers"] if name.lower() != b"content-length"
        ] + [(b"content-length", str(len(body)).encode())]
        self._start = None
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _session(path: str, query: list[tuple[str, str]]) -> str:
    """Gradio session a request names, in its path or its query."""
    if path.startswith(_HEARTBEAT):
        return path.removeprefix(_HEARTBEAT)
    return dict(query).get("session_hash", "")


def _owner_of(token: str) -> str:
    """Owner a cookie stands for; the history holds this digest, never what would open it."""
    return f"visitor-{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def _cookie(header: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None and _TOKEN.fullmatch(morsel.value) else None


def _from_elsewhere(headers: dict[str, str]) -> bool:
    """Whether a browser says that another site made this request; programs say nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:  # no page can set or change it, and no proxy's renaming of the host confuses it
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
