"""A backend that says what it was told to say, for tests and documentation; never the app's default.

It honours every promise of :class:`engine.backend.Backend`: one final event, deltas of whole
characters, stopping within one piece, refusing work once closed.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from engine.errors import BackendUnavailableError, ConversationShapeError
from engine.messages import Delta, Finished, Started, Timings, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from engine.messages import Event, GenerationOptions, Message

__all__ = ["ScriptedBackend"]

_PIECES = re.compile(r"\S+\s*|\s+")


class ScriptedBackend:
    """Answers from a queue, or by a function of the conversation.

    Parameters
    ----------
    *answers : str or Exception
        Given out in order; an exception is raised instead of an answer.
    respond : callable, optional
        Called with the messages when the queue is empty. Without it the answer tells how many images
        and which question it was given, so that a test can see what arrived.
    delay_s : float
        Pause before each word, in seconds.
    """

    def __init__(
        self,
        *answers: str | Exception,
        respond: Callable[[Sequence[Message]], str] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self._answers: deque[str | Exception] = deque(answers)
        self._respond = respond or _tell_what_arrived
        self._delay_s = delay_s
        self._closed = False
        self._lock = threading.Lock()
        self.received: list[tuple[Message, ...]] = []
        """Every conversation this backend was asked, oldest first."""

    @property
    def name(self) -> str:
        """What answers."""
        return "scripted"

    def enqueue(self, *answers: str | Exception) -> None:
        """Add answers to the end of the queue."""
        with self._lock:
            self._answers.extend(answers)

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Give the next answer, word by word; a word counts as one token."""
        if self._closed:
            raise BackendUnavailableError(reason="it was closed")
        if not messages or messages[-1].role != "user":
            raise ConversationShapeError(
                found=", ".join(message.role for message in messages) or "no message",
                expected="a conversation that ends with a user message",
            )
        started = time.monotonic()
        with self._lock:
            self.received.append(tuple(messages))
            answer = self._answers.popleft() if self._answers else self._respond(messages)
        if isinstance(answer, Exception):
            raise answer
        prompt_tokens = sum(len(message.text.split()) for message in messages)
        yield Started(prompt_tokens)
        pieces = _PIECES.findall(answer)
        first_token_s: float | None = None
        for piece in pieces[: options.max_new_tokens]:
            if self._delay_s:
                time.sleep(self._delay_s)
            first_token_s = first_token_s or time.monotonic() - started
            yield Delta(piece)
        sent = min(len(pieces), options.max_new_tokens)
        yield Finished(
            "complete" if sent == len(pieces) else "length",
            Usage(prompt_tokens, sent),
            Timings(0.0, first_token_s, time.monotonic() - started),
        )

    def close(self) -> None:
        """Refuse further work."""
        self._closed = True


def _tell_what_arrived(messages: Sequence[Message]) -> str:
    images = sum(len(message.images) for message in messages)
    return f"{images} image(s) in {len(messages)} message(s); you asked: {messages[-1].text}"
