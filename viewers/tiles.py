"""Tiles for many viewers at once: kept within a budget, drawn a few at a time, the newest request first.

Who moves over a slide asks for tiles and has moved on before they are drawn. So a request that waits is
dropped when later ones of the same viewer need its place, and viewers take turns: one that asks for
thousands of tiles does not stop another.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from viewers.deepzoom import DeepZoom, TileAddress, deep_zoom, encode_tile
from viewers.errors import SlideBusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viewers.slide_pool import SlidePool

__all__ = ["TileCache", "TileService", "Turnstile"]

_BUDGET_BYTES: Final = 128 * 2**20
"""Some 6,000 tiles of 20 KiB: what several viewers moved over in the last minutes."""
_ENTRY_BYTES: Final = 256
"""What a tile costs beside its bytes: key, links and object."""
_WAITING: Final = 64
"""Requests that wait for all viewers together: a screen of 4K has about 150 tiles, a browser asks for six
at a time."""


class TileCache:
    """Encoded tiles by slide and address, within a budget of bytes; the least recently used go first.

    Parameters
    ----------
    budget : int
        Bytes; 0 keeps nothing.
    """

    def __init__(self, budget: int = _BUDGET_BYTES) -> None:
        self._budget = budget
        self._tiles: OrderedDict[tuple[str, TileAddress], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        """Counted against the budget now."""

    def get(self, slide: str, address: TileAddress) -> bytes | None:
        """Return a tile if it is there."""
        with self._lock:
            tile = self._tiles.get((slide, address))
            if tile is not None:
                self._tiles.move_to_end((slide, address))
            return tile

    def put(self, slide: str, address: TileAddress, tile: bytes) -> None:
        """Keep a tile, if it is not larger than the whole budget."""
        cost = len(tile) + _ENTRY_BYTES
        if cost > self._budget:
            return
        with self._lock:
            self._forget((slide, address))
            self._tiles[slide, address] = tile
            self.bytes += cost
            while self.bytes > self._budget:
                self._forget(next(iter(self._tiles)))

    def drop(self, slide: str) -> None:
        """Forget all tiles of a slide."""
        with self._lock:
            for key in [key for key in self._tiles if key[0] == slide]:
                self._forget(key)

    def _forget(self, key: tuple[str, TileAddress]) -> None:
        tile = self._tiles.pop(key, None)
        if tile is not None:
            self.bytes -= len(tile) + _ENTRY_BYTES


@dataclass(slots=True, eq=False)
class _Ticket:
    """One request that waits."""

    called: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False


class Turnstile:
    """Lets a few through at once; of those that wait, viewers in turn, each viewer's newest first.

    Parameters
    ----------
    running : int
        Let through at once, at least 1.
    waiting : int
        May wait; beyond it the oldest request of the viewer with most of them is dropped.
    """

    def __init__(self, running: int | None = None, waiting: int = _WAITING) -> None:
        self._most = running or max(2, os.cpu_count() or 1)
        self._room = waiting
        self._running = 0
        self._queues: OrderedDict[str, deque[_Ticket]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        with self._lock:
            return self._count()

    @contextmanager
    def turn(self, viewer: str) -> Iterator[None]:
        """Wait for a turn and hold it inside the ``with``.

        Raises
        ------
        SlideBusyError
            If later requests took its place.
        """
        ticket = self._ticket(viewer)
        if ticket is not None:
            ticket.called.wait()
            if ticket.dropped:
                raise SlideBusyError(waiting=self._room)
        try:
            yield
        finally:
            self._next()

    def _count(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def _ticket(self, viewer: str) -> _Ticket | None:
        """Go through at once (``None``), or wait with a ticket."""
        with self._lock:
            if self._running < self._most:
                self._running += 1
                return None
            ticket = _Ticket()
            self._queues.setdefault(viewer, deque()).append(ticket)
            if self._count() > self._room:
                self._drop_oldest()
            return ticket

    def _drop_oldest(self) -> None:
        viewer = max(self._queues, key=lambda name: len(self._queues[name]))
        dropped = self._queues[viewer].popleft()
        if not self._queues[viewer]:
            del self._queues[viewer]
        dropped.dropped = True
        dropped.called.set()

    def _next(self) -> None:
        """Hand the turn on, or give it back."""
        with self._lock:
            if not self._queues:
                self._running -= 1
                return
            viewer, queue = next(iter(self._queues.items()))
            ticket = queue.pop()
            del self._queues[viewer]
            if queue:
                self._queues[viewer] = queue  # at the end: the other viewers come first
            ticket.called.set()


class TileService:
    """Tiles of pooled slides through cache and turnstile; safe to share between threads.

    Parameters
    ----------
    pool : SlidePool
    cache : TileCache, optional
    turnstile : Turnstile, optional
    """

    def __init__(
        self, pool: SlidePool, cache: TileCache | None = None, turnstile: Turnstile | None = None
    ) -> None:
        self.pool = pool
        self.cache = cache or TileCache()
        self.turnstile = turnstile or Turnstile()

    def pyramid(self, slide: str) -> DeepZoom:
        """Return the Deep Zoom pyramid of a slide.

        Raises
        ------
        OpenError, OSError
        """
        with self.pool.borrow(slide) as opened:
            return deep_zoom(opened)

    def tile(
        self,
        slide: str,
        address: TileAddress,
        viewer: str = "",
        still_wanted: Callable[[], bool] | None = None,
    ) -> bytes:
        """Return a tile as JPEG.

        Parameters
        ----------
        slide : str
            Name in the pool.
        viewer : str
            Whose request it is, for taking turns.
        still_wanted : callable, optional
            Asked when its turn has come; if it says no, nothing is drawn.

        Raises
        ------
        TileOutOfRangeError
            If there is no such tile.
        SlideBusyError
            If it was dropped, or is no longer wanted.
        OpenError, OSError
            If the slide cannot be read.
        """
        kept = self.cache.get(slide, address)
        if kept is not None:
            return kept
        with self.turnstile.turn(viewer):
            kept = self.cache.get(slide, address)
            if kept is not None:
                return kept
            if still_wanted is not None and not still_wanted():
                raise SlideBusyError(waiting=self.turnstile.waiting)
            with self.pool.borrow(slide) as opened:
                made = encode_tile(opened, deep_zoom(opened), address)
        self.cache.put(slide, address, made)
        return made

    def drop(self, slide: str) -> None:
        """Forget a slide and its tiles, for instance before it is deleted."""
        self.pool.drop(slide)
        self.cache.drop(slide)

    def close(self) -> None:
        """Let go of all slides."""
        self.pool.close()
