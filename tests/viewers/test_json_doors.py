"""Whatever JSON arrives at a door: it is read, or refused with an error of ours; never anything else."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viewers.errors import ViewerError
from viewers.geometry import Region
from viewers.measure import Measurement, Quantity, Shape
from viewers.montage import Montage
from viewers.planes import PlaneView
from viewers.rules import Rule
from viewers.shown import shown_from_json
from viewers.view import View
from viewers.window import Window

VIEW = View(
    "d",
    3,
    Window(40, 400),
    None,
    inverted=True,
    region=Region(0, 1, 2, 3),
    rotation=90,
    flipped=True,
    plane=PlaneView("axial", 1.5, "mip", 20.0),
    rule=Rule(),
)
MEASURED = Measurement(
    Shape("length", ((0.0, 1.0), (2.0, 3.0))),
    "d",
    0,
    PlaneView("axial", 1.5),
    (Quantity("length", 1.0, "mm"),),
    None,
    (1.0, 2.0, 3.0),
)
DOORS = {
    "view": (shown_from_json, VIEW.to_json()),
    "montage": (shown_from_json, Montage((VIEW, VIEW), 2, ("1", "2")).to_json()),
    "shape": (Shape.from_json, MEASURED.shape.to_json()),
    "measurement": (Measurement.from_json, MEASURED.to_json()),
}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["axial", "mip", "LINEAR", "length", 10**400, 1e308, -1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, inner in entries:
        yield from places(inner, (*path, key))


def changed(value, path, new):
    """Return the value with another one at a place."""
    if not path:
        return new
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return made


@pytest.mark.parametrize("name", DOORS)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_value_at_any_place(name, data):
    """Good JSON with anything at all in one place is read and written alike, or refused."""
    door, good = DOORS[name]
    value = changed(good, data.draw(st.sampled_from(list(places(good)))), data.draw(anything))
    try:
        read = door(value)
    except ViewerError:
        return
    assert door(read.to_json()) == read


@pytest.mark.parametrize("name", DOORS)
def test_what_is_written_is_read(name):
    """Each example survives its own door."""
    door, good = DOORS[name]
    assert door(good).to_json() == good
