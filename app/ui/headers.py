"""What every answer says about itself, and the page's markup completed on its way out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.settings import Settings
    from app.ui.guard import Message, Send

__all__ = ["Answer", "content_security_policy", "own_page_policy", "security_headers"]

_FOREIGN_TAGS: Final = re.compile(
    rb'\s*<meta\s+(?:property="og:|name="twitter:)[^>]*>|\s*<link rel="manifest"[^>]*>'
)
_KEPT_BY_BROWSERS: Final = ("/assets/", "/static/", "/theme.css", "/favicon.ico", "/gradio_api/")
_YEAR_S: Final = 365 * 24 * 3600


def content_security_policy(frame_ancestors: tuple[str, ...] = ()) -> str:
    """Policy of the page: nothing is loaded from, or sent to, anywhere else.

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


def own_page_policy(frame_ancestors: tuple[str, ...] = ()) -> str:
    """Policy of the pages without Gradio: no script but the files of this server."""
    ancestors = " ".join(("'self'", *frame_ancestors))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
        f"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
    )


def security_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    """Headers of every answer."""
    headers = [
        (b"content-security-policy", content_security_policy(settings.frame_ancestors).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]
    if not settings.frame_ancestors:
        headers.append((b"cross-origin-opener-policy", b"same-origin"))
    if settings.is_https:
        headers.append((b"strict-transport-security", f"max-age={_YEAR_S}".encode()))
    return headers


class Answer:
    """The answer on its way out: headers added, and the page's markup completed.

    Parameters
    ----------
    send : callable
        ASGI's.
    path : str
        What was asked for.
    headers : list of pair of bytes
        Put on every answer, in the place of any of the same names.
    cookie : bytes or None
        Cookie to set.
    head : bytes
        Markup put first into the page's ``<head>``.
    """

    def __init__(
        self, send: Send, path: str, headers: list[tuple[bytes, bytes]], cookie: bytes | None, head: bytes
    ) -> None:
        self._send = send
        self._extra = list(headers)
        self._head = head
        self._is_page = path == "/"
        if path.startswith("/page/"):
            self._extra.append((b"cache-control", b"no-cache"))
        elif not path.startswith(_KEPT_BY_BROWSERS):
            self._extra.append((b"cache-control", b"no-store"))
        if cookie is not None:
            self._extra.append((b"set-cookie", cookie))
        self._start: Message | None = None
        self._body = bytearray()

    async def refuse(self, status: int, reason: str | dict[str, str], *headers: tuple[bytes, bytes]) -> None:
        """Answer with a refusal: a plain reason, or a sentence in every language for the page to show."""
        is_text = isinstance(reason, str)
        kind = b"text/plain; charset=utf-8" if is_text else b"application/json"
        body = reason if isinstance(reason, str) else json.dumps({"error": reason}, ensure_ascii=False)
        start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind), (b"cache-control", b"no-store"), *headers],
        }
        await self.send(start)
        await self.send({"type": "http.response.body", "body": body.encode()})

    async def redirect(self, location: str) -> None:
        """Send a browser elsewhere on this server; relative, so that a proxy's prefix stays."""
        await self.refuse(303, "", (b"location", location.encode()))

    async def send(self, message: Message) -> None:
        """Pass a message of the application on."""
        if message["type"] == "http.response.start":
            message["headers"] = self._headers(message["headers"])
            if self._is_page and (b"content-type", b"text/html; charset=utf-8") in message["headers"]:
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._send_page(self._start)
            return
        await self._send(message)

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Complete headers; a page of its own policy keeps it, and no other origin is ever let in."""
        names = {name.lower() for name, _ in given}
        extra = [one for one in self._extra if one[0] != b"content-security-policy" or one[0] not in names]
        replaced = {name for name, _ in extra} - {b"set-cookie"}
        kept = [
            (name, value)
            for name, value in given
            if name.lower() not in replaced and not name.lower().startswith(b"access-control-")
        ]
        return [*kept, *extra]

    async def _send_page(self, start: Message) -> None:
        body = _FOREIGN_TAGS.sub(b"", bytes(self._body)).replace(b"<head>", b"<head>" + self._head, 1)
        start["headers"] = [
            (name, value) for name, value in start["headers"] if name.lower() != b"content-length"
        ] + [(b"content-length", str(len(body)).encode())]
        self._start = None
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})
