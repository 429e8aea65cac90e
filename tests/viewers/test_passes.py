"""Passes through the patient: what is stated decides where it goes through all of it, else ranks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viewers.passes import Placed, told_apart


def images(rows, *, places_first=False):
    """Return images of (place, pass) with what they state, in the order they were taken or place by place."""
    ordered = sorted(rows, key=lambda row: row[:2]) if places_first else rows
    return [
        (part, Placed(float(place), more.get("stated", ((),)), more.get("timed", ((),)), (number,)))
        for number, (place, part, more) in enumerate(ordered)
    ]


def parts_of(made, seed=0):
    """Return which passes of the scan each pass holds, with how many images; images come in any order."""
    shuffled = random.Random(seed).sample(made, len(made))
    told = told_apart([one for _, one in shuffled])
    assert sorted(n for one in told for n in one) == list(range(len(made)))
    return [(sorted({shuffled[n][0] for n in one}), len(one)) for one in told]


def scan(places, parts, *, gaps=(), **more):
    """Return rows of passes over places; ``more`` are functions of place and pass."""
    return [
        (place, part, {name: value(place, part) for name, value in more.items()})
        for part in range(parts)
        for place in places
        if (place, part) not in gaps
    ]


@pytest.mark.parametrize("places_first", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_jittered_times_are_ranked(places_first, seed):
    """Times that differ between places make as many passes as there are images at a place."""
    rows = scan(range(10), 20, timed=lambda z, t: ((t * (800 + 7 * (z % 4)) / 20,),))
    made = parts_of(images(rows, places_first=places_first), seed)
    assert made == [([part], 10) for part in range(20)]


def test_times_that_most_places_share_are_ranked_too():
    """One breath-hold of another heart rate does not tear its place out of the passes."""
    rows = scan(range(10), 20, timed=lambda z, t: ((t * (40.0 if z else 41.0),),))
    assert parts_of(images(rows, places_first=True)) == [([part], 10) for part in range(20)]


@pytest.mark.parametrize("stated", [True, False])
def test_a_hole_does_not_mix_passes(stated):
    """A slice that is missing at one time leaves a hole there, stated or told by the order alone."""
    more = {"stated": lambda _, t: ((float(t),),)} if stated else {}
    made = parts_of(images(scan(range(5), 3, gaps={(2, 0)}, **more)))
    assert made == [([0], 4), ([1], 5), ([2], 5)]


def test_acquisitions_that_overlap_are_told_apart():
    """Two scans with another range each are two passes, not one of everything and one of the overlap."""
    rows = [(z, 0, {"stated": ((1.0,),)}) for z in range(11)]
    rows += [(z, 1, {"stated": ((2.0,),)}) for z in range(6, 17)]
    assert parts_of(images(rows)) == [([0], 11), ([1], 11)]


def test_a_number_for_each_table_position_is_no_pass():
    """Step and shoot, twice: acquisitions of one place each are not what tells the two scans apart."""
    rows = scan(range(20), 2, stated=lambda z, t: ((20.0 * t + z,),))
    assert parts_of(images(rows)) == [([0], 20), ([1], 20)]


def test_a_scan_and_a_place_that_was_watched():
    """Images taken again and again at one place are one pass beside the scan, in their order."""
    rows = [(z, 0, {"stated": ((1.0,),)}) for z in range(20)]
    rows += [(7, 1, {"stated": ((2.0 + t,),)}) for t in range(12)]
    assert parts_of(images(rows)) == [([0], 20), ([1], 12)]


def test_values_within_values():
    """Echoes of several times: both are told apart; directions of one b-value by their order."""
    rows = scan(range(6), 6, stated=lambda _, t: ((float(t % 2),), (float(t // 2),)))
    assert parts_of(images(rows)) == [([part], 6) for part in (0, 2, 4, 1, 3, 5)]
    rows = scan(range(6), 4, stated=lambda _, t: ((1000.0 * (t > 0),),))
    assert parts_of(images(rows, places_first=True)) == [([part], 6) for part in range(4)]


def test_what_nothing_tells_apart_is_not_mixed():
    """Place by place with one image missing somewhere: all stay together, their places doubled."""
    rows = scan(range(6), 3, gaps={(2, 0)})
    assert parts_of(images(rows, places_first=True)) == [([0, 1, 2], 17)]


def test_one_place_is_in_the_order_of_time():
    """By the time that all images have and none share; by number when times are doubled."""
    made = [Placed(1.0, (), ((9.0 - n,),), (n,)) for n in range(4)]
    assert told_apart(made) == [[3, 2, 1, 0]]
    made = [Placed(1.0, (), ((float(n % 2),),), (n,)) for n in range(4)]
    assert told_apart(made) == [[0, 1, 2, 3]]
    assert told_apart([]) == []


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), max_size=40))
def test_every_image_is_in_one_pass(rows):
    """Whatever is stated, no image is lost or doubled, and passes are in the order of places."""
    made = [
        Placed(float(place), ((float(a),), ()), ((float(b),) if b else (),), (c, n))
        for n, (place, a, b, c) in enumerate(rows)
    ]
    told = told_apart(made)
    assert sorted(n for one in told for n in one) == list(range(len(rows)))
    for one in told:
        places = [made[n].place for n in one]
        assert places == sorted(places)
