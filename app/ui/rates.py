"""How much one owner or one address may ask in a time: a bucket of requests that fills again steadily."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RATES", "Kind", "Rate", "Rates"]

Kind = Literal["sign_in", "begin", "upload", "ask", "look"]
_MOST_BUCKETS: Final = 20_000
"""Buckets remembered; one that is forgotten was not used for long, and is full again."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests at once, and how many more become possible a second."""

    burst: float
    per_second: float


RATES: Final[dict[Kind, Rate]] = {
    # far above what a person does, far below what guessing or filling a disk needs
    "sign_in": Rate(60, 0.5),
    "begin": Rate(60, 1),
    "upload": Rate(2000, 10),  # a study may come as one request a file
    "ask": Rate(60, 2),
    "look": Rate(4000, 200),  # a slide asks for some hundred tiles at once
}
_ADDRESS_FACTOR: Final = 10
"""A ward or a proxy is one address for many people."""


class Rates:
    """Buckets of all owners and addresses; safe to use from several threads at once.

    Parameters
    ----------
    clock : callable
        Gives seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, kind: Kind, owner: str | None, address: str) -> float:
        """Count a request; returns 0, or the seconds after which the next one is let through.

        A sign-in and a first visit are counted by address alone: there is no owner yet.
        """
        rate = RATES[kind]
        if kind in ("sign_in", "begin") or owner is None:
            return self._take(kind, f"address {address}", rate)
        shared = Rate(rate.burst * _ADDRESS_FACTOR, rate.per_second * _ADDRESS_FACTOR)
        return self._take(kind, owner, rate) or self._take(kind, f"address {address}", shared)

    def _take(self, kind: str, key: str, rate: Rate) -> float:
        now = self._clock()
        with self._lock:
            left, since = self._buckets.pop((kind, key), (rate.burst, now))
            left = min(rate.burst, left + (now - since) * rate.per_second)
            self._buckets[kind, key] = (left - 1 if left >= 1 else left, now)
            while len(self._buckets) > _MOST_BUCKETS:
                self._buckets.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / rate.per_second
