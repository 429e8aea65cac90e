"""The fuzz driver finds what it looks for, and a few inputs of each target are fed with every test run."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from tests.fuzz import drive, slides  # noqa: F401 - registers its targets
from tests.fuzz.drive import fuzz
from tests.fuzz.targets import TARGETS, Target
from viewers.errors import NotAnImageError

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="processes are forked"),
    # Damaged headers make pydicom warn where only its own writer asks for values.
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

FIRST = 1_000_000
"""Not among those of ``make fuzz``."""


def misbehave(raw, _folder):
    number = int(raw)
    if number == 3:
        raise ZeroDivisionError
    if number == 5:
        signal.raise_signal(signal.SIGSEGV)
    if number == 7:
        time.sleep(60)
    if number == 8:
        raise NotAnImageError(found="?")


class Numbered(Target):
    """Its inputs are their own numbers."""

    def made(self, number):
        """Return the number."""
        return str(number).encode()


def test_mistakes_crashes_and_hangs_are_found(monkeypatch):
    """Each is reported with its number, and the inputs after it are fed; refusals are no findings."""
    monkeypatch.setattr(drive, "HANG_S", 1.5)
    monkeypatch.setitem(TARGETS, "bad", Numbered("bad", lambda: (b"",), misbehave))
    found = {item.number: item.what for item in fuzz("bad", range(10))}
    assert sorted(found) == [3, 5, 7]
    assert "ZeroDivisionError" in found[3]
    assert str(-signal.SIGSEGV) in found[5]
    assert "1.5 s" in found[7]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_few_inputs_of_each_target(name):
    """Forty damaged files are opened or refused; they are the same on every machine."""
    target = TARGETS[name]
    assert target.made(FIRST) == target.made(FIRST)
    assert target.made(FIRST) != target.made(FIRST + 1)
    assert fuzz(name, range(FIRST, FIRST + 40)) == []


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_open_undamaged(name, tmp_path):
    """Most seeds of a target are taken: damage would not get far into files that are refused at once."""
    from viewers.errors import ViewerError

    taken = 0
    seeds = TARGETS[name].seeds()
    for number, seed in enumerate(seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            TARGETS[name].run(seed, folder)
        except ViewerError:
            continue
        taken += 1
    assert taken >= len(seeds) / 2
