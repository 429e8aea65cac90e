"""Open slides shared by many readers, few at a time; one that makes room is closed when nobody reads it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viewers.slide import Slide

__all__ = ["SlidePool"]

_CAPACITY: Final = 8
"""Slides open at once: each holds some files, the table of its tiles (16 bytes each), and a cache."""


@dataclass(slots=True, eq=False)
class _Held:
    """One slide, being opened or open."""

    opening: threading.Lock = field(default_factory=threading.Lock)
    slide: Slide | None = None
    readers: int = 0
    leaving: bool = False


class SlidePool:
    """Open slides by name, the least recently used of those beyond ``capacity`` closed first.

    A slide that is being read is never closed: it leaves when its last reader is done, and who asks for it
    meanwhile gets a new one.

    Parameters
    ----------
    open_ : callable
        Opens the slide of a name; what it raises reaches the reader and nothing is kept.
    capacity : int
        At least 1.
    """

    def __init__(self, open_: Callable[[str], Slide], capacity: int = _CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"a pool holds at least one slide, found {capacity}")
        self._open, self._capacity = open_, capacity
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Slides that are open and not leaving."""
        return len(self._held)

    @contextmanager
    def borrow(self, name: str) -> Iterator[Slide]:
        """Read a slide; it stays open inside the ``with``.

        Raises
        ------
        OpenError, OSError
            What opening it raises.
        """
        held = self._taken(name)
        try:
            yield self._opened(name, held)
        finally:
            self._returned(held)

    def drop(self, name: str) -> None:
        """Let go of a slide, for instance before it is deleted; readers inside finish first."""
        with self._lock:
            held = self._held.pop(name, None)
            closing = None if held is None else self._leave(held)
        if closing is not None:
            closing.close()

    def close(self) -> None:
        """Let go of all slides."""
        for name in list(self._held):
            self.drop(name)

    def _taken(self, name: str) -> _Held:
        closing: list[Slide] = []
        with self._lock:
            held = self._held.setdefault(name, _Held())
            held.readers += 1
            self._held.move_to_end(name)
            while len(self._held) > self._capacity:
                _, oldest = self._held.popitem(last=False)
                slide = self._leave(oldest)
                closing += [] if slide is None else [slide]
        for slide in closing:
            slide.close()
        return held

    def _opened(self, name: str, held: _Held) -> Slide:
        # Only those who want the same slide wait while it is opened.
        with held.opening:
            if held.slide is None:
                try:
                    held.slide = self._open(name)
                except BaseException:
                    with self._lock:
                        # Others may wait for this one; what they open leaves with the last of them.
                        held.leaving = True
                        if self._held.get(name) is held:
                            del self._held[name]
                    raise
            return held.slide

    def _returned(self, held: _Held) -> None:
        with self._lock:
            held.readers -= 1
            closing = held.slide if held.leaving and held.readers == 0 else None
        if closing is not None:
            closing.close()

    @staticmethod
    def _leave(held: _Held) -> Slide | None:
        """Mark as leaving; returns what can be closed at once."""
        held.leaving = True
        return held.slide if held.readers == 0 else None
