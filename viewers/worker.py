"""Files nobody has looked at are opened in a process of their own, with limits of memory and time.

A decoder that crashes, a header that takes minutes, or a file that asks for more memory than there is
ends the child, never the caller: the caller gets an :class:`~viewers.errors.IntakeError`, the child is
started again, and the next file opens. Pixels do not cross the pipe: the child stores the image, as
:mod:`viewers.store` does, and says under which name. What crosses is JSON, so that a child that was taken
over by a file cannot make the parent run anything.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from viewers import errors
from viewers.errors import IntakeError, OpenError
from viewers.limits import Limits

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from typing import Self

__all__ = ["Intake", "WorkerLimits", "open_safely"]

_ANSWER_BYTES: Final = 2**20
"""Of one answer: names and errors; findings are in the stored record."""
_DIGEST_CHARACTERS: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What opening one file may cost."""

    wall_s: float = 120.0
    """Seconds until the child is killed, on every system."""
    cpu_s: int = 120
    """Seconds of computing, where the system can limit them (not on Windows)."""
    memory_bytes: int = 6 * 2**30
    """Address space of the child, where the system can limit it: 4 GiB of pixels and the libraries."""


class Intake:
    """One child process that opens files, one at a time; safe to share between threads.

    Parameters
    ----------
    worker_limits : WorkerLimits, optional
    job : callable, optional
        What the child does with a file; must be importable. For tests.
    """

    def __init__(self, worker_limits: WorkerLimits | None = None, job: Any = None) -> None:
        self._limits = worker_limits or WorkerLimits()
        self._job = job or store_image
        self._lock = threading.Lock()
        self._child: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the child now, so that the first file does not wait for it."""
        with self._lock:
            self._started()

    def open(self, path: Path | str, folder: Path | str, limits: Limits | None = None) -> Path:
        """Open a file and store it as ``folder / digest``; returns that folder.

        Raises
        ------
        OpenError
            As :func:`viewers.intake.open_image`; :class:`IntakeError` when the child had to be killed
            or died.
        OSError
            If the file cannot be read or the image not be stored.
        """
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        # A child that is killed leaves what it was writing in here, where it is found and deleted.
        staging = Path(tempfile.mkdtemp(prefix=".intake.", dir=home))
        try:
            with self._lock:
                answer = self._ask(
                    {"path": str(path), "folder": str(staging), "limits": asdict(limits or Limits())}
                )
            return _arrived(staging, home, _result(answer))
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._kill()

    def _started(self) -> Connection:
        if self._pipe is not None and self._child.is_alive():
            return self._pipe
        self._kill()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._child = context.Process(
            target=_live, args=(theirs, self._job, asdict(self._limits)), name="intake", daemon=True
        )
        self._child.start()
        theirs.close()
        self._pipe = ours
        return ours

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child.close()
        if self._pipe is not None:
            self._pipe.close()
        self._child = self._pipe = None

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        pipe = self._started()
        try:
            pipe.send_bytes(json.dumps(question).encode())
            if not pipe.poll(self._limits.wall_s):
                self._kill()
                limit = f"{self._limits.wall_s:g} s"
                raise IntakeError(reason=f"> {limit}", limit=limit)
            answer = json.loads(pipe.recv_bytes(_ANSWER_BYTES))
        except (EOFError, OSError, ValueError) as error:
            raise self._died() from error
        if not isinstance(answer, dict):
            self._kill()
            raise IntakeError(reason="?", limit="JSON")
        return answer

    def _died(self) -> IntakeError:
        """Tell how the child ended; the next file gets a new one."""
        if self._child is not None:
            self._child.join(1.0)
        status = self._child.exitcode if self._child is not None else None
        self._kill()
        if status == -getattr(signal, "SIGXCPU", 0):
            return IntakeError(reason=f"> {self._limits.cpu_s} s", limit=f"{self._limits.cpu_s} s")
        return IntakeError(reason=f"exit {status}", limit=f"{self._limits.memory_bytes / 2**30:g} GiB")


def _arrived(staging: Path, home: Path, name: str) -> Path:
    """Move the stored image into place; one that is there already is the same image."""
    if len(name) != 64 or not _DIGEST_CHARACTERS.issuperset(name) or not (staging / name).is_dir():
        raise IntakeError(reason="?", limit="SHA-256")
    target = home / name
    if not target.exists():
        with suppress(OSError):
            (staging / name).rename(target)
    if not target.exists():
        raise OSError(f"the image could not be put into place: {name[:12]}")
    return target


def _result(answer: dict[str, Any]) -> str:
    """Return the child's result, or raise its error."""
    kind, values = answer.get("error"), answer.get("values")
    if kind is None:
        return str(answer.get("stored"))
    if kind == "OSError":
        raise OSError(str(answer.get("reason")))
    known = getattr(errors, str(kind), None)
    if isinstance(known, type) and issubclass(known, OpenError) and isinstance(values, dict):
        try:
            failed = known(**{str(name): value for name, value in values.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise IntakeError(reason="?", limit="JSON") from error
        raise failed
    raise IntakeError(reason=str(answer.get("reason"))[:80], limit="OpenError")


def store_image(path: str, folder: str, limits: Limits) -> str:
    """Open one file and store it; the child's work. Returns the image's digest."""
    from viewers.intake import open_image
    from viewers.store import save

    image = open_image(path, limits)
    save(image, Path(folder) / image.digest)
    return image.digest


def _live(pipe: Connection, job: Any, worker_limits: dict[str, Any]) -> None:
    """Work until the parent is gone."""
    limits = WorkerLimits(**worker_limits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    _limit_memory(limits)
    _warm()
    while True:
        try:
            question = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        _limit_time(limits)
        answer = _worked(job, question)
        pipe.send_bytes(json.dumps(answer, default=str).encode())


def _warm() -> None:
    """Load the libraries before the first file is there."""
    import viewers.dicom
    import viewers.picture
    import viewers.store  # noqa: F401 - loaded for later


def _worked(job: Any, question: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"stored": job(question["path"], question["folder"], Limits(**question["limits"]))}
    except OpenError as error:
        return {"error": type(error).__name__, "values": error.values}
    except OSError as error:
        return {"error": "OSError", "reason": error.strerror or type(error).__name__}
    except MemoryError:
        return {"error": "MemoryError", "reason": "MemoryError"}
    except Exception as error:  # noqa: BLE001  # edge: whatever it is, the parent must be told
        return {"error": "Exception", "reason": type(error).__name__}


def _limit_memory(limits: WorkerLimits) -> None:
    if sys.platform == "win32":
        return
    import resource

    # macOS knows the limit and refuses to set it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(limits: WorkerLimits) -> None:
    """Allow the next file its seconds of computing: the system counts since the process began."""
    if sys.platform == "win32":
        return
    import resource

    used = os.times()
    soft = int(used.user + used.system) + limits.cpu_s + 1
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


_SHARED_LOCK = threading.Lock()
_shared: list[Intake] = []


def open_safely(path: Path | str, folder: Path | str, limits: Limits | None = None) -> Path:
    """Open a file in the process's one child; see :meth:`Intake.open`.

    Raises
    ------
    OpenError, OSError
    """
    with _SHARED_LOCK:
        if not _shared:
            _shared.append(Intake())
            atexit.register(_shared[0].close)
    return _shared[0].open(path, folder, limits)
