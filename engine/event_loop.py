"""An event loop in a thread of its own, so that plain threads can stop what waits for the network."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

__all__ = ["LoopThread"]

Result = TypeVar("Result")


class LoopThread:
    """An event loop in a thread of its own, from the first use until closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()
        self._running = threading.Event()
        self._closed = False

    def check_open(self) -> None:
        """Raise ``BackendUnavailableError`` once it is closed."""
        if self._closed:
            raise BackendUnavailableError(reason="it was closed")

    def run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Begin work in the loop; cancelling the future stops it.

        Raises
        ------
        BackendUnavailableError
            If the loop was closed.
        """
        with self._lock:
            if self._closed:
                work.close()
                self.check_open()
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="model-server", daemon=True)
                self._thread.start()
                self._running.wait()
            if self._loop is None:
                raise RuntimeError("the event loop did not start")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Stop all work and end the thread."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave.set)
            thread.join()

    def _live(self) -> None:
        async def live() -> None:
            self._loop = asyncio.get_running_loop()
            self._running.set()
            await self._leave.wait()

        asyncio.run(live())  # cancels what still runs when it leaves
