"""The child's side of :class:`engine.process.ProcessBackend`, and what goes over the pipe.

In: :class:`Ask`, :class:`Cancel` and :class:`Goodbye`. Out: one :class:`Ready` or :class:`LoadFailed`,
:class:`Alive` at short intervals from a thread of its own, and for every ask an :class:`Accepted`, then
:class:`Said` for each event, or :class:`Failed`. An image crosses once: both ends keep a :class:`Shelf`
and apply the same asks in the same order, so they agree on what the child still holds.
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
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import AnswerFailedError, EngineError
from engine.messages import ImagePart, Message, TextPart

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from multiprocessing.connection import Connection

    import numpy as np
    from numpy.typing import NDArray

    from engine.backend import Backend
    from engine.messages import GenerationOptions, Role

__all__ = [
    "Accepted",
    "Alive",
    "Ask",
    "Cancel",
    "Failed",
    "Goodbye",
    "LoadFailed",
    "Logged",
    "Packed",
    "Ready",
    "Said",
    "Shelf",
    "Work",
    "pack",
    "serve",
    "unpack",
]

_LOG = logging.getLogger("bimedix2.engine")
_SHELF_BYTES = 256 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
Work = Literal["stream", "log_likelihoods", "text_of"]


@dataclass(frozen=True, slots=True)
class Packed:
    """Messages in which an image is its content hash; the pixels the child lacks come beside them."""

    rows: tuple[tuple[Role, tuple[TextPart | str, ...]], ...]
    images: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Begin a piece of work."""

    number: int
    work: Work
    messages: Packed
    argument: Any
    """Options of a stream, token ids of a text."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this work any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """End the process."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The backend is loaded."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The backend cannot be loaded; the process ends."""

    error: EngineError


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The work was taken up; before this it can be given to another child without harm."""

    number: int


@dataclass(frozen=True, slots=True)
class Said:
    """An event of a stream, or the result of other work."""

    number: int
    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended with an error."""

    number: int
    error: EngineError


@dataclass(frozen=True, slots=True)
class Logged:
    """A line of the child's log, for the parent's handlers."""

    name: str
    level: int
    text: str


class Shelf:
    """Which images the child holds: the newest ones within a budget.

    Parameters
    ----------
    budget : int
        Bytes of pixels.
    """

    def __init__(self, budget: int = _SHELF_BYTES) -> None:
        self._budget = budget
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._sizes

    def keep(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Put images in front, then drop the oldest ones beyond the budget."""
        for digest, pixels in images.items():
            self._sizes[digest] = pixels.nbytes
            self._sizes.move_to_end(digest)
        while sum(self._sizes.values()) > self._budget:
            self._sizes.popitem(last=False)


def pack(messages: Sequence[Message], shelf: Shelf) -> Packed:
    """Make messages ready for the pipe, and put their images on the sender's shelf."""
    used = {image.digest: image.pixels for message in messages for image in message.images}
    new = tuple(pixels for digest, pixels in used.items() if digest not in shelf)
    shelf.keep(used)
    rows = tuple(
        (message.role, tuple(part.digest if isinstance(part, ImagePart) else part for part in message.parts))
        for message in messages
    )
    return Packed(rows, new)


def unpack(packed: Packed, shelf: Shelf, held: dict[str, ImagePart]) -> tuple[Message, ...]:
    """Undo :func:`pack` at the other end; ``held`` are the images on the receiver's shelf."""
    held |= {image.digest: image for image in map(ImagePart, packed.images)}
    messages = tuple(
        Message(role, tuple(held[part] if isinstance(part, str) else part for part in parts))
        for role, parts in packed.rows
    )
    shelf.keep({image.digest: image.pixels for message in messages for image in message.images})
    for digest in [digest for digest in held if digest not in shelf]:
        del held[digest]
    return messages


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
        ``module:function``, called with ``arguments``; returns a backend and, in one English sentence,
        why this device and precision.
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
        backend, reason = getattr(importlib.import_module(module), attribute)(**arguments)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the parent must be told
        mouth.say(LoadFailed(_portable(error, EngineError)))
    else:
        mouth.say(Ready(backend.name, reason))
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

    def beat(self, interval_s: float) -> None:
        pause = threading.Event()
        while not pause.wait(interval_s):
            self.say(Alive())


class _Forwarder(logging.Handler):
    def __init__(self, mouth: _Mouth) -> None:
        super().__init__()
        self._mouth = mouth

    def emit(self, record: logging.LogRecord) -> None:
        self._mouth.say(Logged(record.name, record.levelno, self.format(record)))


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
        self._shelf = Shelf()
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
                case Ask():
                    self._take(message)
                case Cancel(number):
                    if stop := self._running.get(number):
                        stop.set()
                case Goodbye():
                    self._backend.close()
                    return 0

    def _take(self, ask: Ask) -> None:
        self._mouth.say(Accepted(ask.number))
        messages = unpack(ask.messages, self._shelf, self._held)
        stop = self._running[ask.number] = threading.Event()
        threading.Thread(
            target=self._do, args=(ask, messages, stop), name=f"answer-{ask.number}", daemon=True
        ).start()

    def _do(self, ask: Ask, messages: tuple[Message, ...], stop: threading.Event) -> None:
        try:
            with closing(self._values(ask, messages, stop)) as values:
                for value in values:
                    self._mouth.say(Said(ask.number, value))
                    if stop.is_set():
                        break
        except BaseException as error:  # noqa: BLE001  # somebody waits for this answer
            self._mouth.say(Failed(ask.number, _portable(error, AnswerFailedError)))
        finally:
            del self._running[ask.number]

    def _values(
        self, ask: Ask, messages: tuple[Message, ...], stop: threading.Event
    ) -> Generator[Any, None, None]:
        if ask.work == "stream":
            options: GenerationOptions = ask.argument
            with closing(self._backend.stream(messages, options)) as events:
                yield from events
            return
        method = getattr(self._backend, ask.work)
        yield method(messages, stop.is_set) if ask.work == "log_likelihoods" else method(ask.argument)


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
