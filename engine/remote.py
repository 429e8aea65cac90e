"""A model on a server: vLLM, SGLang, ``transformers serve``, llama.cpp, any that speaks OpenAI's protocol.

In: messages. Out: the same events as from a model in this process. Connections live in one event loop of
their own, so that closing a stream closes its connection at once, which stops the work on the server, and
so that a reader can stop while the server has not said anything yet. The protocol stands in
:mod:`engine.chat_protocol`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import queue
import threading
import time
from concurrent.futures import CancelledError
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from engine.chat_protocol import (
    EventLines,
    Pairs,
    context_exceeded,
    error_text,
    estimated_tokens,
    model_is_missing,
    read_chunk,
    request_body,
    retry_after_s,
)
from engine.errors import (
    BackendUnavailableError,
    PromptTooLongError,
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
from engine.messages import Delta, Finished, Queued, Reading, Started, Timings, Usage
from engine.prompt import check_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Sequence
    from concurrent.futures import Future

    from engine.chat_protocol import Chunk, ContextExceeded
    from engine.messages import Event, FinishReason, GenerationOptions, Message

__all__ = ["RemoteBackend", "ServerLimits"]

_Result = TypeVar("_Result")
_POLL_S = 0.25
_FAREWELL_S = 5.0
"""Wait for the counts after the end of an answer."""
_BUSY_S = 5
"""Wait a busy server is given when it does not say how long."""
_SMALLEST_ANSWER = 32
_LONGEST_ERROR = 65536
_SERVER_AT_FAULT = 500


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


class RemoteBackend:
    """Answers with a model on a server.

    Parameters
    ----------
    url : str
        Address of the server, with or without ``/v1``, e.g. ``http://127.0.0.1:8000``.
    model : str
        Name of the model on the server; :meth:`models` lists them.
    api_key : str, optional
        Sent as a bearer token; never logged and not part of ``repr``.
    allow_plain_http : bool
        Allow ``http`` to another machine. Pictures and questions then travel unencrypted.
    display_name : str, optional
        What answers, for the page and the history; the model's name by default.
    limits : ServerLimits, optional
        Patience and tries.

    Raises
    ------
    ServerAddressError
        If the address is not http or https, holds a user's name or key, or would send pictures unencrypted.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        allow_plain_http: bool = False,
        display_name: str | None = None,
        limits: ServerLimits | None = None,
    ) -> None:
        address = _checked_address(url, allow_plain_http=allow_plain_http)
        self._server = _Server(address, model, api_key, limits or ServerLimits())
        self._name = display_name or model
        self._loop = _Loop()

    def __repr__(self) -> str:
        return f"RemoteBackend({str(self._server.address)!r}, {self._server.model!r})"

    @property
    def name(self) -> str:
        """What answers."""
        return self._name

    @property
    def reason(self) -> str:
        """Where it computes, in one English sentence."""
        return f"computed by the server {self._server.name}"

    def models(self) -> tuple[str, ...]:
        """Names of the server's models.

        Raises
        ------
        ServerError
            If the server cannot be asked.
        """
        try:
            return self._loop.run(self._server.models()).result()
        except CancelledError as error:
            raise BackendUnavailableError(reason="it was closed") from error

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer; see :class:`engine.backend.Backend`.

        While the server has not taken the question the place is 1; while it reads the prompt, a
        ``Reading`` of 0 tokens comes again and again. Counts are estimates until the server tells them.

        Raises
        ------
        ConversationShapeError
            Before the server is asked.
        PromptTooLongError
            If the server says so; before the answer begins.
        ServerError
            Its subclasses name the server and what to do.
        """
        self._loop.check_open()
        check_order(messages, "user")
        question = _Question(self._server, tuple(messages), options)
        task = self._loop.run(question.answer())
        waiting: Event = Queued(1)
        try:
            while True:
                said = question.heard(_POLL_S)
                if isinstance(said, BaseException):
                    raise said
                if isinstance(said, Started):
                    waiting = Reading(0, said.prompt_tokens)
                if said is not None:
                    yield said
                    if isinstance(said, Finished):
                        return
                    continue
                self._loop.check_open()
                if not question.began:
                    yield waiting
        finally:
            task.cancel()

    def close(self) -> None:
        """Close all connections, which stops what runs on the server."""
        self._loop.close()


class _Loop:
    """An event loop in a thread of its own, from the first use until closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()
        self._running = threading.Event()
        self._closed = False

    def check_open(self) -> None:
        if self._closed:
            raise BackendUnavailableError(reason="it was closed")

    def run(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        with self._lock:
            if self._closed:
                work.close()
                self.check_open()
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="model-server", daemon=True)
                self._thread.start()
                self._running.wait()
            if self._loop is None:
                raise RuntimeError("the event loop did not start")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
            thread.join()

    def _live(self) -> None:
        async def live() -> None:
            self._loop = asyncio.get_running_loop()
            self._running.set()
            await self._leave.wait()

        asyncio.run(live())  # cancels what still runs when it leaves


class _Server:
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
            headers=self._headers,
            timeout=httpx.Timeout(self.limits.connect_s, read=None),
            follow_redirects=False,  # a picture goes to the server that was chosen, to no other
            trust_env=not _is_loopback(self.address.host),
        )

    async def models(self) -> tuple[str, ...]:
        async with self.client() as client:
            try:
                response = await client.get(f"{self.address}/models", timeout=self.limits.connect_s)
            except httpx.HTTPError as error:
                raise self.unreachable(error) from error
            if response.status_code != httpx.codes.OK:
                raise self.refusal(response.status_code, response.headers, response.text)
            try:
                return tuple(str(entry["id"]) for entry in response.json()["data"])
            except (ValueError, LookupError, TypeError) as error:
                raise self.odd(repr(response.text[:80]), "a list of models") from error

    def unreachable(self, error: httpx.HTTPError) -> ServerError:
        return ServerUnreachableError(server=self.name, reason=str(error) or type(error).__name__)

    def odd(self, found: str, expected: str = "an answer of an OpenAI-compatible server") -> ServerError:
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


class _Question:
    """One question on its way to the server and its answer on the way back; lives in the loop."""

    def __init__(self, server: _Server, messages: tuple[Message, ...], options: GenerationOptions) -> None:
        self._server = server
        self._messages = messages
        self._options = options
        self._inbox: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self._arrived = self._sent = time.monotonic()
        self._estimate = estimated_tokens(messages)
        self._started = False
        self._answer = _Answer()
        self.began = False
        """Whether a piece of the answer has come."""

    def heard(self, wait_s: float) -> Event | BaseException | None:
        """Return what came within a moment, for the reader's thread."""
        try:
            return self._inbox.get(timeout=wait_s)
        except queue.Empty:
            return None

    async def answer(self) -> None:
        """Ask until there is an answer or an error; either ends in the inbox."""
        try:
            await self._ask_until_answered()
        except asyncio.CancelledError:
            self._inbox.put(BackendUnavailableError(reason="it was closed"))
            raise
        except Exception as error:  # noqa: BLE001  # somebody waits for this answer
            self._inbox.put(error)

    async def _ask_until_answered(self) -> None:
        attempt = 1
        while True:
            try:
                await self._ask()
            except _ShorterAnswerError as shorter:
                self._options = replace(self._options, max_new_tokens=shorter.room)
            except ServerError as error:
                pause_s = self._pause_s(error, attempt)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
                attempt += 1
            else:
                return

    def _pause_s(self, error: ServerError, attempt: int) -> float | None:
        """Seconds before the next try; ``None`` when there is none."""
        limits = self._server.limits
        if self.began or attempt >= limits.attempts:
            return None
        pause_s = limits.backoff_s * 2 ** (attempt - 1)
        match error:
            case ServerBusyError(values={"seconds": int() as seconds}):
                pause_s = max(pause_s, seconds)
            case ServerFailedError(values={"status": int() as status}) if status < _SERVER_AT_FAULT:
                return None
            case ServerFailedError() | ServerUnreachableError():
                pass
            case _:
                return None
        return pause_s if pause_s <= limits.patience_s else None

    async def _ask(self) -> None:
        # drawing the PNGs would hold up the other answers of this loop
        body = await asyncio.to_thread(self._body)
        self._sent = time.monotonic()
        limits, allowed_s = self._server.limits, self._server.limits.first_token_s
        try:
            async with asyncio.timeout(allowed_s) as clock, self._posted(body) as response:
                if response.status_code != httpx.codes.OK:
                    await self._refuse(response.status_code, response.headers, await _start_of(response))
                await self._follow(response, clock)
        except TimeoutError as error:
            if self._answer.reason is not None:  # only the counts are missing
                self._inbox.put(self._finished(self._answer))
                return
            seconds = limits.between_tokens_s if self.began else limits.first_token_s
            raise ServerSilentError(server=self._server.name, seconds=round(seconds)) from error
        except httpx.HTTPError as error:
            if self.began:
                raise self._server.odd(f"an end in mid-answer ({error!r})") from error
            raise self._server.unreachable(error) from error

    def _body(self) -> bytes:
        body = request_body(self._server.model, self._messages, self._options)
        return json.dumps(body, ensure_ascii=False).encode()

    @asynccontextmanager
    async def _posted(self, body: bytes) -> AsyncIterator[httpx.Response]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        url = f"{self._server.address}/chat/completions"
        async with (
            self._server.client() as client,
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            yield response

    async def _refuse(self, status: int, headers: httpx.Headers, body: str) -> None:
        """Raise what a response that is no answer means."""
        if exceeded := context_exceeded(status, body):
            raise self._shorter(exceeded)
        if model_is_missing(status, body):
            raise await self._server.model_missing()
        raise self._server.refusal(status, headers, body)

    def _shorter(self, exceeded: ContextExceeded) -> Exception:
        """Ask for a shorter answer where that may help, as a model in this process would give one."""
        asked, smallest = self._options.max_new_tokens, min(_SMALLEST_ANSWER, self._options.max_new_tokens)
        room = asked // 2
        if exceeded.prompt is not None and exceeded.limit is not None:
            left = exceeded.limit - exceeded.prompt
            # vLLM reads a prompt only as far as it has to: then its count is one too many, not the whole
            room = left if left < asked - 1 else max(smallest, room)
        if smallest <= room < asked:
            return _ShorterAnswerError(room)
        found = exceeded.prompt if exceeded.prompt is not None else f"≈ {self._estimate}"
        return PromptTooLongError(found=found, limit=(exceeded.limit or smallest) - smallest or "?")

    async def _follow(self, response: httpx.Response, clock: asyncio.Timeout) -> None:
        if not self._started:
            self._started = True
            self._inbox.put(Started(self._estimate))
        answer = self._answer = _Answer()
        async with aclosing(self._chunks(response, answer)) as chunks:
            async for chunk in chunks:
                await self._check(chunk, response)
                if text := answer.take(chunk):
                    self.began = True
                    self._inbox.put(Delta(text))
                if answer.is_over(chunk, self._options.time_limit_s):
                    break
                if text or chunk.reason:
                    wait_s = _FAREWELL_S if answer.reason else self._server.limits.between_tokens_s
                    clock.reschedule(asyncio.get_running_loop().time() + wait_s)
        if answer.reason is None:
            raise self._server.odd("an end of the stream without a reason", "a finish reason")
        self._inbox.put(self._finished(answer))

    async def _chunks(self, response: httpx.Response, answer: _Answer) -> AsyncGenerator[Chunk, None]:
        lines = EventLines()
        try:
            async for piece in response.aiter_bytes():
                for data in lines.feed(piece):
                    yield read_chunk(data, self._server.name)
            for data in lines.end():
                yield read_chunk(data, self._server.name)
        except httpx.HTTPError:
            if answer.reason is None:  # else only the counts are missing
                raise

    async def _check(self, chunk: Chunk, response: httpx.Response) -> None:
        if chunk.error is not None:
            if not self.began:
                await self._refuse(_SERVER_AT_FAULT, response.headers, chunk.error)
            raise ServerFailedError(server=self._server.name, status=response.status_code, reason=chunk.error)

    def _finished(self, answer: _Answer) -> Finished:
        now = time.monotonic()
        first_token_s = None if answer.first is None else answer.first - self._sent
        usage = answer.usage or Usage(self._estimate, answer.pieces)
        timings = Timings(self._sent - self._arrived, first_token_s, now - self._sent)
        return Finished(answer.reason or "stopped", usage, timings)


@dataclass(slots=True)
class _Answer:
    """What has come of an answer."""

    reason: FinishReason | None = None
    usage: Usage | None = None
    pieces: int = 0
    first: float | None = None
    """Moment of the first piece."""
    pairs: Pairs = field(default_factory=Pairs)

    def take(self, chunk: Chunk) -> str:
        """Add a chunk; returns its text in whole signs."""
        self.usage = chunk.usage or self.usage
        self.reason = chunk.reason or self.reason
        text = self.pairs.join(chunk.text)
        if text:
            self.pieces += 1
            self.first = self.first or time.monotonic()
        return text

    def is_over(self, chunk: Chunk, limit_s: float | None) -> bool:
        """Tell whether nothing more is wanted; a stream that says only that it is done is complete."""
        if chunk.done:
            self.reason = self.reason or "complete"
            return True
        if self.reason is None and limit_s is not None and self.first is not None:
            self.reason = "time_limit" if time.monotonic() - self.first > limit_s else None
            return self.reason is not None
        return False


class _ShorterAnswerError(Exception):
    """The prompt fits, but not with so long an answer."""

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.room = room


async def _start_of(response: httpx.Response) -> str:
    """Read an error's body, at most 64 KiB of it."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _LONGEST_ERROR:
            break
    return body[:_LONGEST_ERROR].decode("utf-8", "replace")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_address(url: str, *, allow_plain_http: bool) -> httpx.URL:
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
    if address.scheme == "http" and not (allow_plain_http or _is_loopback(address.host)):
        found = "http to another machine, which sends pictures unencrypted"
        expected = "https, or the setting that allows plain http"
        raise ServerAddressError(server=server, found=found, expected=expected)
    return address.copy_with(path=address.path.rstrip("/") or "/v1")
