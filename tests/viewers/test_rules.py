"""Three CT windows as one picture: each colour is a window's grey, for Hounsfield units only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.viewers.conftest import TEST_FILES
from tests.viewers.test_dicom import NOISE, RAMP, color_dataset, grey_dataset
from tests.viewers.test_planes import stored  # noqa: F401 - a fixture
from viewers.errors import InvalidViewError
from viewers.intake import open_image
from viewers.planes import PlaneView
from viewers.presets import CT_PRESETS
from viewers.rules import Rule, rule_keys
from viewers.view import View, default_view, describe_view, render
from viewers.window import CodeMap, Window, build_lut


def test_each_colour_is_a_window():
    """Red, green and blue are what the three presets draw alone, on a file and in any order."""
    image = open_image(TEST_FILES / "CT_small.dcm")
    view = default_view(image)
    for channels in (("lung", "soft_tissue", "bone"), ("bone", "brain", "lung")):
        drawn = render(image, dataclasses.replace(view, rule=Rule(channels)))
        for number, key in enumerate(channels):
            alone = render(image, dataclasses.replace(view, window=Window(*CT_PRESETS[key]), inverted=False))
            assert np.array_equal(drawn[..., number], alone[..., 0])


def test_golden_values():
    """Air, lung, fat, water, soft tissue and bone in the windows -600/1500, 40/400 and 500/2000."""
    table = [build_lut(CodeMap(32768.0), window) for window in Rule().windows]
    found = [[int(lut[hu + 32768]) for lut in table] for hu in (-1000, -800, -100, 0, 60, 1000)]
    assert found == [
        [60, 0, 0],
        [94, 0, 0],
        [213, 38, 51],
        [230, 102, 64],
        [240, 141, 71],
        [255, 255, 191],
    ]


def test_a_rule_goes_with_region_rotation_and_plane(stored):  # noqa: F811 - the fixture
    """A plane, cut and turned, is coloured the same way; the description names rule and channels."""
    image = stored()
    view = default_view(image, 0, PlaneView("coronal", -28.0))
    rule = Rule(("temporal_bone", "bone", "angiography"))
    drawn = render(image, dataclasses.replace(view, rule=rule, rotation=90))
    window = Window(*CT_PRESETS["bone"])
    alone = render(image, dataclasses.replace(view, window=window, rotation=90))
    assert np.array_equal(drawn[..., 1], alone[..., 0])
    told = describe_view(image, dataclasses.replace(view, rule=rule))
    assert (told["rule"], told["channels"]) == ("rule.three_windows", list(rule.channels))


def test_only_hounsfield_units_have_three_windows(write):
    """Other values and colours are given as displayed; a view that says otherwise is refused."""
    ct = open_image(TEST_FILES / "CT_small.dcm")
    assert rule_keys(ct) == ("as_displayed", "three_windows")
    for dataset in (grey_dataset(RAMP), color_dataset(NOISE)):
        image = open_image(write(dataset))
        assert rule_keys(image) == ("as_displayed",)
        with pytest.raises(InvalidViewError):
            render(image, dataclasses.replace(default_view(image), rule=Rule()))


def test_a_rule_survives_json():
    """It is stored with the view."""
    view = View("d", window=Window(40, 400), rule=Rule(("brain", "bone", "stroke")))
    assert View.from_json(view.to_json()) == view
    with pytest.raises(ValueError, match="three keys"):
        Rule(("brain", "bone", "smith"))
