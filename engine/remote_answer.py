"""One question on its way to a server, and its answer on the way back.

Lives in the event loop of :class:`engine.remote.RemoteBackend`; the reader's thread takes events from its
inbox. The protocol stands in :mod:`engine.chat_protocol`.
"""

from __future__ import annotations

import asyncio
import json
import queue
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import httpx

from engine.chat_protocol import (
    EventLines,
    Pairs,
    context_exceeded,
    conversation_key,
    estimated_tokens,
    model_is_missing,
    read_chunk,
    request_body,
)
from engine.errors import (
    BackendUnavailableError,
    PromptTooLongError,
    ServerBusyError,
    ServerError,
    ServerFailedError,
    ServerSilentError,
    ServerUnreachableError,
)
from engine.messages import Delta, Finished, Started, Timings, Usage
from engine.server import SERVER_AT_FAULT, start_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from engine.chat_protocol import Chunk, ContextExceeded
    from engine.messages import Event, FinishReason, GenerationOptions, Message
    from engine.server import Server

__all__ = ["Question"]

_FAREWELL_S = 5.0
_TICK_S = 0.05
"""Wait for the counts after the end of an answer."""
_SMALLEST_ANSWER = 32
_LONGEST_TOKEN = 128
"""Characters; the longest token of Llama 3's vocabulary is 128 blanks. A server that goes on beyond does
not obey its limit."""
_NO_STREAM = ("text/html", "text/xml", "application/xml", "application/json", "application/xhtml+xml")
"""What a sign-in page, a proxy or a server that does not stream answers with."""


class Question:
    """One question on its way to the server and its answer on the way back; lives in the loop."""

    def __init__(self, server: Server, messages: tuple[Message, ...], options: GenerationOptions) -> None:
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
            case ServerFailedError(values={"status": int() as status}) if status < SERVER_AT_FAULT:
                return None
            case ServerFailedError() | ServerUnreachableError():
                pass
            case _:
                return None
        left_s = self._left_s()
        return pause_s if pause_s <= limits.patience_s and (left_s is None or pause_s < left_s) else None

    async def _ask(self) -> None:
        # drawing the PNGs would hold up the other answers of this loop
        body = await asyncio.to_thread(self._body)
        self._sent = time.monotonic()
        limits, allowed_s = self._server.limits, self._server.limits.first_token_s
        left_s = self._left_s()
        is_ours = left_s is not None and left_s <= allowed_s
        allowed_s = allowed_s if left_s is None else min(allowed_s, left_s)
        try:
            async with asyncio.timeout(allowed_s) as clock, self._posted(body) as response:
                if response.status_code != httpx.codes.OK:
                    await self._refuse(response.status_code, response.headers, await start_of(response))
                await self._follow(response, clock)
        except TimeoutError as error:
            if self._answer.reason is not None:  # only the counts are missing
                self._inbox.put(self._finished(self._answer))
                return
            if not self.began and is_ours:
                self._inbox.put(self._finished(_Answer(reason="time_limit")))
                return
            if self._answer.has_lasted(self._options.time_limit_s):
                self._answer.reason = "time_limit"
                self._inbox.put(self._finished(self._answer))
                return
            seconds = limits.between_tokens_s if self.began else limits.first_token_s
            raise ServerSilentError(server=self._server.name, seconds=round(seconds)) from error
        except httpx.HTTPError as error:
            if self.began:
                raise self._server.odd(f"an end in mid-answer ({error!r})") from error
            raise self._server.unreachable(error) from error

    def _left_s(self) -> float | None:
        """Seconds until the first piece has to be there, whatever number of tries they are for."""
        limit_s = self._options.first_token_limit_s
        return None if limit_s is None else max(0.0, limit_s - (time.monotonic() - self._arrived))

    def _body(self) -> bytes:
        body = request_body(self._server.model, self._messages, self._options)
        return json.dumps(body, ensure_ascii=False).encode()

    @asynccontextmanager
    async def _posted(self, body: bytes) -> AsyncIterator[httpx.Response]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        headers["X-Conversation"] = conversation_key(self._messages)
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
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _NO_STREAM:
            raise self._server.odd(f"content of the type {kind}", "text/event-stream")
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
                if answer.is_over(chunk, self._options):
                    break
                if text or chunk.reason:
                    wait_s = _FAREWELL_S if answer.reason else self._server.limits.between_tokens_s
                    if answer.reason is None and answer.first is not None and self._options.time_limit_s:
                        ends_in_s = answer.first + self._options.time_limit_s - time.monotonic()
                        wait_s = min(wait_s, max(ends_in_s, 0.0))
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
        except OverflowError as error:
            raise self._server.odd(str(error)) from error

    async def _check(self, chunk: Chunk, response: httpx.Response) -> None:
        if chunk.error is not None:
            if not self.began:
                await self._refuse(SERVER_AT_FAULT, response.headers, chunk.error)
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
    characters: int = 0
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
            self.characters += len(text)
            self.first = self.first or time.monotonic()
        return text

    def has_lasted(self, limit_s: float | None) -> bool:
        """Tell whether an answer without an end has taken its time, but for a tick of the clock."""
        if limit_s is None or self.first is None or self.reason is not None:
            return False
        return time.monotonic() - self.first >= limit_s - _TICK_S

    def is_over(self, chunk: Chunk, options: GenerationOptions) -> bool:
        """Tell whether nothing more is wanted; a stream that says only that it is done is complete."""
        limit_s = options.time_limit_s
        if chunk.done:
            self.reason = self.reason or "complete"
            return True
        if self.characters > options.max_new_tokens * _LONGEST_TOKEN:
            self.reason = self.reason or "length"
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
