"""A backend that fails in the way its question asks for; lives in child processes of the tests."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil

from engine.errors import EngineError, PromptTooLongError
from engine.messages import Queued, Reading, Started
from engine.scripted import ScriptedBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from engine.messages import Event, GenerationOptions, LoadStage, Message


class UnpicklableError(Exception):
    """Holds a lock, and cannot even be told."""

    def __init__(self) -> None:
        super().__init__("x")
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no words")


def _repeat(text: str) -> str:
    return " ".join([text] * 400)


class FaultyBackend:
    """Answers like the scripted backend, except to the questions below."""

    def __init__(self, delay_s: float) -> None:
        self._scripted = ScriptedBackend(respond=self._answer, delay_s=delay_s)

    @property
    def name(self) -> str:
        return "faulty"

    def _answer(self, messages: Sequence[Message]) -> str:
        question = messages[-1].text
        if question.startswith("long"):
            return _repeat("كلمة")
        if question == "digests":
            return " ".join(image.digest for message in messages for image in message.images)
        if question == "threads":
            return " ".join(sorted(t.name for t in threading.enumerate() if t.name.startswith("answer-")))
        return f"you asked: {question}"

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        question = messages[-1].text if messages else ""
        match question.split():
            case ["raise", "early"]:
                raise PromptTooLongError(found=7, limit=5)
            case ["raise", "lock"]:
                raise EngineError(reason=threading.Lock())
            case ["raise", "unpicklable"]:
                raise UnpicklableError
            case ["raise", "plain"]:
                raise RuntimeError("boom")
            case ["raise", "exit"]:
                raise SystemExit(5)
            case ["print"]:
                print("noise " * 1000, flush=True)  # noqa: T201
                os.write(1, b"more noise\n")
            case ["hang"]:
                time.sleep(3600)
            case ["wait", "in", "line"]:
                for _ in range(20):
                    time.sleep(0.1)
                    yield Queued(1)
            case ["read", "slowly"]:
                yield Started(100)
                for part in range(1, 100):
                    yield Reading(part, 100)
                    time.sleep(0.05)
            case ["eat"]:
                yield Started(1)
                self.eaten = bytearray(4 << 30)
            case ["freeze"]:
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(3600)  # this thread may run on until another one takes the signal
        for number, event in enumerate(self._scripted.stream(messages, options)):
            yield event
            if number == 2:
                self._fail(question)

    @staticmethod
    def _fail(question: str) -> None:
        match question.split():
            case ["long", "exit", code]:
                os._exit(int(code))
            case ["long", "abort"]:
                os.abort()
            case ["long", "raise"]:
                raise PromptTooLongError(found=7, limit=5)

    def log_likelihoods(self, messages, stopped=bool, _adapter=None):
        while messages[-1].text == "forever" and not stopped():
            time.sleep(0.01)
        return None if stopped() else [(len(messages), -0.5)]

    def text_of(self, ids) -> str:
        return "".join(map(chr, ids))

    def close(self) -> None:
        self._scripted.close()


def open_faulty(_tell: object, delay_s: float = 0.0) -> tuple[FaultyBackend, str]:
    return FaultyBackend(delay_s), "the tests asked for it"


def open_slowly(tell: Callable[[LoadStage, float | None], None], seconds: float) -> tuple[FaultyBackend, str]:
    tell("weights", 0.0)
    for quarter in range(1, 5):
        time.sleep(seconds / 4)
        tell("weights", quarter / 4)
    return open_faulty(tell)


def open_hungry(tell: object, megabytes: int) -> tuple[FaultyBackend, str]:
    """Allow this process so much more memory, as a container or ``ulimit -v`` does."""
    import resource

    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + (megabytes << 20), resource.RLIM_INFINITY))
    return open_faulty(tell)


def open_never(tell: object, how: str, flag: str = "") -> tuple[FaultyBackend, str]:
    if flag and os.path.exists(flag):  # noqa: PTH110
        return open_faulty(tell)
    if how == "crash":
        os._exit(9)
    if how == "engine":
        raise PromptTooLongError(found=3, limit=1)
    if how == "hang":
        time.sleep(3600)
    sys.exit("no model today")
