"""The child's side of :class:`engine.process.ProcessBackend`: one backend, several readers behind a pipe.

What is said on the pipe stands in :mod:`engine.pipe`. Signs of life come from a thread of their own, so
that a computation that takes long is told from a process that is stopped.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import signal
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from engine import pipe
from engine.backend import MeasuresGrounding
from engine.errors import AnswerFailedError, EngineError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from multiprocessing.connection import Connection

    from engine.backend import Backend
    from engine.messages import GenerationOptions, ImagePart, LoadStage, Message

__all__ = ["serve"]

_LOG = logging.getLogger("bimedix2.engine")
_PR_SET_PDEATHSIG = 1


def serve(
    connection: Connection, parent: int, factory: str, arguments: Mapping[str, Any], interval_s: float
) -> None:
    """Live as a child process: load a backend, work until the parent says goodbye or is gone.

    Parameters
    ----------
    connection : Connection
        The child's end of the pipe.
    parent : int
        Process id of the parent.
    factory : str
        ``module:function``, called with a function that takes note of the stage of the load (see
        :func:`engine.opening.open_local`) and with ``arguments``; returns a backend and, in one English
        sentence, why this device and precision.
    interval_s : float
        Seconds between two signs of life.
    """
    _settle(parent)
    mouth = _Mouth(connection)
    threading.Thread(target=mouth.beat, args=(interval_s,), name="signs-of-life", daemon=True).start()
    _forward_log(mouth)
    status = 0
    try:
        module, _, attribute = factory.partition(":")
        backend, reason = getattr(importlib.import_module(module), attribute)(mouth.tell, **arguments)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the parent must be told
        mouth.say(pipe.LoadFailed(_portable(error, EngineError)))
    else:
        mouth.say(pipe.Ready(backend.name, reason))
        status = _Desk(backend, mouth).work_from(connection)
    # without the interpreter's own end: native threads may still be computing
    os._exit(status)


def _settle(parent: int) -> None:
    """Tie this process to its parent and keep its noise out of the parent's output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then says goodbye
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a library prints must not mix with an answer on the parent's standard output


class _Mouth:
    """Sends from several threads; a parent that is gone ends the process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def say(self, message: object) -> None:
        data = pickle.dumps(message)
        try:
            with self._lock:
                self._connection.send_bytes(data)
        except OSError:
            os._exit(1)

    def tell(self, stage: LoadStage, share: float | None = None) -> None:
        self.say(pipe.Told(stage, share))

    def beat(self, interval_s: float) -> None:
        pause = threading.Event()
        while not pause.wait(interval_s):
            self.say(pipe.Alive())


class _Forwarder(logging.Handler):
    def __init__(self, mouth: _Mouth) -> None:
        super().__init__()
        self._mouth = mouth

    def emit(self, record: logging.LogRecord) -> None:
        self._mouth.say(pipe.Logged(record.name, record.levelno, self.format(record)))


def _forward_log(mouth: _Mouth) -> None:
    logger = logging.getLogger("bimedix2")
    logger.addHandler(_Forwarder(mouth))
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Desk:
    """Does what is asked, each ask in a thread of its own, as the parent's readers would."""

    def __init__(self, backend: Backend, mouth: _Mouth) -> None:
        self._backend = backend
        self._mouth = mouth
        self._shelf = pipe.Shelf()
        self._held: dict[str, ImagePart] = {}
        self._running: dict[int, threading.Event] = {}

    def work_from(self, connection: Connection) -> int:
        """Take messages until the end; returns the exit status."""
        while True:
            try:
                message = pickle.loads(connection.recv_bytes())  # noqa: S301  # from our own parent only
            except (EOFError, OSError):
                return 1
            match message:
                case pipe.Ask():
                    self._take(message)
                case pipe.Cancel(number):
                    if stop := self._running.get(number):
                        stop.set()
                case pipe.Goodbye():
                    self._backend.close()
                    return 0

    def _take(self, ask: pipe.Ask) -> None:
        self._mouth.say(pipe.Accepted(ask.number))
        messages = pipe.unpack(ask.messages, self._shelf, self._held)
        stop = self._running[ask.number] = threading.Event()
        threading.Thread(
            target=self._do, args=(ask, messages, stop), name=f"answer-{ask.number}", daemon=True
        ).start()

    def _do(self, ask: pipe.Ask, messages: tuple[Message, ...], stop: threading.Event) -> None:
        try:
            with closing(self._values(ask, messages, stop)) as values:
                for value in values:
                    self._mouth.say(pipe.Said(ask.number, value))
                    if stop.is_set():
                        break
        except BaseException as error:  # noqa: BLE001  # somebody waits for this answer
            self._mouth.say(pipe.Failed(ask.number, _portable(error, AnswerFailedError)))
        finally:
            del self._running[ask.number]

    def _values(
        self, ask: pipe.Ask, messages: tuple[Message, ...], stop: threading.Event
    ) -> Generator[Any, None, None]:
        match ask.work:
            case "stream":
                options: GenerationOptions = ask.argument
                with closing(self._backend.stream(messages, options)) as events:
                    yield from events
            case "text_of":
                yield self._method("text_of")(ask.argument)
            case "image_dependence" if not isinstance(self._backend, MeasuresGrounding):
                yield None
            case "log_likelihoods" | "image_dependence":
                yield self._method(ask.work)(messages, stop.is_set, ask.argument)

    def _method(self, name: str) -> Any:
        """Return a method beyond those that every backend has."""
        return getattr(self._backend, name)


def _portable(error: BaseException, unforeseen: type[EngineError]) -> EngineError:
    """Turn any error into one that can cross the pipe; what nobody foresaw is logged with its traceback."""
    if not isinstance(error, EngineError):
        _LOG.error("an unforeseen error in the model's process", exc_info=error)
        return unforeseen(reason=_described(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # made in the line itself
    except Exception:  # noqa: BLE001  # a value can refuse in any way it likes
        return type(error)(**{name: str(value) for name, value in error.values.items()})
    return error


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # even telling what went wrong may go wrong
        text = ""
    return f"{type(error).__name__}: {text}".rstrip(".: ")
