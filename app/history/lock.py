"""Locks between processes: who has a history open, and who changes pixels and their record together.

The operating system keeps them, so they end with their process however it ends. On Windows there are none:
there an open file cannot be moved away, which protects a history in use; pruning is left to a time when
the page is closed.
"""

from __future__ import annotations

import importlib
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from app.errors import HistoryBusyError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FilesLock", "UseLock", "lock_file"]

fcntl: Any
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows
    fcntl = None


def lock_file(database: Path) -> Path:
    """Place of the lock of an SQLite history."""
    return database.with_name(f".{database.name}.lock")


class UseLock:
    """Held by everybody who has a history open; alone by somebody who puts another in its place.

    Parameters
    ----------
    file : Path
        Made if it is not there.
    alone : bool

    Raises
    ------
    HistoryBusyError
        If another process has it open, or puts another in its place.
    """

    def __init__(self, file: Path, *, alone: bool = False) -> None:
        self._descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise HistoryBusyError(location=file.parent) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give it back."""
        with suppress(OSError):
            os.close(self._descriptor)
        self._descriptor = -1


class FilesLock:
    """Held while pixels and their record change together, by one thread of one process at a time.

    Parameters
    ----------
    file : Path
        Made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = threading.Lock()
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._thread.acquire()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600)
            if fcntl is not None:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._thread.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._thread.release()
