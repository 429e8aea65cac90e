"""Many viewers at once: slides outlive their eviction, tiles keep to a budget, stale requests are dropped."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.viewers.openers import made
from viewers.deepzoom import TileAddress, encode_tile
from viewers.errors import CorruptHeaderError, SlideBusyError, TileOutOfRangeError
from viewers.geometry import Region
from viewers.openers import open_slide
from viewers.slide_pool import SlidePool
from viewers.tiles import TileCache, TileService, Turnstile

SECONDS = 10.0


class Fake:
    """A slide that knows whether it is closed."""

    def __init__(self, name):
        self.name, self.closed = name, 0

    def close(self):
        self.closed += 1


class Opener:
    """Opens fakes and remembers them."""

    def __init__(self):
        self.opened = []
        self.fails = False

    def __call__(self, name):
        if self.fails:
            raise CorruptHeaderError(attribute="levels", found=0, expected=1)
        self.opened.append(Fake(name))
        return self.opened[-1]


def test_a_slide_is_opened_once_and_shared():
    """Readers of one slide share it; it stays open between them."""
    opener = Opener()
    pool = SlidePool(opener)
    with pool.borrow("a") as first, pool.borrow("a") as second:
        assert first is second
    with pool.borrow("a") as third:
        assert third is first
    assert (len(opener.opened), first.closed, len(pool)) == (1, 0, 1)
    pool.close()
    assert (first.closed, len(pool)) == (1, 0)


def test_eviction_waits_for_readers():
    """A slide that makes room stays open until its last reader is done, and is closed once."""
    opener = Opener()
    pool = SlidePool(opener, capacity=1)
    with pool.borrow("a") as first:
        with pool.borrow("b"):
            pass
        assert first.closed == 0
        with pool.borrow("a") as again:
            assert again is not first
    assert first.closed == 1
    assert [slide.closed for slide in opener.opened if slide.name == "b"] == [1]
    pool.close()
    assert [slide.closed for slide in opener.opened] == [1, 1, 1]


def test_the_least_recently_used_leaves():
    """What was used last stays."""
    opener = Opener()
    pool = SlidePool(opener, capacity=2)
    for name in "abac":
        with pool.borrow(name):
            pass
    assert {slide.name: slide.closed for slide in opener.opened} == {"a": 0, "b": 1, "c": 0}


def test_dropping_waits_for_readers():
    """A slide that is dropped, to be deleted, is closed when its readers are done."""
    opener = Opener()
    pool = SlidePool(opener)
    with pool.borrow("a") as slide:
        pool.drop("a")
        assert slide.closed == 0
    assert slide.closed == 1
    pool.drop("a")
    pool.drop("never there")


def test_failure_to_open_is_not_kept():
    """An error reaches the reader; the next one tries again."""
    opener = Opener()
    pool = SlidePool(opener)
    opener.fails = True
    for _ in range(3):
        with pytest.raises(CorruptHeaderError), pool.borrow("a"):
            pass
    opener.fails = False
    with pool.borrow("a") as slide:
        assert slide.name == "a"
    assert len(pool) == 1


def test_an_error_inside_returns_the_slide():
    """A reader that fails has returned its slide."""
    opener = Opener()
    pool = SlidePool(opener, capacity=1)
    with pytest.raises(RuntimeError), pool.borrow("a"):
        raise RuntimeError
    with pool.borrow("b"):
        pass
    assert opener.opened[0].closed == 1


def test_a_pool_holds_something():
    """A pool of none is a mistake."""
    with pytest.raises(ValueError, match="at least one"):
        SlidePool(Opener(), 0)


def test_many_threads_and_few_places():
    """Threads that read more slides than fit never see a closed one, and none stays open in the end."""
    opener = Opener()
    pool = SlidePool(opener, capacity=2)

    def read(number):
        with pool.borrow("abcde"[number % 5]) as slide:
            time.sleep(0.0005)
            return slide.closed

    with ThreadPoolExecutor(8) as threads:
        assert not any(threads.map(read, range(400)))
    pool.close()
    assert {slide.closed for slide in opener.opened} == {1}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=60), st.integers(0, 3000))
def test_the_cache_keeps_to_its_budget(puts, budget):
    """Bytes never exceed the budget; what is there is what was put last."""
    cache, last = TileCache(budget), {}
    for column, size in puts:
        address = TileAddress(1, column, 0)
        cache.put("a", address, bytes(size))
        if size + 256 <= budget:
            last[address] = size
        assert 0 <= cache.bytes <= budget
    for address, size in last.items():
        kept = cache.get("a", address)
        assert kept is None or len(kept) == size or size + 256 > budget
    cache.drop("a")
    assert cache.bytes == 0


def test_the_cache_forgets_what_was_not_used():
    """The least recently used goes first, and slides do not mix."""
    cache = TileCache(3 * (256 + 10))
    tiles = [TileAddress(1, column, 0) for column in range(4)]
    for address in tiles[:3]:
        cache.put("a", address, bytes(10))
    cache.get("a", tiles[0])
    cache.put("a", tiles[3], bytes(10))
    assert [cache.get("a", address) is not None for address in tiles] == [True, False, True, True]
    assert cache.get("b", tiles[0]) is None
    cache.drop("b")
    assert cache.get("a", tiles[0]) is not None


class Queue:
    """Threads at a turnstile, one after the other."""

    def __init__(self, turnstile):
        self.turnstile, self.order, self.dropped, self.threads = turnstile, [], [], []

    def join(self, viewer, name):
        """Start a thread that waits for its turn, and wait until it does."""
        before = self.turnstile.waiting, len(self.dropped)
        thread = threading.Thread(target=self._go, args=(viewer, name))
        thread.start()
        self.threads.append(thread)
        ends = time.monotonic() + SECONDS
        while (self.turnstile.waiting, len(self.dropped)) == before and time.monotonic() < ends:
            time.sleep(0.001)

    def _go(self, viewer, name):
        try:
            with self.turnstile.turn(viewer):
                self.order.append(name)
        except SlideBusyError:
            self.dropped.append(name)

    def finish(self):
        for thread in self.threads:
            thread.join(SECONDS)


def test_the_newest_request_goes_first():
    """Who moved on wants the tiles asked for last."""
    queue = Queue(Turnstile(running=1, waiting=10))
    with queue.turnstile.turn("x"):
        for name in "abc":
            queue.join("x", name)
    queue.finish()
    assert queue.order == ["c", "b", "a"]


def test_stale_requests_are_dropped():
    """Beyond the waiting room, the oldest request of the viewer with most of them goes."""
    queue = Queue(Turnstile(running=1, waiting=3))
    with queue.turnstile.turn("x"):
        queue.join("quiet", "q")
        for name in "abcd":
            queue.join("busy", name)
        assert queue.dropped == ["a", "b"]
    queue.finish()
    assert sorted(queue.order) == ["c", "d", "q"]
    assert queue.turnstile.waiting == 0


def test_viewers_take_turns():
    """One with many requests does not stop another."""
    queue = Queue(Turnstile(running=1, waiting=10))
    with queue.turnstile.turn("x"):
        for name in ("a1", "a2", "a3"):
            queue.join("a", name)
        queue.join("b", "b1")
    queue.finish()
    assert queue.order.index("b1") == 1


def test_no_more_than_so_many_at_once():
    """A few are let through, errors give their turn back, and all come through in the end."""
    turnstile, running, most = Turnstile(running=3, waiting=1000), [], []

    def go(number):
        with turnstile.turn(str(number % 5)):
            running.append(number)
            most.append(len(running))
            time.sleep(0.0005)
            running.remove(number)
            if number % 7 == 0:
                raise KeyError

    with ThreadPoolExecutor(20) as threads:
        for future in [threads.submit(go, number) for number in range(200)]:
            future.exception(SECONDS)
    assert len(most) == 200
    assert max(most) <= 3
    with turnstile.turn("after"):
        pass


@pytest.fixture
def service(tmp_path):
    """Return a service over two slides, of which one is open at a time."""
    for name in "ab":
        made.write_huge(tmp_path / name, 3000 if name == "a" else 2000, 2000, (1, 4))
    service = TileService(SlidePool(lambda name: open_slide(tmp_path / name), 1))
    yield service
    service.close()


def test_tiles_of_many_threads(service, tmp_path):
    """Eight viewers over more slides than are open get the bytes one alone gets."""
    addresses = [(name, TileAddress(level, 0, 0)) for name in "ab" for level in range(6, 12)]
    expected = {}
    for name, address in addresses:
        with open_slide(tmp_path / name) as slide:
            expected[name, address] = encode_tile(slide, service.pyramid(name), address)

    def get(number):
        name, address = addresses[number % len(addresses)]
        return service.tile(name, address, str(number % 8)) == expected[name, address]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(get, range(120)))
    assert service.cache.bytes > 0
    service.drop("a")
    assert service.cache.get("a", addresses[0][1]) is None


def test_a_kept_tile_is_not_drawn_again(service, monkeypatch):
    """The second request reads nothing."""
    address = TileAddress(9, 0, 0)
    first = service.tile("a", address)
    monkeypatch.setattr(service.pool, "borrow", None)
    assert service.tile("a", address) is first


def test_what_is_no_longer_wanted_is_not_drawn(service):
    """When its turn comes and nobody waits any more, nothing is drawn."""
    with pytest.raises(SlideBusyError):
        service.tile("a", TileAddress(9, 0, 0), still_wanted=lambda: False)
    assert service.cache.bytes == 0
    with pytest.raises(TileOutOfRangeError):
        service.tile("a", TileAddress(9, 99, 0))


def test_a_huge_slide(tmp_path):
    """A slide of 100,000 x 80,000 opens at once and is read anywhere, in little memory."""
    import tracemalloc

    path = made.write_huge(tmp_path / "huge.tif")
    open_slide(path).close()
    service = TileService(SlidePool(lambda _: open_slide(path)), TileCache(2**20))
    began = time.perf_counter()
    zoom = service.pyramid("huge")
    assert time.perf_counter() - began < 3  # 20 ms alone; a busy machine must not fail the test
    tracemalloc.start()
    try:
        chance = np.random.default_rng(3)

        def look(count):
            for _ in range(count):
                level = int(chance.integers(8, zoom.levels))
                columns, rows = zoom.tiles(level)
                address = TileAddress(level, int(chance.integers(columns)), int(chance.integers(rows)))
                assert service.tile("huge", address)[:2] == b"\xff\xd8"

        look(300)
        before = tracemalloc.get_traced_memory()[0]
        look(900)
        assert tracemalloc.get_traced_memory()[0] - before < 2**20
    finally:
        tracemalloc.stop()
    with service.pool.borrow("huge") as slide:
        assert (slide.size.width, slide.size.height) == (100_000, 80_000)
        assert slide.read_level(0, Region(99_900, 79_900, 100, 100)).shape == (100, 100, 3)
    service.close()
