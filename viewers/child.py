"""A process with limits of memory and time that is asked in JSON, and replaced when it dies.

What crosses the pipe is JSON, so that a process which was taken over by a file cannot make the other one
run anything. :mod:`viewers.worker` says what is asked.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from viewers.errors import IntakeCancelledError, IntakeError, OpenError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

__all__ = ["Child", "Job", "WorkerLimits"]

Job = Any
"""Callable of (question, tell) that returns JSON values; ``tell`` sends some before the work is done."""

_ANSWER_BYTES: Final = 32 * 2**20
"""Of one message: names, errors, and the list of what a study holds."""
_CANCEL_S: Final = 0.1
"""Between two looks at whether the work is still wanted."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What opening one file may cost; a study has many, and counts anew for each."""

    wall_s: float = 120.0
    """Seconds without a word until the child is killed, on every system."""
    cpu_s: int = 120
    """Seconds of computing, where the system can limit them (not on Windows)."""
    memory_bytes: int = 6 * 2**30
    """Address space of the child, where the system can limit it: 4 GiB of pixels and the libraries."""
    study_s: float = 3600.0
    """Seconds for all files of a study together: thousands of slices on a slow disk take minutes."""


class Child:
    """The process and its pipe; one question at a time.

    Parameters
    ----------
    limits : WorkerLimits
    jobs : mapping of str to Job
        What it does, by the question's ``task``; must be importable.
    """

    def __init__(self, limits: WorkerLimits, jobs: Mapping[str, Job]) -> None:
        self.limits = limits
        self._jobs = dict(jobs)
        self._process: Any = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process; ``None`` when there is none."""
        return None if self._process is None else int(self._process.pid)

    def start(self) -> Connection:
        """Start the process if it is not there."""
        if self._pipe is not None and self._process.is_alive():
            return self._pipe
        self.kill()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_live, args=(theirs, self._jobs, asdict(self.limits)), name="intake", daemon=True
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def kill(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def ask(
        self,
        question: dict[str, Any],
        on_told: Callable[[dict[str, Any]], None] | None = None,
        cancel: threading.Event | None = None,
        total_s: float = float("inf"),
    ) -> dict[str, Any]:
        """Ask, and wait for the answer.

        Parameters
        ----------
        on_told : callable, optional
            Called with each message that is told before the answer.
        cancel : threading.Event, optional
            Set by another thread to stop the work.
        total_s : float
            Seconds for the whole answer; between two messages ``limits.wall_s`` counts.

        Raises
        ------
        IntakeError
            If the process had to be killed or died.
        IntakeCancelledError
        """
        pipe = self.start()
        ends = time.monotonic() + total_s
        try:
            pipe.send_bytes(json.dumps(question).encode())
            while True:
                self._await(pipe, ends, cancel)
                message = dict(json.loads(pipe.recv_bytes(_ANSWER_BYTES)))
                if "told" not in message:
                    return message
                if on_told is not None:
                    on_told(message["told"])
        except (EOFError, OSError) as error:
            raise self._died() from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self.kill()
            raise IntakeError(reason="?", limit="JSON") from error
        except BaseException:
            # Whoever listens raised in the middle of a conversation, which cannot be taken up again.
            self.kill()
            raise

    def _await(self, pipe: Connection, ends: float, cancel: threading.Event | None) -> None:
        """Wait until something can be received."""
        silent_until = time.monotonic() + self.limits.wall_s
        while True:
            now = time.monotonic()
            if cancel is not None and cancel.is_set():
                raise IntakeCancelledError
            wait = min(silent_until, ends) - now
            if wait <= 0 and not pipe.poll(0):
                limit = f"{self.limits.wall_s if silent_until <= ends else self.limits.study_s:g} s"
                raise IntakeError(reason=f"> {limit}", limit=limit)
            if pipe.poll(max(min(wait, _CANCEL_S if cancel is not None else wait), 0)):
                return

    def _died(self) -> IntakeError:
        """Tell how the process ended."""
        if self._process is not None:
            self._process.join(1.0)
        status = self._process.exitcode if self._process is not None else None
        self.kill()
        if status == -getattr(signal, "SIGXCPU", 0):
            return IntakeError(reason=f"> {self.limits.cpu_s} s", limit=f"{self.limits.cpu_s} s")
        return IntakeError(reason=f"exit {status}", limit=f"{self.limits.memory_bytes / 2**30:g} GiB")


def _live(pipe: Connection, jobs: dict[str, Job], worker_limits: dict[str, Any]) -> None:
    """Work until the parent is gone."""
    limits = WorkerLimits(**worker_limits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    _limit_memory(limits)
    _warm()

    def tell(message: dict[str, Any]) -> None:
        if "at" in message:
            _limit_time(limits)
        pipe.send_bytes(json.dumps({"told": message}, default=str).encode())

    while True:
        try:
            question = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        _limit_time(limits)
        pipe.send_bytes(json.dumps(_worked(jobs, question, tell), default=str).encode())


def _warm() -> None:
    """Load the libraries before the first file is there."""
    import viewers.dicom
    import viewers.picture
    import viewers.study_work  # noqa: F401 - loaded for later


def _worked(jobs: dict[str, Job], question: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    try:
        return {"done": jobs[question["task"]](question, tell)}
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
