"""A server of models: its address, how long to wait for it, and the errors that name it.

Addresses are checked before anything is sent: pictures leave this machine encrypted, or not at all unless
that was allowed, and go to the server that was chosen and to no other.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from dataclasses import dataclass

import httpx

from engine.chat_protocol import error_text, retry_after_s
from engine.errors import (
    ServerAddressError,
    ServerAnswerError,
    ServerBusyError,
    ServerError,
    ServerFailedError,
    ServerModelError,
    ServerRefusedError,
    ServerSilentError,
    ServerUnreachableError,
)

__all__ = ["SERVER_AT_FAULT", "Server", "ServerLimits", "checked_address", "start_of"]

_BUSY_S = 5
"""Wait a busy server is given when it does not say how long."""
_LONGEST_BODY = 1 << 20
SERVER_AT_FAULT = 500
"""The first HTTP status that means a failure of the server and not of the question."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How long to wait for a server; times in seconds."""

    connect_s: float = 10.0
    first_token_s: float = 600.0
    """Generous: a busy server lets requests wait, and a slow one reads a long prompt for minutes."""
    between_tokens_s: float = 120.0
    attempts: int = 3
    """Tries of one question; a try is repeated only while nothing of the answer has come."""
    backoff_s: float = 0.5
    """Pause before the second try; doubled for each further one. A server's ``Retry-After`` is obeyed up to
    ``patience_s``."""
    patience_s: float = 20.0
    """Longest pause between two tries."""


class Server:
    """Address, key and patience; the errors that name the server."""

    def __init__(self, address: httpx.URL, model: str, api_key: str | None, limits: ServerLimits) -> None:
        self.address = address
        self.model = model
        self.limits = limits
        self.name = address.netloc.decode("ascii")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def client(self) -> httpx.AsyncClient:
        """One connection; closing it is how an answer is stopped."""
        return httpx.AsyncClient(
            # packed bytes would come in bursts, and a few of them can grow to gigabytes
            headers=self._headers | {"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(self.limits.connect_s, read=None),
            follow_redirects=False,  # a picture goes to the server that was chosen, to no other
            trust_env=not is_loopback(self.address.host),
        )

    async def models(self) -> tuple[str, ...]:
        """Names of the models, or the error that says why there are none."""
        limit_s = self.limits.connect_s
        try:
            async with (
                asyncio.timeout(2 * limit_s),
                self.client() as client,
                client.stream("GET", f"{self.address}/models", timeout=limit_s) as response,
            ):
                text = await start_of(response)
        except httpx.HTTPError as error:
            raise self.unreachable(error) from error
        except TimeoutError as error:
            raise ServerSilentError(server=self.name, seconds=round(2 * limit_s)) from error
        if response.status_code != httpx.codes.OK:
            raise self.refusal(response.status_code, response.headers, text)
        try:
            return tuple(str(entry["id"]) for entry in json.loads(text)["data"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise self.odd(repr(text[:80]), "a list of models") from error

    def unreachable(self, error: httpx.HTTPError) -> ServerError:
        """Error of a connection that failed."""
        return ServerUnreachableError(server=self.name, reason=str(error) or type(error).__name__)

    def odd(self, found: str, expected: str = "an answer of an OpenAI-compatible server") -> ServerError:
        """Error of an answer that is none."""
        return ServerAnswerError(server=self.name, found=found, expected=expected)

    def refusal(self, status: int, headers: httpx.Headers, body: str) -> ServerError:
        """Choose the error of a response that is no answer."""
        if httpx.codes.is_redirect(status):
            return self.odd(f"a redirection to {headers.get('location', 'nowhere')}")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return ServerRefusedError(server=self.name, status=status)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            seconds = retry_after_s(headers)
            return ServerBusyError(server=self.name, seconds=_BUSY_S if seconds is None else round(seconds))
        if status == httpx.codes.NOT_FOUND:
            return self.odd(f"HTTP 404 at {self.address.path}")
        return ServerFailedError(server=self.name, status=status, reason=error_text(body))

    async def model_missing(self) -> ServerError:
        """Name the models there are."""
        try:
            names = ", ".join(await self.models())
        except ServerError:
            names = ""
        return ServerModelError(server=self.name, found=self.model, expected=names or "?")


async def start_of(response: httpx.Response, limit: int = _LONGEST_BODY) -> str:
    """Read a response that is no stream, at most ``limit`` bytes of it (1 MiB)."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > limit:
            break
    return body[:limit].decode("utf-8", "replace")


def is_loopback(host: str) -> bool:
    """Whether a name or number is this machine, whatever a name server says; ``x.localhost`` is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_address(url: str, *, allow_plain_http: bool) -> httpx.URL:
    """Read an address; one without a path gets ``/v1``.

    Raises
    ------
    ServerAddressError
        As :class:`engine.remote.RemoteBackend`.
    """
    expected = "an address like https://server:8000/v1"
    try:
        address = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise ServerAddressError(server="?", found=str(error).rstrip("."), expected=expected) from error
    # the whole address is not repeated: it may hold a key
    server = address.netloc.decode("ascii") or "?"
    if address.scheme not in ("http", "https") or not address.host:
        raise ServerAddressError(server=server, found=f"the scheme {address.scheme!r}", expected=expected)
    if address.userinfo or address.query or address.fragment:
        expected = "no more than server, port and path; the key has a setting of its own"
        raise ServerAddressError(server=server, found="a name, a key or a query in it", expected=expected)
    if address.scheme == "http" and not (allow_plain_http or is_loopback(address.host)):
        found = "http to another machine, which sends pictures unencrypted"
        expected = "https, or the setting that allows plain http"
        raise ServerAddressError(server=server, found=found, expected=expected)
    return address.copy_with(path=address.path.rstrip("/") or "/v1")
