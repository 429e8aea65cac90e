"""Several views as one picture: the views themselves, in their cells, with their numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.viewers.test_dicom import RAMP, grey_dataset
from tests.viewers.test_planes import stored  # noqa: F401 - a fixture
from viewers import montage as montage_module
from viewers.errors import InvalidViewError, ViewMismatchError
from viewers.intake import open_image
from viewers.montage import MOST_VIEWS, Montage
from viewers.planes import PlaneView
from viewers.proportions import resized
from viewers.shown import draw, shown_from_json
from viewers.stamp import CHARACTERS, stamp
from viewers.view import View, default_view, render

GOLDEN = "9b9ca04f3ba0b5b85c4e39d34e908125943768e5e0ea52a30ae2ca8534091afe"


@pytest.fixture
def slices(stored):  # noqa: F811 - the fixture
    """Return a stored series and the default view of each slice."""
    image = stored(shape=(64, 48), spacing=(1.0, 1.0), WindowCenter="500", WindowWidth="900")
    return image, [default_view(image, number) for number in range(6)]


def opener(*images):
    """Return what opens one of these by digest."""
    return {image.digest: image for image in images}.__getitem__


def test_cells_hold_the_views(slices):
    """Without labels each cell is the view as it is rendered alone; grey lies between."""
    image, views = slices
    drawn = draw(Montage(tuple(views[:5]), 3, ("",) * 5), opener(image))
    assert drawn.shape == (2 * 64 + 4, 3 * 48 + 8, 3)
    for number, view in enumerate(views[:5]):
        top, left = number // 3 * 68, number % 3 * 52
        assert np.array_equal(drawn[top : top + 64, left : left + 48], render(image, view))
    assert not drawn[68:, 104:].any()
    assert (drawn[64:68] == 96).all()


def test_golden_montage(slices):
    """The bytes of a montage with numbers are what they always were."""
    image, views = slices
    made = Montage(tuple(views[1:5]), 2, ("2", "3", "4", "5"))
    drawn = draw(made, opener(image))
    assert np.array_equal(drawn, draw(made, opener(image)))
    digest = hashlib.sha256(drawn.tobytes()).hexdigest()
    assert (drawn.shape, digest) == ((132, 100, 3), GOLDEN)


def test_the_number_is_drawn():
    """A label is white on black, in the corner only, and told apart from another."""
    picture = np.full((40, 60, 3), 77, np.uint8)
    stamp(picture, "17", 2)
    box = picture[: 2 * 9, : 2 * 13]
    assert set(np.unique(box)) == {0, 255}
    assert (picture[18:] == 77).all()
    assert (picture[:, 26:] == 77).all()
    assert (box[::2, ::2, 0] // 255)[1:4, 1:6].tolist() == [[0, 0, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 0, 0]]
    drawn = set()
    for character in CHARACTERS:
        cell = np.zeros((9, 7, 3), np.uint8)
        stamp(cell, character, 1)
        drawn.add(cell.tobytes())
    assert len(drawn) == len(CHARACTERS)


def test_prior_and_current(slices, write):
    """Views of two images of different size stand side by side, lettered, each as large as it fits."""
    image, views = slices
    other = open_image(write(grey_dataset(RAMP)))
    made = Montage.side_by_side(default_view(other), views[0])
    drawn = draw(made, opener(image, other))
    assert made.digests == (other.digest, image.digest)
    assert made.labels == ("A", "B")
    rows, columns = render(other, default_view(other)).shape[:2]
    width, height = max(48, columns), max(64, rows)
    assert drawn.shape == (height, 2 * width + 4, 3)
    with pytest.raises(ViewMismatchError):
        draw(made, lambda _digest: image)


def test_a_montage_of_planes(slices):
    """Anything that is shown can be a part: planes, turned views."""
    image, views = slices
    plane = default_view(image, 0, PlaneView("coronal", 0.0))
    turned = dataclasses.replace(views[0], rotation=90)
    made = Montage((plane, turned), 1, ("1", "2"))
    again = shown_from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert again.digests == (image.digest,)
    assert draw(again, opener(image)).shape[2] == 3


def test_the_whole_is_bounded(slices, monkeypatch):
    """Cells shrink when the whole would be larger than allowed; proportions stay."""
    image, views = slices
    monkeypatch.setattr(montage_module, "MOST_PIXELS", 4 * 16 * 12)
    drawn = draw(Montage(tuple(views[:4]), 2, ("",) * 4), opener(image))
    assert drawn.shape == (2 * 16 + 4, 2 * 12 + 4, 3)
    cell = drawn[:16, :12].astype(int)
    mean = render(image, views[0]).reshape(16, 4, 12, 4, 3).mean(axis=(1, 3))
    assert np.abs(cell - mean).max() <= 1


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1)
)
@settings(deadline=None)
def test_resizing(width, height, new_width, new_height, seed):
    """The same size is the same picture; a plain one stays plain; the mean stays when it shrinks evenly."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(resized(pixels, width, height), pixels)
    plain = np.full((height, width, 3), 131, np.uint8)
    assert (resized(plain, new_width, new_height) == 131).all()
    made = resized(pixels, new_width, new_height)
    assert made.shape == (new_height, new_width, 3)
    assert made.min() >= pixels.min()
    assert made.max() <= pixels.max()
    blocks = np.repeat(np.repeat(pixels, 3, axis=0), 3, axis=1)
    assert np.array_equal(resized(blocks, width, height), pixels)


def test_shrinking_takes_the_mean_of_the_area():
    """Three pixels to two: each takes one whole pixel and half of the middle one."""
    line = np.array([[0, 90, 240]], np.uint8)
    assert resized(line, 2, 1).tolist() == [[30, 190]]
    assert resized(line.T, 1, 2).tolist() == [[30], [190]]


VIEW = View("d").to_json()
GOOD = {"montage": [VIEW, VIEW], "columns": 2, "labels": ["1", ""]}


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"montage": VIEW},
        {"montage": []},
        {"montage": [VIEW, 5]},
        {"montage": [VIEW, VIEW | {"frame": "x"}]},
        {"montage": [GOOD, VIEW]},
        {"montage": [VIEW] * (MOST_VIEWS + 1), "labels": [""] * (MOST_VIEWS + 1)},
        {"columns": 0},
        {"columns": 3},
        {"columns": True},
        {"labels": ["1"]},
        {"labels": ["1", 2]},
        {"labels": ["1", "x"]},
        {"labels": ["1", "م"]},
        {"labels": ["1", "1" * 17]},
    ],
)
def test_json_is_strict(change):
    """Unknown, missing, wrongly typed and impossible entries are refused, and montages of montages."""
    assert shown_from_json(GOOD).columns == 2
    with pytest.raises(InvalidViewError):
        shown_from_json(GOOD | change)
