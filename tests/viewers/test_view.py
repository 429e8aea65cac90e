"""What is on screen as a value, and the one renderer."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from tests.viewers.conftest import TEST_FILES
from tests.viewers.test_dicom import NOISE, RAMP, color_dataset, functional_groups, grey_dataset
from viewers.errors import FrameOutOfRangeError, InvalidViewError, RegionOutOfBoundsError, ViewMismatchError
from viewers.geometry import Region, SizePx
from viewers.intake import browser_frame, open_image
from viewers.record import code_map_from_json
from viewers.view import View, default_view, describe_view, display_size, render, render_png
from viewers.window import Window, build_lut

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "viewers_render.json").read_text(encoding="utf-8")
)

views = st.builds(
    View,
    st.text(max_size=8),
    st.integers(0, 10**6),
    st.none()
    | st.builds(Window, st.floats(-1e6, 1e6), st.floats(1, 1e6), st.sampled_from(["LINEAR", "SIGMOID"])),
    st.none() | st.integers(0, 9),
    st.booleans(),
    st.none() | st.builds(Region, *[st.integers(-5, 5000)] * 4),
)


@pytest.fixture
def ct_image():
    return open_image(TEST_FILES / "CT_small.dcm")


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_renderings(name):
    """Default views of lossless files draw the bytes they always drew."""
    image = open_image(TEST_FILES / name)
    drawn = render(image, default_view(image))
    found = {"shape": list(drawn.shape), "sha256": hashlib.sha256(drawn.tobytes()).hexdigest()}
    assert GOLDEN[name] == found


def test_rendering_is_rgb_contiguous_and_repeatable(ct_image):
    """Rows x columns x 3 in uint8, C order, equal each time and after the image is opened again."""
    view = default_view(ct_image)
    first, again = render(ct_image, view), render(open_image(TEST_FILES / "CT_small.dcm"), view)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((128, 128, 3), np.uint8, True)
    assert np.array_equal(first, again)
    assert np.array_equal(first[:, :, 0], first[:, :, 2])
    first[:] = 0
    assert np.array_equal(render(ct_image, view), again)


def test_region_is_a_crop(ct_image):
    """A region draws exactly the pixels it names."""
    view = default_view(ct_image)
    part = dataclasses.replace(view, region=Region(10, 20, 30, 40))
    assert np.array_equal(render(ct_image, part), render(ct_image, view)[20:60, 10:40])


def test_inverted_is_the_complement(write):
    """Inverting an image without padding gives 255 - grey."""
    image = open_image(write(grey_dataset(RAMP)))
    view = default_view(image)
    flipped = dataclasses.replace(view, inverted=True)
    assert np.array_equal(render(image, flipped), 255 - render(image, view))


def test_square_pixels_stretch_the_longer_side(write):
    """Pixels twice as tall give twice the rows, interpolated between neighbours; wide ones the columns."""
    column = np.array([[0, 0], [100, 100], [200, 200]])
    image = open_image(write(grey_dataset(column, 8, PixelSpacing=[2, 1])))
    drawn = render(image, default_view(image))
    assert drawn[:, 0, 0].tolist() == [0, 25, 75, 125, 175, 200]
    image = open_image(write(grey_dataset(column.T, 8, PixelSpacing=[1, 2])))
    assert render(image, default_view(image))[0, :, 0].tolist() == [0, 25, 75, 125, 175, 200]


def test_colors_are_stretched_too(write):
    """Colour with tall pixels keeps each channel apart."""
    dataset = color_dataset(NOISE)
    dataset.PixelAspectRatio = [3, 1]
    image = open_image(write(dataset))
    drawn = render(image, default_view(image))
    assert drawn.shape == (18, 8, 3)
    assert np.array_equal(drawn[1::3], NOISE)


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.1, 10))
@settings(deadline=None)
def test_display_size_never_shrinks(width, height, aspect):
    """Only the longer side of a pixel grows; the shape on screen is the one in millimetres within a pixel."""
    shown_width, shown_height = display_size(width, height, aspect)
    assert shown_width >= width
    assert shown_height >= height
    assert shown_width == width or shown_height == height
    assert abs(shown_height - shown_width * (height * aspect) / width) <= 0.5 + 0.5 * height * aspect / width


@given(views)
@settings(deadline=None)
def test_json_round_trip(view):
    """A view survives JSON text."""
    assert View.from_json(json.loads(json.dumps(view.to_json()))) == view


GOOD = View("d", 0, Window(40, 400), None, inverted=False, region=Region(0, 0, 1, 1)).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"image": 5},
        {"frame": 0.0},
        {"frame": True},
        {"frame": "0"},
        {"inverted": 1},
        {"voi_lut": "0"},
        {"window": [40, 400]},
        {"window": {"center": 40, "width": 400}},
        {"window": GOOD["window"] | {"width": 0}},
        {"window": GOOD["window"] | {"width": 0.5}},
        {"window": GOOD["window"] | {"center": float("nan")}},
        {"window": GOOD["window"] | {"center": 10**400}},
        {"window": GOOD["window"] | {"center": True}},
        {"window": GOOD["window"] | {"function": "CUBIC"}},
        {"window": GOOD["window"] | {"unknown": 1}},
        {"window": GOOD["window"] | {"name": "MUELLER HANS"}},
        {"region": {"x": 0, "y": 0, "width": 1}},
        {"region": GOOD["region"] | {"x": 0.5}},
    ],
)
def test_json_is_strict(change):
    """Unknown, missing, wrongly typed and impossible entries are refused with a ViewerError."""
    with pytest.raises(InvalidViewError):
        View.from_json(GOOD | change)


@pytest.mark.parametrize("value", [None, [], "view", 3, {}])
def test_json_of_another_shape_is_refused(value):
    """Anything but an object with all entries is refused."""
    with pytest.raises(InvalidViewError):
        View.from_json(value)


def test_an_unknown_entry_is_not_repeated():
    """The error for an unknown entry does not echo it."""
    with pytest.raises(InvalidViewError) as caught:
        View.from_json(GOOD | {"<script>": 1})
    assert "<script>" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"image": "0" * 64}, ViewMismatchError),
        ({"frame": 1}, FrameOutOfRangeError),
        ({"frame": -1}, FrameOutOfRangeError),
        ({"region": Region(-1, 0, 5, 5)}, RegionOutOfBoundsError),
        ({"region": Region(0, 0, 0, 5)}, RegionOutOfBoundsError),
        ({"region": Region(124, 0, 5, 5)}, RegionOutOfBoundsError),
        ({"region": Region(0, 127, 1, 2)}, RegionOutOfBoundsError),
        ({"window": None}, InvalidViewError),
        ({"voi_lut": 0}, InvalidViewError),
        ({"window": None, "voi_lut": 0}, InvalidViewError),
        ({"window": None, "voi_lut": -1}, InvalidViewError),
    ],
)
def test_a_view_that_does_not_fit_is_refused(ct_image, change, error):
    """Another image's view, a missing frame, a region outside, a missing window: each has its error."""
    view = dataclasses.replace(default_view(ct_image), **change)
    with pytest.raises(error):
        render(ct_image, view)
    with pytest.raises(error):
        describe_view(ct_image, view)


def test_colors_take_no_window(write):
    """A colour image has neither window nor inversion."""
    image = open_image(write(color_dataset(NOISE)))
    for change in ({"window": Window(1, 2)}, {"inverted": True}, {"voi_lut": 0}):
        with pytest.raises(InvalidViewError):
            render(image, dataclasses.replace(default_view(image), **change))


def test_frames_beyond_the_end(ct_image):
    """Every door to a frame refuses one that is not there, counting from 1 as people do."""
    for door in (
        ct_image.frame,
        ct_image.orientation,
        ct_image.windows,
        ct_image.default_window,
        ct_image.voi_luts,
    ):
        with pytest.raises(FrameOutOfRangeError) as caught:
            door(3)
        assert caught.value.values == {"found": 4, "count": 1}
    with pytest.raises(FrameOutOfRangeError):
        default_view(ct_image, 1)


def test_png_holds_the_pixels_and_nothing_else(ct_image):
    """The PNG decodes to the rendering and has no text chunks."""
    view = default_view(ct_image)
    png = render_png(ct_image, view)
    with Pillow.open(io.BytesIO(png)) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), render(ct_image, view))
        assert picture.mode == "L"
        assert picture.info == {}


def test_description(write):
    """Facts of a view in no language: frame from 1, window, region in pixels and millimetres."""
    image = open_image(write(functional_groups()))
    view = dataclasses.replace(default_view(image, 1), region=Region(1, 2, 3, 4))
    assert describe_view(image, view) == {
        "kind": "dicom",
        "modality": "MR",
        "body_part": "",
        "frame": 2,
        "frames": 2,
        "center": 70.0,
        "width": 10.0,
        "function": "LINEAR",
        "voi_lut": None,
        "inverted": False,
        "region_px": [1, 2, 3, 4],
        "region_mm": [0.75, 2.0],
        "size_px": [3, 4],
        "calibrated": True,
        "rotation": 0,
        "flipped": False,
        "marks": {"left": "A", "right": "P", "top": "H", "bottom": "F"},
        "plane": None,
        "position_mm": None,
        "projection": None,
        "thickness_mm": None,
        "rule": None,
        "channels": None,
        "graphics": False,
        "presentation": None,
    }


def test_what_the_browser_gets_draws_the_same(ct_image):
    """Codes, code map and window of ``browser_frame`` are enough to draw ``render``'s pixels."""
    meta, payload = browser_frame(ct_image, 0)
    json.dumps(meta, allow_nan=False)
    codes = np.frombuffer(payload, "<u2").reshape(meta["height"], meta["width"])
    chosen = next(window for window in meta["windows"] if window["key"] == meta["default"])
    window = Window(chosen["center"], chosen["width"], chosen["function"])
    grey = build_lut(code_map_from_json(meta["code_map"]), window, inverted=meta["inverted"])[codes]
    assert np.array_equal(grey, render(ct_image, default_view(ct_image))[:, :, 0])
    assert meta["marks"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert meta["spacing"]["calibrated"] is True


def test_the_browsers_colors(write):
    """Colour goes out as R, G, B bytes, without window and code map."""
    meta, payload = browser_frame(open_image(write(color_dataset(NOISE))), 0)
    assert (meta["format"], meta["windows"], meta["code_map"], meta["default"]) == ("rgb", [], None, None)
    assert np.array_equal(np.frombuffer(payload, np.uint8).reshape(6, 8, 3), NOISE)


def test_regions():
    """Inside means not empty and within all four edges."""
    size = SizePx(10, 5)
    assert Region(0, 0, 10, 5).inside(size)
    assert Region(9, 4, 1, 1).inside(size)
    assert not Region(0, 0, 11, 5).inside(size)
    assert not Region(0, 0, 10, 6).inside(size)
    with pytest.raises(ValueError, match="at least"):
        SizePx(0, 5)
