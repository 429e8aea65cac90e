"""How far a load is: stages, the pace of the weights, earlier loads as forecast, a damaged file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.loading import LoadMeter, LoadTimes
from engine.messages import Loading

if TYPE_CHECKING:
    from pathlib import Path

EARLIER = {"starting": 1.0, "libraries": 9.0, "weights": 30.0, "finishing": 10.0}


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_promised_before_anything_was_measured(clock: Clock) -> None:
    """The first load on a machine has stages, and no seconds until the weights show a pace."""
    meter = LoadMeter(clock=clock)
    assert meter.state() == Loading("starting")
    clock.now += 8
    meter.tell("libraries")
    assert meter.state() == Loading("libraries")
    meter.tell("weights", 0.0)
    assert meter.state() == Loading("weights", 0.0)


def test_the_weights_pace_is_the_estimate(clock: Clock) -> None:
    """A quarter in ten seconds leaves thirty; what went before counts as done."""
    meter = LoadMeter(clock=clock)
    clock.now += 20
    meter.tell("weights", 0.0)
    clock.now += 10
    meter.tell("weights", 0.25)

    state = meter.state()

    assert (state.stage, state.seconds_left) == ("weights", pytest.approx(30.0))
    assert state.fraction == pytest.approx(30 / 60)


def test_the_estimate_falls_between_two_reports(clock: Clock) -> None:
    """What was not reported since is no sign that it takes longer; it never becomes negative."""
    meter = LoadMeter(clock=clock)
    meter.tell("weights", 0.0)
    clock.now += 10
    meter.tell("weights", 0.25)
    for passed, left in ((9, 21.0), (21, 0.0), (50, 0.0)):
        clock.now += passed
        assert meter.state().seconds_left == pytest.approx(left)


def test_an_earlier_load_is_the_forecast_until_then(clock: Clock) -> None:
    """From the first moment on; the pace measured now replaces the forecast of the weights alone."""
    meter = LoadMeter(EARLIER, clock)
    assert meter.state() == Loading("starting", 0.0, 50.0)
    clock.now += 1
    meter.tell("libraries")
    clock.now += 4
    assert meter.state() == Loading("libraries", pytest.approx(0.1), pytest.approx(45.0))
    meter.tell("weights", 0.0)
    clock.now += 2
    meter.tell("weights", 0.5)
    assert meter.state().seconds_left == pytest.approx(2 + 10)


def test_a_stage_that_takes_longer_than_ever_promises_nothing_negative(clock: Clock) -> None:
    """The rest is then what the later stages took."""
    meter = LoadMeter(EARLIER, clock)
    clock.now += 500
    state = meter.state()
    assert state.seconds_left == pytest.approx(49.0)
    assert state.fraction == pytest.approx(500 / 549)


def test_a_completed_load_tells_its_stages(clock: Clock) -> None:
    """Also a stage without a share, and one of no length."""
    meter = LoadMeter(clock=clock)
    for stage, seconds in (("libraries", 3.0), ("weights", 4.0), ("finishing", 0.0)):
        meter.tell(stage)
        clock.now += seconds
    assert meter.end() == {"starting": 0.0, "libraries": 3.0, "weights": 4.0, "finishing": 0.0}


def test_times_are_found_again_after_a_restart(tmp_path: Path) -> None:
    """One model's times are not another's, and old models are forgotten."""
    file = tmp_path / "new folder" / "times.json"
    LoadTimes(file).keep("a", EARLIER)
    assert LoadTimes(file).of("a") == EARLIER
    assert LoadTimes(file).of("b") == {}

    many = LoadTimes(file)
    for number in range(40):
        many.keep(str(number), EARLIER)
    assert LoadTimes(file).of("a") == {}
    assert LoadTimes(file).of("39") == EARLIER


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', '{"a": {"weights": "long"}}', "\0"])
def test_a_damaged_file_costs_the_forecast_only(tmp_path: Path, content: str) -> None:
    """It is replaced by the next load."""
    file = tmp_path / "times.json"
    file.write_text(content, encoding="utf-8")
    times = LoadTimes(file)
    assert times.of("a") == {}
    times.keep("a", EARLIER)
    assert LoadTimes(file).of("a") == EARLIER


def test_a_disk_that_takes_nothing_costs_the_forecast_only(tmp_path: Path) -> None:
    """The times are still known to this process."""
    (tmp_path / "file").touch()
    times = LoadTimes(tmp_path / "file" / "times.json")
    times.keep("a", EARLIER)
    assert times.of("a") == EARLIER
