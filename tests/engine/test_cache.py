"""The prefix cache: longest beginning, budget, forks, and pictures behind equal placeholders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cache import PrefixCache, places_of
from engine.prompt import ImageSlot, Rendered


@dataclass
class FakeState:
    """Holds the places it has read, ten bytes each."""

    read: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.read)

    @property
    def bytes(self) -> int:
        return 10 * len(self.read)

    def copy(self, length: int) -> FakeState:
        return FakeState(self.read[:length])


def put(cache: PrefixCache[FakeState], *places: int, key: str = "model") -> None:
    cache.put(key, np.array(places, np.int64), FakeState(places))


def take(cache: PrefixCache[FakeState], *places: int, key: str = "model") -> tuple[int, ...] | None:
    state = cache.take(key, np.array(places, np.int64))
    return state.read if state else None


def test_the_longest_beginning_is_found() -> None:
    """Of several stored conversations the one that shares most is used."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)
    put(cache, 1, 2, 9, 9)
    put(cache, 1, 2, 3, 9)

    assert take(cache, 1, 2, 3, 4, 5) == (1, 2, 3)


def test_one_place_is_always_left_to_read() -> None:
    """The very same prompt reuses all but its last place."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)
    put(cache, 1, 2, 3)

    assert take(cache, 1, 2, 3) == (1, 2)


def test_a_fork_leaves_the_original_untouched() -> None:
    """Taking a part copies; the whole is still there for the other branch."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)
    put(cache, 1, 2, 3, 4)

    assert take(cache, 1, 2, 7) == (1, 2)
    assert take(cache, 1, 2, 3, 4, 5) == (1, 2, 3, 4)


def test_a_whole_entry_is_handed_out_once() -> None:
    """Two runs never share one state."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)
    put(cache, 1, 2)

    assert take(cache, 1, 2, 3) == (1, 2)
    assert take(cache, 1, 2, 3) is None


def test_another_model_or_adapter_shares_nothing() -> None:
    """The key is part of the identity."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)
    put(cache, 1, 2, 3, key="model+adapter")

    assert take(cache, 1, 2, 3, 4, key="model") is None


def test_a_state_of_another_length_is_refused() -> None:
    """Places and state must agree."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)

    with pytest.raises(ValueError, match="has read 2 places, not 3"):
        cache.put("model", np.array([1, 2, 3]), FakeState((1, 2)))


def test_the_longer_conversation_replaces_its_own_beginning() -> None:
    """A conversation that grows holds one entry, not one a turn."""
    cache: PrefixCache[FakeState] = PrefixCache(10_000)
    for length in range(1, 20):
        put(cache, *range(length))

    assert len(cache) == 1


@given(
    runs=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=30),
    budget=st.integers(0, 200),
)
def test_bytes_never_over_budget_and_what_is_taken_is_a_beginning(runs: list[list[int]], budget: int) -> None:
    """Over random use, the budget holds and every state is a true, shorter beginning."""
    cache: PrefixCache[FakeState] = PrefixCache(budget)
    for places in runs:
        found = take(cache, *places)
        assert found is None or (list(found) == places[: len(found)] and 0 < len(found) < len(places))
        put(cache, *places)
        assert cache.bytes <= budget


def test_the_least_recently_used_leaves_first() -> None:
    """Touching an entry keeps it, the other one goes."""
    cache: PrefixCache[FakeState] = PrefixCache(60)
    put(cache, 1, 1, 1)
    put(cache, 2, 2, 2)
    take(cache, 1, 1, 9)
    put(cache, 3, 3, 3)

    assert take(cache, 2, 2, 2) is None
    assert take(cache, 1, 1, 1) == (1, 1)


def test_equal_placeholders_with_other_pictures_differ() -> None:
    """Places tell two images apart, and an image at another offset from itself."""

    def places(digest: str, start: int = 1) -> list[int]:
        ids = tuple([5] * start + [7, 7, 7] + [6])
        return list(places_of(Rendered(ids, (ImageSlot(start, 3, digest),), (False,) * len(ids))))

    a, b = places("a" * 64), places("b" * 64)
    assert a[0] == b[0] == 5
    assert a[-1] == b[-1] == 6
    assert set(a[1:4]).isdisjoint(b[1:4])
    assert len(set(a[1:4])) == 3
    assert places("a" * 64, start=2)[2:5] == a[1:4]
