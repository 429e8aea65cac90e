"""Buckets: what a person does passes, what a program does waits."""

from __future__ import annotations

import threading

import pytest

from app.ui.rates import RATES, Rates


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("kind", RATES)
def test_a_burst_passes_then_it_fills_steadily(kind):
    """As many as the bucket holds at once, then one each time it has filled by one."""
    clock, rate = Clock(), RATES[kind]
    rates = Rates(clock)
    assert not any(rates.take(kind, "amal", "10.0.0.1") for _ in range(int(rate.burst)))
    wait = rates.take(kind, "amal", "10.0.0.1")
    assert wait == pytest.approx(1 / rate.per_second)
    assert rates.take(kind, "amal", "10.0.0.1") == pytest.approx(wait)  # asking early costs nothing more
    clock.now += wait * 1.001
    assert rates.take(kind, "amal", "10.0.0.1") == 0
    assert rates.take(kind, "amal", "10.0.0.1") > 0


def test_owners_and_addresses_count_apart():
    """One owner's haste delays no other; many owners of one address share ten times as much."""
    rates = Rates(Clock())
    while not rates.take("ask", "amal", "10.0.0.1"):
        pass
    assert rates.take("ask", "badr", "10.0.0.1") == 0
    count = 0
    while not rates.take("ask", f"visitor-{count // 30}", "10.0.0.1"):
        count += 1
    assert count == pytest.approx(9 * RATES["ask"].burst, abs=2)
    assert rates.take("ask", "amal", "10.0.0.2") > 0  # the owner's own bucket is still empty
    assert rates.take("ask", "visitor-9999", "10.0.0.2") == 0


def test_signing_in_counts_by_address_alone():
    """There is no owner yet, and a claimed one changes nothing."""
    rates = Rates(Clock())
    for number in range(int(RATES["sign_in"].burst)):
        assert rates.take("sign_in", f"user-{number}", "10.0.0.1") == 0
    assert rates.take("sign_in", "user-new", "10.0.0.1") > 0


def test_many_threads_get_no_more():
    """The bucket is emptied once."""
    rates, passed = Rates(Clock()), []

    def take():
        passed.extend(rates.take("ask", "amal", "10.0.0.1") == 0 for _ in range(50))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == RATES["ask"].burst


def test_memory_is_bounded(monkeypatch):
    """Buckets of many addresses push out the ones not used for longest."""
    monkeypatch.setattr("app.ui.rates._MOST_BUCKETS", 100)
    rates = Rates(Clock())
    for number in range(500):
        rates.take("begin", None, f"10.0.{number}.1")
    assert len(rates._buckets) == 100
