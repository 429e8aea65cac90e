"""One child process from its start to its end, as its parent sees it.

Out: events of the work it was given, or the error that ended it. A thread reads what the child says and
judges whether it still lives; another one writes, because a child that does not read would hold up
whoever asks. What is said stands in :mod:`engine.pipe`.
"""

from __future__ import annotations

import copy
import itertools
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from engine import pipe, worker
from engine.errors import (
    AnswerFailedError,
    BackendUnavailableError,
    EngineError,
    ProcessCrashedError,
    ProcessHungError,
)
from engine.loading import LoadMeter
from engine.messages import Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.messages import Message

__all__ = ["LOST", "POLL_S", "Child", "Plan", "ProcessLimits"]

_LOG = logging.getLogger("bimedix2.engine")
POLL_S = 0.2
"""Longest time a thread of the parent waits before it looks around."""
LOST: Any = object()
"""Put into the inbox of work the child died without having seen; it can be asked again."""
Inbox = queue.SimpleQueue[Any]


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """When a child counts as hung, and how often it is started again; times in seconds."""

    silence_s: float = 60.0
    """Longest time without a sign of life. The signs come every second, also while a model computes or
    loads; only a stopped process or a library that blocks the interpreter sends none."""
    progress_s: float = 1800.0
    """Longest time a load or one answer may take to its next event. Half an hour, because a large model on
    a slow CPU reads a piece of its prompt for minutes and that must not be cut."""
    restarts: int = 5
    """Ends in a row, without an answer finished in between, after which the child stays down for a while."""
    again_s: float = 120.0
    """That while: a question after it starts the child again."""
    backoff_s: float = 0.5
    """Pause before the first restart; doubled for each further one, at most a minute."""
    farewell_s: float = 5.0
    """Time a child gets to end by itself."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the child is to be."""

    factory: str
    arguments: dict[str, Any]
    limits: ProcessLimits


@dataclass(slots=True)
class _Pending:
    """Work in the child's hands."""

    inbox: Inbox = field(default_factory=queue.SimpleQueue)
    accepted: bool = False
    still_s: float = 0.0
    """How long nothing has been heard of it."""


class _Asked:
    """The inbox of one piece of work; leaving it tells the child that nobody waits any more."""

    def __init__(self, child: Child, number: int, inbox: Inbox) -> None:
        self._child = child
        self._number = number
        self._inbox = inbox

    def __enter__(self) -> Inbox:
        return self._inbox

    def __exit__(self, *_: object) -> None:
        self._child.forget(self._number)


class Child:
    """One child from start to end.

    Parameters
    ----------
    plan : Plan
        What it is to be, and how patient to be with it.
    closing : threading.Event
        Set when nobody wants it any more.
    earlier : dict
        Seconds by stage of an earlier load of the same model.
    """

    def __init__(self, plan: Plan, closing: threading.Event, earlier: dict[str, float]) -> None:
        self._limits = plan.limits
        self._closing = closing
        self._numbers = itertools.count()
        self._guard = threading.Lock()
        self._pending: dict[int, _Pending] = {}
        self._over = False
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ready = False
        self.answered = False
        self.name = self.reason = ""
        self.began = time.monotonic()
        self.meter = LoadMeter(earlier)
        interval_s = min(1.0, plan.limits.silence_s / 5)
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads half dead
        self._connection, theirs = context.Pipe()
        self.process = context.Process(
            target=worker.serve,
            args=(theirs, os.getpid(), plan.factory, plan.arguments, interval_s),
            name="bimedix2-model",
            daemon=True,
        )
        self.process.start()
        theirs.close()
        # sending may block on a child that does not read, so it has a thread of its own
        self._writer = threading.Thread(target=self._write, name="model-process-writer", daemon=True)
        self._writer.start()

    def asked(self, work: pipe.Work, messages: Sequence[Message], argument: Any) -> _Asked:
        """Give work to the child."""
        number, pending = next(self._numbers), _Pending()
        with self._guard:
            self._pending[number] = pending
            if self._over:
                pending.inbox.put(LOST)
        self._outbox.put((number, work, tuple(messages), argument))
        return _Asked(self, number, pending.inbox)

    def forget(self, number: int) -> None:
        """Stop waiting for work; what still comes of it is dropped."""
        with self._guard:
            self._pending.pop(number, None)
        self._outbox.put(pipe.Cancel(number))

    def live(self, on_ready: Callable[[], None]) -> EngineError:
        """Read what the child says until it ends; returns why it ended, the child being gone."""
        end = self._listen(on_ready)
        self.process.join(0 if end else self._limits.farewell_s)
        self.process.kill()
        self.process.join()
        return end or ProcessCrashedError(how=_how(self.process.exitcode))

    def settle(self, end: EngineError) -> None:
        """Tell everybody who waits, and free what the child held."""
        if self._closing.is_set():
            end = BackendUnavailableError(reason="it was closed")
        with self._guard:
            self._over = True
            for pending in self._pending.values():
                pending.inbox.put(copy.copy(end) if pending.accepted or self._closing.is_set() else LOST)
        self._outbox.put(None)
        self._writer.join()
        self._connection.close()
        self.process.close()

    def _listen(self, on_ready: Callable[[], None]) -> EngineError | None:
        load = _Pending()
        silent_s, leaving_s, last = 0.0, 0.0, time.monotonic()
        while True:
            heard = wait([self._connection, self.process.sentinel], POLL_S)
            message = self._receive() if self._connection in heard else None
            if heard and message is None:
                return None
            now = time.monotonic()
            # a machine that slept, or a parent that was stopped, must not count against the child
            passed, last = min(now - last, 2 * POLL_S), now
            silent_s = 0.0 if message is not None else silent_s + passed
            if self._closing.is_set():
                if not self.ready or leaving_s > self._limits.farewell_s:
                    return BackendUnavailableError(reason="it was closed")  # does not listen: is killed
                self._outbox.put(pipe.Goodbye())
                leaving_s += passed
            still_s = self._still_for(passed, None if self.ready else load)
            match message:
                case pipe.Told(stage, share):
                    load.still_s = 0.0
                    self.meter.tell(stage, share)
                case pipe.Ready(name, reason):
                    self.name, self.reason, self.ready = name, reason, True
                    on_ready()
                case pipe.LoadFailed(error):
                    return error
                case pipe.Logged(name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                case pipe.Accepted() | pipe.Said() | pipe.Failed():
                    self._deliver(message)
            if silent_s > self._limits.silence_s or still_s > self._limits.progress_s:
                return ProcessHungError(seconds=round(max(silent_s, still_s)))

    def _receive(self) -> Any:
        """Return the child's next message; ``None`` at the end or when it cannot be read."""
        try:
            return pickle.loads(self._connection.recv_bytes())  # noqa: S301  # from our own child only
        except Exception as error:  # noqa: BLE001  # half a message is as good as none
            if not isinstance(error, EOFError | OSError):
                _LOG.warning("the model's process sent something unreadable: %r", error)
            return None

    def _still_for(self, passed_s: float, load: _Pending | None) -> float:
        """Add a moment to all work; returns the longest time nothing was heard of one."""
        with self._guard:
            works = [load] if load is not None else list(self._pending.values())
            for pending in works:
                pending.still_s += passed_s
        return max((pending.still_s for pending in works), default=0.0)

    def _deliver(self, message: pipe.Accepted | pipe.Said | pipe.Failed) -> None:
        with self._guard:
            pending = self._pending.get(message.number)
            if pending is None:
                return
            pending.still_s, pending.accepted = 0.0, True
        if isinstance(message, pipe.Said):
            self.answered = self.answered or isinstance(message.value, Finished)
            pending.inbox.put(message.value)
        elif isinstance(message, pipe.Failed):
            pending.inbox.put(message.error)

    def _write(self) -> None:
        shelf = pipe.Shelf()
        while (item := self._outbox.get()) is not None:
            try:
                self._connection.send_bytes(self._pickled(item, shelf))
            except OSError:
                return  # the child is gone; the reader tells everybody
            except Exception as error:  # noqa: BLE001  # a value that refuses to be pickled
                _LOG.exception("a question cannot cross to the model's process")
                self._deliver(pipe.Failed(item[0], AnswerFailedError(reason=str(error))))
                self.process.kill()  # the two shelves may differ now
                return

    @staticmethod
    def _pickled(item: Any, shelf: pipe.Shelf) -> bytes:
        if isinstance(item, tuple):
            number, work, messages, argument = item
            item = pipe.Ask(number, work, pipe.pack(messages, shelf), argument)
        return pickle.dumps(item)


def _how(status: int | None) -> str:
    """Name an exit status: ``exit code 3``, ``signal SIGKILL``."""
    if status is None or status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
