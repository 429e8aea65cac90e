"""Keys and values of conversations already read, so that a follow-up question reads only what is new.

In: the sequence of *places* of a prompt (a token id, or for an image position its content hash and
offset). Out: the longest stored beginning of it. The cache knows nothing of models: a state is any
object with ``length``, ``bytes`` and ``copy(length)``.

Two pictures fill the same placeholder ids; that is why places carry the image's hash. The key of a
whole cache entry also holds the model's and the adapter's name.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.prompt import Rendered

__all__ = ["PrefixCache", "ReusableState", "places_of"]


class ReusableState(Protocol):
    """What a backend keeps of a prompt it has read."""

    @property
    def length(self) -> int:
        """Places read."""
        ...

    @property
    def bytes(self) -> int:
        """Memory held, in bytes."""
        ...

    def copy(self, length: int) -> ReusableState:
        """Return an independent state of the first ``length`` places."""
        ...


State = TypeVar("State", bound=ReusableState)


def places_of(rendered: Rendered) -> NDArray[np.int64]:
    """Identity of every prompt position: the token id, or a negative number from image hash and offset.

    Returns
    -------
    ndarray of int64, shape (tokens,)
        Equal numbers mean equal keys and values, given equal numbers before them. The 60 bits taken
        from a SHA-256 make a collision within one cache (some thousand images) less likely than 1e-12.
    """
    places = np.array(rendered.ids, np.int64)
    for slot in rendered.image_slots:
        # read in tiles or whole, the same image has other features behind other places
        base = int(slot.digest[:15], 16) ^ (int(slot.coarse) << 59)
        offsets = np.arange(slot.length, dtype=np.int64)
        places[slot.start : slot.start + slot.length] = -1 - ((base + offsets) & ((1 << 60) - 1))
    return places


def _common_prefix(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


class PrefixCache(Generic[State]):
    """States of earlier prompts under a byte budget; the least recently used leaves first.

    Parameters
    ----------
    budget_bytes : int
        Most memory held. A state larger than this is not kept.

    Notes
    -----
    :meth:`take` hands out a state for one run alone: a whole entry is moved out, a part of an entry is
    copied, so that an edited turn or a fork never changes what another conversation holds.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self._entries: OrderedDict[int, tuple[str, NDArray[np.int64], State]] = OrderedDict()
        self._next = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Memory held now, in bytes."""
        return sum(state.bytes for _, _, state in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, key: str, places: NDArray[np.int64]) -> State | None:
        """Take out a state of the longest stored beginning of ``places``.

        At least one place is always left to read, because the logits of the last one are needed.

        Returns
        -------
        state or None
            With ``1 <= state.length < len(places)``; ``None`` if no beginning is stored.
        """
        with self._lock:
            best, found = 0, -1
            for number, (entry_key, stored, _) in self._entries.items():
                if entry_key == key:
                    shared = min(_common_prefix(stored, places), len(places) - 1)
                    if shared > best:
                        best, found = shared, number
            if found < 0:
                return None
            _, stored, state = self._entries[found]
            if best == len(stored):
                del self._entries[found]
                return state
            self._entries.move_to_end(found)
            return state.copy(best)  # type: ignore[return-value]  # a state copies to its own type

    def put(self, key: str, places: NDArray[np.int64], state: State) -> None:
        """Store a state of exactly ``places``; older entries leave until the budget holds.

        Raises
        ------
        ValueError
            If the state has read another number of places.
        """
        if state.length != len(places):
            raise ValueError(f"the state has read {state.length} places, not {len(places)}")
        with self._lock:
            # an entry that is a beginning of this one can serve nothing this one cannot
            covered = [
                number
                for number, (entry_key, stored, _) in self._entries.items()
                if entry_key == key and _common_prefix(stored, places) == len(stored)
            ]
            for number in covered:
                del self._entries[number]
            if state.bytes <= self.budget_bytes:
                self._entries[self._next] = (key, places.copy(), state)
                self._next += 1
            while self.bytes > self.budget_bytes:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
