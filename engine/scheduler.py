"""Who computes next: admitted in order of arrival, turns in order of asking, tokens of several together.

Nothing here knows of models. A piece of work (a chunk of a prompt, a token) is done in the thread that
wants it; whoever holds the turn takes along what others in the line want computed in the same way.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

__all__ = ["Gate", "Turns"]

_PLACE_POLL_S = 0.2
_PATIENCE = 0.25
"""Share of a step's time that others are waited for."""
_MOST_PATIENCE_S = 0.01
Job = TypeVar("Job")
Result = TypeVar("Result")


class Gate:
    """Admits a number of streams at once, the others in order of arrival."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tickets: list[object] = []
        self._changed = threading.Condition()

    def enter(self) -> object:
        """Take a place behind all others."""
        with self._changed:
            ticket = object()
            self._tickets.append(ticket)
            return ticket

    def wait(self, ticket: object) -> int:
        """Wait a moment; 0 when admitted, else the place among those waiting, 1 being next."""
        with self._changed:
            place = self._place(ticket)
            if place > 0:
                self._changed.wait(_PLACE_POLL_S)
                place = self._place(ticket)
            return place

    def _place(self, ticket: object) -> int:
        return max(0, self._tickets.index(ticket) + 1 - self._capacity)

    def leave(self, ticket: object) -> None:
        """Give the place up."""
        with self._changed:
            self._tickets.remove(ticket)
            self._changed.notify_all()


class _Waiting(Generic[Job, Result]):
    """A piece of work in the line."""

    def __init__(self, kind: Hashable = None, owner: object = None, job: Job | None = None) -> None:
        self.kind = kind
        self.owner = owner
        self.job = job
        self.woken = threading.Event()
        self.done = False
        self.result: Result | None = None
        self.error: BaseException | None = None

    def joins(self, other: _Waiting[Job, Result]) -> bool:
        """Tell whether both can be computed at once; work without an owner is done alone."""
        return self.owner is not None and self.kind == other.kind


class Turns(Generic[Job, Result]):
    """One piece of work at a time, in the order asked for; small ones of the same kind together.

    Parameters
    ----------
    compute : callable
        Does several jobs of one kind at once; one result for each, in the same order.
    most : int
        Most jobs taken together.

    Notes
    -----
    Answers that are written at the same time ask for their next token at nearly the same moment, but not
    quite. Whoever comes first waits for those who took part last time: a quarter of what the last step
    took, at most 10 ms. A reader that takes longer is not waited for until it asks again.
    """

    def __init__(self, compute: Callable[[Sequence[Job]], Sequence[Result]], most: int = 8) -> None:
        self._compute = compute
        self._most = most
        self._line: deque[_Waiting[Job, Result]] = deque()
        self._held = False
        self._changed = threading.Condition()
        self._expected: set[object] = set()
        self._patience_s = 0.0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the turn for a piece of work of one's own."""
        self._enter(_Waiting())
        try:
            yield
        finally:
            self._leave()

    def together(self, kind: Hashable, owner: object, job: Job) -> Result:
        """Have a job done along with others of its kind.

        Parameters
        ----------
        kind : hashable
            Jobs of different kinds are never computed together.
        owner : object
            Who asks; asks for one job at a time, see :meth:`leave`.
        job : Job
            Goes to ``compute``.

        Raises
        ------
        BaseException
            Whatever ``compute`` raised, for all who took part.
        """
        mine: _Waiting[Job, Result] = _Waiting(kind, owner, job)
        self._enter(mine)
        if not mine.done:
            self._lead(mine)
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value]  # set where done is

    def leave(self, owner: object) -> None:
        """Tell that an owner will ask for nothing more, so that nobody waits for it."""
        with self._changed:
            self._expected.discard(owner)
            self._changed.notify_all()

    def others_write(self, owner: object) -> bool:
        """Tell whether somebody else is asking for tokens."""
        with self._changed:
            return bool(self._expected - {owner})

    def _enter(self, mine: _Waiting[Job, Result]) -> None:
        with self._changed:
            if not self._held:
                self._held = True
                return
            self._line.append(mine)
            self._changed.notify_all()
        mine.woken.wait()

    def _leave(self) -> None:
        with self._changed:
            if self._line:
                self._line.popleft().woken.set()
            else:
                self._held = False

    def _lead(self, mine: _Waiting[Job, Result]) -> None:
        taking_part = [mine, *self._gathered(mine)]
        began = time.monotonic()
        try:
            results = self._compute([waiting.job for waiting in taking_part])  # type: ignore[misc]  # all have one
            for waiting, result in zip(taking_part, results, strict=True):
                waiting.result = result
        except BaseException as error:  # noqa: BLE001  # raised for everybody who took part
            for waiting in taking_part:
                waiting.error = error
        finally:
            self._patience_s = min(_MOST_PATIENCE_S, _PATIENCE * (time.monotonic() - began))
            for waiting in taking_part:
                waiting.done = True
                waiting.woken.set()
            self._leave()

    def _gathered(self, mine: _Waiting[Job, Result]) -> list[_Waiting[Job, Result]]:
        """Take those out of the line who can take part, after a moment's patience."""
        until = time.monotonic() + self._patience_s
        with self._changed:
            while True:
                found = [waiting for waiting in self._line if waiting.joins(mine)]
                found = found[: self._most - 1]
                missing = self._expected - {mine.owner, *(waiting.owner for waiting in self._line)}
                left = until - time.monotonic()
                if not missing or len(found) == self._most - 1 or left <= 0:
                    break
                self._changed.wait(left)
            for waiting in found:
                self._line.remove(waiting)
            self._expected = {mine.owner, *(waiting.owner for waiting in found)}
            return found
