"""Any backend in a process of its own, behind the same seam.

A native library that crashes, a system that kills for want of memory, or a computation that never ends
takes down the child only: running answers end with a clear error, the child is started again, and the
next question works. The parent's threads wait for nothing but queues; what runs in the child and what
goes over the pipe stands in :mod:`engine.worker`.
"""

from __future__ import annotations

import atexit
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
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from engine import worker
from engine.errors import (
    AnswerFailedError,
    BackendUnavailableError,
    EngineError,
    ProcessCrashedError,
    ProcessGivenUpError,
    ProcessHungError,
)
from engine.messages import Finished, Queued

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from engine.backend import Backend
    from engine.messages import Event, GenerationOptions, Message
    from engine.precision import Quantisation

__all__ = ["ProcessBackend", "ProcessLimits", "open_local"]

_LOG = logging.getLogger("bimedix2.engine")
_POLL_S = 0.2


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
    """Ends in a row, without an answer finished in between, after which the child stays down."""
    backoff_s: float = 0.5
    """Pause before the first restart; doubled for each further one, at most a minute."""
    farewell_s: float = 5.0
    """Time a child gets to end by itself."""


def open_local(
    source: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    quantisation: Quantisation = "none",
    display_name: str | None = None,
) -> tuple[Backend, str]:
    """Load a checkpoint, here or in a child; a factory for :class:`ProcessBackend`.

    Returns
    -------
    tuple of (LocalBackend, str)
        The backend, and why this device and precision.

    Raises
    ------
    EngineError
        As :func:`engine.checkpoint.load`.
    """
    from engine.checkpoint import LoadOptions, load
    from engine.local import LocalBackend

    options = LoadOptions(device=device, dtype=dtype, threads=threads, quantisation=quantisation)
    loaded = load(source, options)
    return LocalBackend(loaded, display_name=display_name), loaded.reason


class ProcessBackend:
    """A backend that lives in a child process.

    Parameters
    ----------
    factory : str
        ``module:function`` that makes the backend in the child, e.g. ``engine.process:open_local``. It
        returns the backend and one English sentence on why this device and precision.
    arguments : mapping, optional
        Keyword arguments of the factory; they are pickled.
    name : str
        What answers, until the child has told its own name.
    limits : ProcessLimits, optional
        Patience and restarts.

    Notes
    -----
    The child runs ahead of a slow reader; closing a stream stops it within one token all the same. An
    error of loading is raised to whoever waited, and the next question loads anew.
    """

    def __init__(
        self,
        factory: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        name: str = "model",
        limits: ProcessLimits | None = None,
    ) -> None:
        self._plan = _Plan(factory, dict(arguments or {}), limits or ProcessLimits())
        self._name = name
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._supervisor: threading.Thread | None = None
        self._life: _Life | None = None
        self._error: EngineError | None = None
        self.reason = ""
        """Why this device and precision; empty until loaded."""

    @property
    def name(self) -> str:
        """What answers."""
        return self._name

    @property
    def process_id(self) -> int | None:
        """The child's process id while there is one."""
        life = self._life
        return life.process.pid if life else None

    def start(self, on_loaded: Callable[[str, float], None] | None = None) -> None:
        """Begin loading; does nothing while the child lives, loads or restarts.

        Parameters
        ----------
        on_loaded : callable, optional
            Called from a thread with the reason for device and precision, and the seconds it took; again
            after each restart.
        """
        with self._changed:
            if self._supervisor is None and not self._closing.is_set() and not self._given_up:
                self._error = None
                # before multiprocessing's own end, which would look like a crash
                atexit.register(self.close)
                self._supervisor = threading.Thread(
                    target=self._supervise, args=(on_loaded,), name="model-process", daemon=True
                )
                self._supervisor.start()

    def wait(self) -> None:
        """Load now and wait for it.

        Raises
        ------
        EngineError
            What went wrong while loading, also what made the child stay down.
        """
        self.start()
        while self._ready_life(_POLL_S) is None:
            pass

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer; see :class:`engine.backend.Backend`. While the child loads, the place is 1.

        Raises
        ------
        EngineError
            What the backend in the child raised, with the same class and values.
        ProcessCrashedError, ProcessHungError
            If the child ended or was ended in mid-answer.
        ProcessGivenUpError
            If it ended too often.
        BackendUnavailableError
            If this object was closed.
        """
        while True:
            life = yield from self._admitted()
            with life.asked("stream", messages, options) as inbox:
                while (value := inbox.get()) is not _LOST:
                    if isinstance(value, EngineError):
                        raise value
                    yield value
                    if isinstance(value, Finished):
                        return

    def log_likelihoods(
        self, messages: Sequence[Message], stopped: Callable[[], bool] = bool
    ) -> list[tuple[int, float]] | None:
        """Tell how likely the last answer is; see :meth:`engine.local.LocalBackend.log_likelihoods`."""
        result: list[tuple[int, float]] | None = self._result("log_likelihoods", messages, None, stopped)
        return result

    def text_of(self, ids: Sequence[int]) -> str:
        """Text of token ids."""
        return str(self._result("text_of", (), list(ids), bool))

    def close(self) -> None:
        """End the child; running answers end with ``BackendUnavailableError``."""
        atexit.unregister(self.close)
        self._closing.set()
        with self._changed:
            supervisor = self._supervisor
            self._changed.notify_all()
        if supervisor is not None:
            supervisor.join(self._plan.limits.farewell_s + 10 * _POLL_S)

    @property
    def _given_up(self) -> bool:
        return isinstance(self._error, ProcessGivenUpError)

    def _admitted(self) -> Generator[Queued, None, _Life]:
        self.start()
        wait_s = 0.0
        while (life := self._ready_life(wait_s)) is None:
            yield Queued(1)
            wait_s = _POLL_S
        return life

    def _ready_life(self, wait_s: float) -> _Life | None:
        """Return the child if it is ready within a moment; raises if there will be none."""
        with self._changed:
            self._changed.wait_for(self._is_settled, wait_s)
            if self._closing.is_set():
                raise BackendUnavailableError(reason="it was closed")
            if self._error is not None:
                raise copy.copy(self._error)  # each reader gets a traceback of its own
            return self._life if self._life is not None and self._life.ready else None

    def _is_settled(self) -> bool:
        return (
            self._closing.is_set() or self._error is not None or (self._life is not None and self._life.ready)
        )

    def _result(
        self, work: worker.Work, messages: Sequence[Message], argument: Any, stopped: Callable[[], bool]
    ) -> Any:
        self.start()
        while True:
            while (life := self._ready_life(_POLL_S)) is None:
                if stopped():
                    return None
            with life.asked(work, messages, argument) as inbox:
                while (value := _get(inbox)) is _NOTHING:
                    if stopped():
                        return None
            if isinstance(value, EngineError):
                raise value
            if value is not _LOST:
                return value

    def _supervise(self, on_loaded: Callable[[str, float], None] | None) -> None:
        """Keep one child alive. PR_SET_PDEATHSIG follows this thread: it outlives every child it starts."""
        if hasattr(signal, "pthread_sigmask"):
            # inherited by the child, so that Ctrl-C cannot hit it before it ignores the signal itself
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        failures = 0
        error: EngineError | None = None
        while error is None and not self._closing.is_set():
            answered, end = self._one_life(on_loaded)
            if self._closing.is_set():
                break
            failures = 1 if answered else failures + 1
            error = self._judge(end, failures)
            if error is None:
                pause_s = min(60.0, self._plan.limits.backoff_s * 2 ** (failures - 1))
                _LOG.warning("%s Starting it again in %.1f s.", end, pause_s)
                self._closing.wait(pause_s)
        with self._changed:
            self._error, self._supervisor = error, None
            self._changed.notify_all()

    def _one_life(self, on_loaded: Callable[[str, float], None] | None) -> tuple[bool, EngineError]:
        """Start a child and stay with it; returns whether it finished an answer, and why it ended."""
        try:
            life = _Life(self._plan, self._closing)
        except Exception as error:  # noqa: BLE001  # no memory for it, or arguments that cannot be pickled
            _LOG.exception("the model's process cannot be started")
            return False, EngineError(reason=f"its process cannot be started: {error}")
        with self._changed:
            self._life = life
        end = life.live(partial(self._loaded, life, on_loaded))
        with self._changed:
            self._life = None
        life.settle(end)
        return life.answered, end

    def _judge(self, end: EngineError, failures: int) -> EngineError | None:
        """Return the error with which to stay down, or ``None`` to start again."""
        if not isinstance(end, ProcessCrashedError | ProcessHungError):
            return end  # an error of loading: the same would happen again
        if failures <= self._plan.limits.restarts:
            return None
        how = end.values.get("how", "a hang")
        return ProcessGivenUpError(count=failures, how=how)

    def _loaded(self, life: _Life, on_loaded: Callable[[str, float], None] | None) -> None:
        with self._changed:
            self._name, self.reason = life.name, life.reason
            self._changed.notify_all()
        try:
            if on_loaded is not None:
                on_loaded(life.reason, time.monotonic() - life.began)
        except Exception:  # noqa: BLE001  # a front end's mistake must not leave the child without its keeper
            _LOG.exception("telling that the model is loaded failed")


@dataclass(frozen=True, slots=True)
class _Plan:
    factory: str
    arguments: dict[str, Any]
    limits: ProcessLimits


_LOST: Any = object()
"""Put into the inbox of work the child died without having seen; it can be asked again."""
_NOTHING: Any = object()
_Inbox = queue.SimpleQueue[Any]


def _get(inbox: _Inbox) -> Any:
    try:
        return inbox.get(timeout=_POLL_S)
    except queue.Empty:
        return _NOTHING


@dataclass(slots=True)
class _Pending:
    """Work in the child's hands."""

    inbox: _Inbox = field(default_factory=queue.SimpleQueue)
    accepted: bool = False
    still_s: float = 0.0
    """How long nothing has been heard of it."""


class _Asked:
    """The inbox of one piece of work; leaving it tells the child that nobody waits any more."""

    def __init__(self, life: _Life, number: int, inbox: _Inbox) -> None:
        self._life = life
        self._number = number
        self._inbox = inbox

    def __enter__(self) -> _Inbox:
        return self._inbox

    def __exit__(self, *_: object) -> None:
        self._life.forget(self._number)


class _Life:
    """One child from start to end."""

    def __init__(self, plan: _Plan, closing: threading.Event) -> None:
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

    def asked(self, work: worker.Work, messages: Sequence[Message], argument: Any) -> _Asked:
        """Give work to the child."""
        number, pending = next(self._numbers), _Pending()
        with self._guard:
            self._pending[number] = pending
            if self._over:
                pending.inbox.put(_LOST)
        self._outbox.put((number, work, tuple(messages), argument))
        return _Asked(self, number, pending.inbox)

    def forget(self, number: int) -> None:
        """Stop waiting for work; what still comes of it is dropped."""
        with self._guard:
            self._pending.pop(number, None)
        self._outbox.put(worker.Cancel(number))

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
                pending.inbox.put(copy.copy(end) if pending.accepted or self._closing.is_set() else _LOST)
        self._outbox.put(None)
        self._writer.join()
        self._connection.close()
        self.process.close()

    def _listen(self, on_ready: Callable[[], None]) -> EngineError | None:
        load = _Pending()
        silent_s, leaving_s, last = 0.0, 0.0, time.monotonic()
        while True:
            heard = wait([self._connection, self.process.sentinel], _POLL_S)
            message = self._receive() if self._connection in heard else None
            if heard and message is None:
                return None
            now = time.monotonic()
            # a machine that slept, or a parent that was stopped, must not count against the child
            passed, last = min(now - last, 2 * _POLL_S), now
            silent_s = 0.0 if message is not None else silent_s + passed
            if self._closing.is_set():
                if not self.ready or leaving_s > self._limits.farewell_s:
                    return BackendUnavailableError(reason="it was closed")  # does not listen: is killed
                self._outbox.put(worker.Goodbye())
                leaving_s += passed
            still_s = self._still_for(passed, None if self.ready else load)
            match message:
                case worker.Ready(name, reason):
                    self.name, self.reason, self.ready = name, reason, True
                    on_ready()
                case worker.LoadFailed(error):
                    return error
                case worker.Logged(name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                case worker.Accepted() | worker.Said() | worker.Failed():
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

    def _deliver(self, message: worker.Accepted | worker.Said | worker.Failed) -> None:
        with self._guard:
            pending = self._pending.get(message.number)
            if pending is None:
                return
            pending.still_s, pending.accepted = 0.0, True
        if isinstance(message, worker.Said):
            self.answered = self.answered or isinstance(message.value, Finished)
            pending.inbox.put(message.value)
        elif isinstance(message, worker.Failed):
            pending.inbox.put(message.error)

    def _write(self) -> None:
        shelf = worker.Shelf()
        while (item := self._outbox.get()) is not None:
            try:
                self._connection.send_bytes(self._pickled(item, shelf))
            except OSError:
                return  # the child is gone; the reader tells everybody
            except Exception as error:  # noqa: BLE001  # a value that refuses to be pickled
                _LOG.exception("a question cannot cross to the model's process")
                self._deliver(worker.Failed(item[0], AnswerFailedError(reason=str(error))))
                self.process.kill()  # the two shelves may differ now
                return

    @staticmethod
    def _pickled(item: Any, shelf: worker.Shelf) -> bytes:
        if isinstance(item, tuple):
            number, work, messages, argument = item
            item = worker.Ask(number, work, worker.pack(messages, shelf), argument)
        return pickle.dumps(item)


def _how(status: int | None) -> str:
    """Name an exit status: ``exit code 3``, ``signal SIGKILL``."""
    if status is None or status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"
