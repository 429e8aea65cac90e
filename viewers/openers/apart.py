"""OpenSlide in a process of its own: a file that brings the library down takes no page with it.

One process serves all such slides of this one. It is asked for pixels by file, level and region, and answers
with bytes; when it dies it is started again, and the place that was asked for counts as damaged.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import multiprocessing
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from viewers.errors import CorruptTileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from numpy.typing import NDArray

    from viewers.geometry import Region

__all__ = ["OpenSlideApart"]

_WAIT_S: Final = 60.0
"""Seconds for one region: the slowest of 4096 x 4096 pixels takes some."""
_OPEN: Final = 8
"""Slides the process holds open."""
_MEMORY_BYTES: Final = 6 * 2**30
_LARGEST: Final = 2**30
"""Bytes of one answer."""
_CHUNK: Final = 2**20
_TILE: Final = 256


class OpenSlideApart:
    """Pixels by OpenSlide in its own process; see :class:`viewers.slide.SlidePixels`.

    Parameters
    ----------
    paths : tuple of Path
        The slide's files; OpenSlide opens the first and finds the others.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths

    def read(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read RGB of a region in pixels of the level; see :class:`viewers.slide.SlidePixels`."""
        asked = [str(self.paths[0]), level, region.x, region.y, region.width, region.height]
        try:
            raw = _process(os.getpid()).ask(asked)
            return np.frombuffer(raw, np.uint8).reshape(region.height, region.width, 3)
        except (OSError, EOFError, ValueError) as error:
            raise CorruptTileError(
                level=level, column=region.x // _TILE, row=region.y // _TILE, reason=_reason(error)
            ) from error

    def encoded_tile(self, _level: int, _column: int, _row: int) -> bytes | None:
        """OpenSlide gives no stored tiles."""
        return None

    def content(self) -> Iterator[bytes]:
        """Yield digests of all files, piece by piece."""
        for path in self.paths:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    yield hashlib.sha256(chunk).digest()

    def close(self) -> None:
        """Leave it to the process, which closes slides that were not asked for lately."""


def _reason(error: OSError | EOFError | ValueError) -> str:
    if isinstance(error, TimeoutError):
        return f"OpenSlide: > {_WAIT_S:g} s"
    return "OpenSlide: unreadable" if isinstance(error, ValueError) else "OpenSlide: process ended"


class _Process:
    """The process and its pipe; one question at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None

    def ask(self, question: list[Any]) -> bytes:
        """Ask for pixels.

        Raises
        ------
        OSError, EOFError
            If the process died or took too long.
        ValueError
            If OpenSlide cannot read the place.
        """
        with self._lock:
            try:
                pipe = self._started()
                pipe.send_bytes(json.dumps(question).encode())
                if not pipe.poll(_WAIT_S):
                    raise TimeoutError(f"> {_WAIT_S:g} s")
                answer = pipe.recv_bytes(_LARGEST)
            except (OSError, EOFError):
                self._kill()
                raise
        if answer[:1] != b"\1":
            raise ValueError(answer[1:60].decode("ascii", "replace"))
        return answer[1:]

    def _started(self) -> Connection:
        if self._pipe is not None and self._process.is_alive():
            return self._pipe
        self._kill()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(theirs,), name="openslide", daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


@cache
def _process(_owner: int) -> _Process:
    """One for each process that asks: a fork cannot use, nor end, the child of its parent."""
    made = _Process()
    atexit.register(made.close)
    return made


def _live(pipe: Connection) -> None:
    """Answer until the parent is gone."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    _limit_memory()
    opened: OrderedDict[str, Any] = OrderedDict()
    while True:
        try:
            question = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = b"\1" + _pixels(opened, question)
        except Exception as error:  # noqa: BLE001 - edge: whatever it is, the parent must be told
            answer = b"\0" + type(error).__name__.encode()
        pipe.send_bytes(answer)


def _pixels(opened: OrderedDict[str, Any], question: list[Any]) -> bytes:
    from pathlib import Path

    from viewers.geometry import Region
    from viewers.openers.vendor import OpenSlidePixels

    name, level, *place = question
    if name not in opened:
        opened[name] = OpenSlidePixels((Path(name),))
        while len(opened) > _OPEN:
            opened.popitem(last=False)[1].close()
    opened.move_to_end(name)
    read: bytes = opened[name].read(level, Region(*place)).tobytes()
    return read


def _limit_memory() -> None:
    import sys

    if sys.platform == "win32":
        return
    import resource

    # macOS knows the limit and refuses to set it.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
