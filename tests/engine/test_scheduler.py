"""Turns: in the order asked, one at a time, jobs of a kind together, and nobody waited for in vain."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine.scheduler import Gate, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Recorder:
    """Doubles numbers and remembers what was computed together; ``hold`` keeps the first batch back."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.batches.append(list(jobs))
        assert self.hold.wait(10)
        if -1 in jobs:
            raise RuntimeError("boom")
        return [2 * job for job in jobs]


def in_threads(*calls: Callable[[], object]) -> list[threading.Thread]:
    """Start calls one after the other, each once the one before has had time to stand in line."""
    threads = []
    for call in calls:
        threads.append(threading.Thread(target=call))
        threads[-1].start()
        time.sleep(0.03)
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_jobs_that_wait_are_done_together_and_each_gets_its_own_result() -> None:
    """While one is computed four more come: they make one batch, of one kind, at most as large as allowed."""
    work = Recorder()
    turns: Turns[int, int] = Turns(work, most=3)
    results: dict[int, int] = {}

    def ask(number: int, kind: str = "a") -> Callable[[], None]:
        return lambda: results.__setitem__(number, turns.together(kind, object(), number))

    work.hold.clear()
    threads = in_threads(ask(1), ask(2), ask(3, "b"), ask(4), ask(5), ask(6))
    work.hold.set()
    join(threads)

    assert results == {number: 2 * number for number in range(1, 7)}
    assert work.batches[:3] == [[1], [2, 4, 5], [3]]
    assert sorted(job for batch in work.batches for job in batch) == [1, 2, 3, 4, 5, 6]


def test_an_error_reaches_all_who_took_part_and_nobody_else() -> None:
    """Two fail with the one that was computed with them; the turn goes on."""
    work = Recorder()
    turns: Turns[int, int] = Turns(work)
    failed: list[int] = []

    def ask(number: int) -> Callable[[], None]:
        def call() -> None:
            try:
                turns.together("a", object(), number)
            except RuntimeError:
                failed.append(number)

        return call

    work.hold.clear()
    threads = in_threads(ask(1), ask(-1), ask(3))
    work.hold.set()
    join(threads)

    assert sorted(failed) == [-1, 3]
    assert turns.together("a", object(), 4) == 8


def test_work_alone_is_never_beside_other_work() -> None:
    """A piece of work of one's own waits for its turn, in the order of asking."""
    work = Recorder()
    turns: Turns[int, int] = Turns(work)
    order: list[str] = []

    def alone() -> None:
        with turns.alone():
            order.append("alone")
            assert len(work.batches) == 1
            time.sleep(0.05)
            assert len(work.batches) == 1

    def later() -> None:
        turns.together("a", object(), 2)
        order.append("later")

    work.hold.clear()
    threads = in_threads(lambda: turns.together("a", object(), 1), alone, later)
    work.hold.set()
    join(threads)

    assert order == ["alone", "later"]


def test_those_who_wrote_together_are_waited_for_a_moment() -> None:
    """Two who come back a little apart are computed together again; after leaving, nobody waits."""
    work = Recorder()
    turns: Turns[int, int] = Turns(work)
    one, two = object(), object()
    work.hold.clear()
    threads = in_threads(lambda: turns.together("a", object(), 0))
    threads += in_threads(lambda: turns.together("a", one, 1), lambda: turns.together("a", two, 2))
    work.hold.set()
    join(threads)
    assert work.batches == [[0], [1, 2]]

    turns._patience_s = 5.0
    threads = in_threads(lambda: turns.together("a", one, 1), lambda: turns.together("a", two, 2))
    join(threads)
    assert work.batches[2:] == [[1, 2]]
    assert turns.others_write(one)

    turns._patience_s = 5.0
    began = time.monotonic()
    threads = in_threads(lambda: turns.together("a", one, 1), lambda: turns.leave(two))
    join(threads)
    assert time.monotonic() - began < 4
    assert work.batches[3:] == [[1]]
    assert not turns.others_write(one)


def test_a_slow_reader_costs_a_moment_once() -> None:
    """Who does not come back within the moment is not waited for again."""
    work = Recorder()
    turns: Turns[int, int] = Turns(work)
    one = object()
    turns._expected = {one, object()}
    turns._patience_s = 0.2

    began = time.monotonic()
    turns.together("a", one, 1)
    waited = time.monotonic() - began
    turns._patience_s = 5.0
    began = time.monotonic()
    turns.together("a", one, 1)

    assert waited >= 0.2
    assert time.monotonic() - began < 4


def test_the_gate_tells_places_in_order_of_arrival() -> None:
    """One inside, two waiting; who leaves the line moves the others up."""
    gate = Gate(1)
    first, second, third = gate.enter(), gate.enter(), gate.enter()

    assert [gate.wait(first), gate.wait(second), gate.wait(third)] == [0, 1, 2]
    gate.leave(second)
    assert gate.wait(third) == 1
    gate.leave(first)
    assert gate.wait(third) == 0


def test_an_unknown_ticket_is_an_error() -> None:
    """A ticket given back twice does not go unnoticed."""
    gate = Gate(1)
    ticket = gate.enter()
    gate.leave(ticket)

    with pytest.raises(ValueError, match="not in list"):
        gate.leave(ticket)
