"""The table from code to grey level: golden values, and properties over random windows."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viewers.presets import CT_PRESETS, PIXEL_KEYS, ct_presets, pixel_windows
from viewers.window import (
    CodeMap,
    NamedWindow,
    VoiLut,
    Window,
    build_lut,
    levels,
    range_window,
    usable_window,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "viewers_lut.json").read_text(encoding="utf-8"))

numbers = st.floats(-40_000, 40_000, allow_nan=False)
windows = st.builds(
    Window, numbers, st.floats(1, 80_000), st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"])
)
maps = st.builds(
    CodeMap,
    st.sampled_from([0.0, 32768.0]),
    st.floats(0.001, 50),
    numbers,
    padding=st.none() | st.tuples(st.integers(0, 300), st.integers(300, 700)),
)


def case_lut(case):
    code_map = CodeMap(**{key: tuple(v) if isinstance(v, list) else v for key, v in case["code_map"].items()})
    spec = dict(case["transform"])
    transform = (
        VoiLut(spec.pop("first"), tuple(spec.pop("table")), **spec) if "table" in spec else Window(**spec)
    )
    return build_lut(code_map, transform, inverted=case["inverted"])


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_golden_tables(case):
    """Grey levels at chosen codes, worked out from the equations of PS3.3 with exact fractions."""
    lut = case_lut(case)
    assert case["grey"] == {code: int(lut[int(code)]) for code in case["grey"]}
    assert (lut.dtype, lut.shape) == (np.uint8, (65536,))


@given(st.integers(-2000, 2000), st.integers(1, 4000), st.integers(0, 65535))
@settings(max_examples=300, deadline=None)
def test_linear_is_the_standards_equation(center, width, code):
    """LINEAR agrees with C.11.2.1.2.1 computed in exact fractions, rounded half to even."""
    lut = build_lut(CodeMap(offset=32768.0), Window(center, width))
    x = Fraction(code - 32768)
    c, half = Fraction(center) - Fraction(1, 2), Fraction(width - 1, 2)
    if x <= c - half:
        expected = Fraction(0)
    elif x > c + half:
        expected = Fraction(255)
    else:
        expected = ((x - c) / (width - 1) + Fraction(1, 2)) * 255
    # Exactly on a half, float64 may fall on either side.
    if abs(expected % 1 - Fraction(1, 2)) > Fraction(1, 10**9):
        assert lut[code] == round(expected)
    else:
        assert abs(lut[code] - expected) <= 0.5 + 1e-9


@given(maps, windows)
@settings(deadline=None)
def test_not_inverted_is_monotone(code_map, window):
    """A greater value is never darker, for a positive slope and all functions."""
    lut = build_lut(code_map, window)[~code_map.padded()]
    assert (np.diff(lut.astype(int)) >= 0).all()


@given(maps, st.floats(-1000, 1000), st.floats(1, 5000))
@settings(deadline=None)
def test_linear_reaches_black_and_white(code_map, center, width):
    """At and below the lower end of a window is 0, above the upper end is 255."""
    value, kept = code_map.values(), ~code_map.padded()
    lut = build_lut(code_map, Window(center, width))
    assert not lut[kept & (value <= center - width / 2)].any()
    assert (lut[kept & (value > center + width / 2)] == 255).all()


@given(maps, windows)
@settings(deadline=None)
def test_inverse_is_the_complement_and_padding_stays_black(code_map, window):
    """Inverting takes 255 - grey; padding is black both ways."""
    plain, inverse = build_lut(code_map, window), build_lut(code_map, window, inverted=True)
    padded = code_map.padded()
    assert np.array_equal(inverse[~padded], 255 - plain[~padded])
    assert not plain[padded].any()
    assert not inverse[padded].any()


@given(st.integers(0, 60_000), st.integers(2, 5000))
@settings(deadline=None)
def test_a_range_window_maps_its_ends(low, span):
    """``range_window`` draws its ends 0 and 255, and 256 codes as they are."""
    lut = build_lut(CodeMap(), range_window(low, low + span))
    assert (lut[low], lut[min(low + span, 65535)]) == (0, 255 if low + span < 65536 else lut[65535])
    assert np.array_equal(build_lut(CodeMap(), range_window(0, 255))[:256], np.arange(256))


@pytest.mark.parametrize(
    ("center", "width", "function", "expected"),
    [
        (40, 400, "", Window(40, 400)),
        (40, 400, "NONSENSE", Window(40, 400)),
        (0.005, 0.01, "LINEAR", Window(0.005, 0.01, "LINEAR_EXACT")),
        (0.5, 0.2, "SIGMOID", Window(0.5, 0.2, "SIGMOID")),
        (0, 0, "LINEAR", None),
        (10, -5, "LINEAR", None),
        (math.nan, 10, "LINEAR", None),
        (0, math.inf, "LINEAR", None),
        (1e300, 10, "LINEAR_EXACT", None),
    ],
)
def test_windows_as_files_state_them(center, width, function, expected):
    """Widths below 1 are exact, absurd ones are none, unknown functions are linear."""
    assert usable_window(center, width, function) == expected


@pytest.mark.parametrize(
    "arguments", [(0, 0), (0, -1), (0, 0.5), (math.nan, 5), (0, math.inf), (0, 5, "CUBIC"), (2e31, 5)]
)
def test_impossible_windows_are_programming_mistakes(arguments):
    """A window that cannot be drawn is never made."""
    with pytest.raises(ValueError, match=r"window|expected"):
        Window(*arguments)


@pytest.mark.parametrize("arguments", [(0, (), 8), (0, (256,), 8), (0, (1,), 17), (0, (-1,), 8)])
def test_impossible_voi_luts_are_programming_mistakes(arguments):
    """A VOI LUT has entries, and they fit its bits."""
    with pytest.raises(ValueError, match="VOI LUT"):
        VoiLut(*arguments)


def test_code_maps_are_finite_and_compared_by_value():
    """Equal content is equal, tables included; what is not finite is refused."""
    table = np.arange(65536, dtype=np.float64)
    assert CodeMap(table=table) == CodeMap(table=table.copy())
    assert CodeMap(table=table) != CodeMap(table=table + 1)
    assert CodeMap(table=table) != CodeMap()
    assert CodeMap() != CodeMap(padding=(0, 0))
    assert len({CodeMap(), CodeMap()}) == 1
    with pytest.raises(ValueError, match="finite"):
        CodeMap(slope=math.nan)
    with pytest.raises(ValueError, match="65536"):
        CodeMap(table=np.zeros(3))


def test_presets_follow_the_body_part():
    """Every preset is listed once, the usual ones of the body part first."""
    assert [window.key for window in ct_presets("CHEST")][:3] == ["mediastinum", "lung", "bone"]
    assert ct_presets("LSPINE")[0].key == "spine"
    for body_part in ("", "CHEST", "LSPINE", "TOE"):
        assert {window.key for window in ct_presets(body_part)} == set(CT_PRESETS)
    lung = next(window for window in ct_presets("") if window.key == "lung")
    assert lung == NamedWindow("lung", Window(-600, 1500), "preset")
    assert lung.label_key == "preset.lung"
    assert NamedWindow("file-2", Window(0, 1), "file").label_key == "preset.file"


def test_windows_of_the_pixels_leave_padding_out():
    """Full range and percentiles are those of the measurements; padding has no part in them."""
    codes = np.r_[np.zeros(500), np.arange(1000, 2000)].astype(np.uint16).reshape(3, 500)
    made = {
        window.key: window.transform for window in pixel_windows(codes, CodeMap(padding=(0, 0)), (0, 4095))
    }
    assert tuple(made) == PIXEL_KEYS
    assert made["stored"] == range_window(0, 4095)
    assert made["full_range"] == range_window(1000, 1999)
    assert made["auto"] == range_window(1009, 1989)


def test_windows_of_a_flat_or_empty_frame():
    """One value, and nothing but padding, still give windows that can be drawn."""
    flat = np.full((4, 4), 7, np.uint16)
    assert pixel_windows(flat, CodeMap(), (0, 255))[2].transform == Window(7, 1, "LINEAR_EXACT")
    assert pixel_windows(flat, CodeMap(padding=(7, 7)), (0, 255))[2].transform == range_window(0, 255)


def test_percentiles_order_values_not_codes():
    """With a falling slope the automatic window still runs from small to large values."""
    codes = np.arange(100, 200, dtype=np.uint16).reshape(10, 10)
    full = pixel_windows(codes, CodeMap(slope=-2.0), (0, 255))[1].transform
    assert full == range_window(-398, -200)


@settings(max_examples=300, deadline=None)
@given(
    offset=st.sampled_from([0.0, 1.0, 32768.0]),
    slope=st.sampled_from([1.0, 0.1, 1 / 3, 2.5e-5]) | st.floats(1e-3, 40),
    intercept=st.sampled_from([0.0, -1024.0]) | st.floats(-5000, 5000),
    center=st.floats(-3000, 70000),
    width=st.sampled_from([1.0, 2.0, 400.0]) | st.floats(1, 90000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT"]),
    padding=st.none() | st.tuples(st.integers(0, 900), st.integers(900, 65535)),
)
def test_only_the_ramp_is_computed_and_nothing_changes(
    offset, slope, intercept, center, width, function, padding
):
    """Black and white codes are filled in without arithmetic; the table is that of the written formula."""
    code_map = CodeMap(offset, slope, intercept, padding=padding)
    window = Window(center, width, function)
    middle, wide = (center - 0.5, width - 1) if function == "LINEAR" else (center, width)
    value = code_map.values()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        y = np.where(wide > 0, ((value - middle) / np.float64(wide) + 0.5) * 255, 0)
    y = np.where(value <= middle - wide / 2, 0, np.where(value > middle + wide / 2, 255, y))
    grey = np.rint(np.clip(y, 0, 255)).astype(np.uint8)
    grey[code_map.padded()] = 0
    assert np.array_equal(build_lut(code_map, window), grey)


@pytest.mark.parametrize("shape", [(3, 5), (300, 400), (1, 200_000), (200_000, 1), (0, 4)])
def test_codes_are_looked_up_in_pieces(shape):
    """Large pictures give what one look-up gives, whatever their shape."""
    codes = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    lut = np.random.default_rng(2).integers(0, 256, 65536).astype(np.uint8)
    assert np.array_equal(levels(lut, codes), lut[codes])
    assert np.array_equal(levels(lut, codes.T), lut[codes.T])
