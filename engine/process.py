"""Any backend in a process of its own, behind the same seam.

A native library that crashes, a system that kills for want of memory, or a computation that never ends
takes down the child only: running answers end with a clear error, the child is started again, and the
next question works. The parent's threads wait for nothing but queues. One child's life stands in
:mod:`engine.child`, what runs in it in :mod:`engine.worker`.
"""

from __future__ import annotations

import atexit
import copy
import json
import logging
import queue
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.child import LOST, POLL_S, Child, Plan, ProcessLimits
from engine.errors import (
    BackendUnavailableError,
    EngineError,
    ProcessCrashedError,
    ProcessGivenUpError,
    ProcessHungError,
)
from engine.loading import LoadMeter, LoadTimes
from engine.messages import Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from engine import pipe
    from engine.grounding import ImageDependence
    from engine.messages import Event, GenerationOptions, Loading, Message

__all__ = ["ProcessBackend", "ProcessLimits"]

_LOG = logging.getLogger("bimedix2.engine")
_NOTHING: Any = object()


class ProcessBackend:
    """A backend that lives in a child process.

    Parameters
    ----------
    factory : str
        ``module:function`` that makes the backend in the child, e.g. ``engine.opening:open_local``. It is
        given a function that takes note of the stage of the load, and returns the backend with one
        English sentence on why this device and precision.
    arguments : mapping, optional
        Keyword arguments of the factory; they are pickled.
    name : str
        What answers, until the child has told its own name.
    limits : ProcessLimits, optional
        Patience and restarts.
    times : LoadTimes, optional
        How long loads took on this machine, for the estimate of the next one.

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
        times: LoadTimes | None = None,
    ) -> None:
        self._plan = Plan(factory, dict(arguments or {}), limits or ProcessLimits())
        self._name = name
        self._times = times or LoadTimes()
        # what is loaded, and as what numbers: another precision takes another time
        self._timed = json.dumps([factory, self._plan.arguments], sort_keys=True, default=repr)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._supervisor: threading.Thread | None = None
        self._child: Child | None = None
        self._error: EngineError | None = None
        self._gave_up_at = 0.0
        self.reason = ""
        """Why this device and precision; empty until loaded."""

    @property
    def name(self) -> str:
        """What answers."""
        return self._name

    @property
    def process_id(self) -> int | None:
        """The child's process id while there is one."""
        child = self._child
        return child.process.pid if child else None

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
        while self._ready_child(POLL_S) is None:
            pass

    def stream(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Event, None, None]:
        """Answer; see :class:`engine.backend.Backend`.

        While the child loads, a ``Loading`` comes again and again.

        Raises
        ------
        EngineError
            What the backend in the child raised, with the same class and values.
        ProcessCrashedError, ProcessHungError
            If the child ended or was ended in mid-answer.
        ProcessGivenUpError
            If it ended too often, until ``again_s`` of the limits have passed.
        BackendUnavailableError
            If this object was closed.
        """
        while True:
            child = yield from self._admitted()
            with child.asked("stream", messages, options) as inbox:
                while (value := inbox.get()) is not LOST:
                    if isinstance(value, EngineError):
                        raise value
                    yield value
                    if isinstance(value, Finished):
                        return

    def log_likelihoods(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,
    ) -> list[tuple[int, float]] | None:
        """Tell how likely the last answer is; see :meth:`engine.local.LocalBackend.log_likelihoods`."""
        result: list[tuple[int, float]] | None = self._result("log_likelihoods", messages, adapter, stopped)
        return result

    def image_dependence(
        self,
        messages: Sequence[Message],
        stopped: Callable[[], bool] = bool,
        adapter: str | None = None,
    ) -> ImageDependence | None:
        """Measure in the child; ``None`` also when its backend cannot."""
        result: ImageDependence | None = self._result("image_dependence", messages, adapter, stopped)
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
            supervisor.join(self._plan.limits.farewell_s + 10 * POLL_S)

    @property
    def _given_up(self) -> bool:
        """Whether it ended too often, and not long enough ago to try again."""
        rests = time.monotonic() - self._gave_up_at < self._plan.limits.again_s
        return isinstance(self._error, ProcessGivenUpError) and rests

    def _admitted(self) -> Generator[Loading, None, Child]:
        self.start()
        wait_s = 0.0
        while (child := self._ready_child(wait_s)) is None:
            loading = self._child
            # between two children nothing runs yet, but what is to come is known
            meter = loading.meter if loading else LoadMeter(self._times.of(self._timed))
            yield meter.state()
            wait_s = POLL_S
        return child

    def _ready_child(self, wait_s: float) -> Child | None:
        """Return the child if it is ready within a moment; raises if there will be none."""
        with self._changed:
            self._changed.wait_for(self._is_settled, wait_s)
            if self._closing.is_set():
                raise BackendUnavailableError(reason="it was closed")
            if self._error is not None:
                raise copy.copy(self._error)  # each reader gets a traceback of its own
            return self._child if self._child is not None and self._child.ready else None

    def _is_settled(self) -> bool:
        return (
            self._closing.is_set()
            or self._error is not None
            or (self._child is not None and self._child.ready)
        )

    def _result(
        self, work: pipe.Work, messages: Sequence[Message], argument: Any, stopped: Callable[[], bool]
    ) -> Any:
        self.start()
        while True:
            while (child := self._ready_child(POLL_S)) is None:
                if stopped():
                    return None
            with child.asked(work, messages, argument) as inbox:
                while (value := _get(inbox)) is _NOTHING:
                    if stopped():
                        return None
            if isinstance(value, EngineError):
                raise value
            if value is not LOST:
                return value

    def _supervise(self, on_loaded: Callable[[str, float], None] | None) -> None:
        """Keep one child alive. PR_SET_PDEATHSIG follows this thread: it outlives every child it starts."""
        if hasattr(signal, "pthread_sigmask"):
            # inherited by the child, so that Ctrl-C cannot hit it before it ignores the signal itself
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        failures = 0
        error: EngineError | None = None
        while error is None and not self._closing.is_set():
            answered, end = self._one_child(on_loaded)
            if self._closing.is_set():
                break
            failures = 1 if answered else failures + 1
            error = self._judge(end, failures)
            if error is None:
                pause_s = min(60.0, self._plan.limits.backoff_s * 2 ** (failures - 1))
                _LOG.warning("%s Starting it again in %.1f s.", end, pause_s)
                self._closing.wait(pause_s)
        with self._changed:
            self._error, self._supervisor, self._gave_up_at = error, None, time.monotonic()
            self._changed.notify_all()

    def _one_child(self, on_loaded: Callable[[str, float], None] | None) -> tuple[bool, EngineError]:
        """Start a child and stay with it; returns whether it finished an answer, and why it ended."""
        try:
            child = Child(self._plan, self._closing, self._times.of(self._timed))
        except Exception as error:  # noqa: BLE001  # no memory for it, or arguments that cannot be pickled
            _LOG.exception("the model's process cannot be started")
            return False, EngineError(reason=f"its process cannot be started: {error}")
        with self._changed:
            self._child = child
        end = child.live(partial(self._loaded, child, on_loaded))
        with self._changed:
            self._child = None
        child.settle(end)
        return child.answered, end

    def _judge(self, end: EngineError, failures: int) -> EngineError | None:
        """Return the error with which to stay down, or ``None`` to start again."""
        if not isinstance(end, ProcessCrashedError | ProcessHungError):
            return end  # an error of loading: the same would happen again
        if failures <= self._plan.limits.restarts:
            return None
        how = end.values.get("how", "a hang")
        return ProcessGivenUpError(count=failures, how=how)

    def _loaded(self, child: Child, on_loaded: Callable[[str, float], None] | None) -> None:
        with self._changed:
            self._name, self.reason = child.name, child.reason
            self._changed.notify_all()
        self._times.keep(self._timed, child.meter.end())
        try:
            if on_loaded is not None:
                on_loaded(child.reason, time.monotonic() - child.began)
        except Exception:  # noqa: BLE001  # a front end's mistake must not leave the child without its keeper
            _LOG.exception("telling that the model is loaded failed")


def _get(inbox: queue.SimpleQueue[Any]) -> Any:
    try:
        return inbox.get(timeout=POLL_S)
    except queue.Empty:
        return _NOTHING
