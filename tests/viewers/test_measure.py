"""Measurements: golden numbers written out, the same as numpy's on whole shapes, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.viewers.phantoms import place_values, turned, write_series
from tests.viewers.test_dicom import NOISE, color_dataset, grey_dataset
from tests.viewers.test_planes import stored  # noqa: F401 - a fixture
from viewers.assembly import image_volume
from viewers.browser import geometry_json
from viewers.errors import FrameOutOfRangeError, InvalidViewError, MeasureError
from viewers.intake import open_image
from viewers.measure import Measurement, Shape, measure, value_unit
from viewers.planes import PlaneView
from viewers.store import load
from viewers.study import StudyReader

GRID = np.arange(48).reshape(6, 8)
"""Row r, column c holds 8 r + c."""


@pytest.fixture
def opened(write):
    """Return a function that opens a grid of 6 rows and 8 columns with these attributes."""

    def make(pixels=GRID, **attributes):
        return open_image(write(grey_dataset(pixels, 8, **attributes)))

    return make


@pytest.mark.parametrize("kept", [False, True])
def test_planes_of_slices_with_slopes_of_their_own_are_measured_exactly(tmp_path, kept):
    """PET: one slice holds values a thousand times as large; planes elsewhere are measured as slices are."""
    for number in range(8):
        write_series(
            tmp_path / "in",
            count=1,
            origin=(0, 0, number * 2),
            names=[f"{number}.dcm"],
            RescaleSlope="900.123" if number == 5 else f"{0.123 + number / 100:.3f}",
            RescaleIntercept="0",
        )
    with StudyReader(tmp_path / "in") as reader:
        for _ in reader:
            pass
        series = reader.studies()[0].series[0]
        image = load(series.keep(tmp_path / "kept")) if kept else series.open()
        shape = Shape("rectangle", ((2.0, 2.0), (9.0, 7.0)))
        for number in range(8):
            slice_, plane = (
                measure(image, shape, number, where) for where in (None, PlaneView("axial", 2.0 * number))
            )
            for quantity in slice_.quantities:
                assert plane.value(quantity.name) == pytest.approx(quantity.value, rel=1e-5)
        highest = measure(image, shape, 0, PlaneView("axial", 7.0, "mip", 100.0)).value("max")
        assert highest == pytest.approx(measure(image, shape, 5).value("max"), rel=1e-6)
        volume = image_volume(image)
        probed = measure(image, Shape("probe", ((3.5, 4.5),)), 2, PlaneView("axial", 4.0)).value("value")
        assert abs(probed - volume.code_map.values()[volume.array[2, 4, 3]]) > 0.01


def numbers(made):
    return {quantity.name: (quantity.value, quantity.unit) for quantity in made.quantities}


def test_length_in_millimetres(opened):
    """Three columns of 0.5 mm and four rows of 2 mm: the root of 1.5 squared plus 8 squared."""
    image = opened(PixelSpacing=[2, 0.5], Modality="MR")
    made = measure(image, Shape("length", ((1.0, 1.0), (4.0, 5.0))))
    assert numbers(made) == {"length": (pytest.approx(8.139410298049853), "mm")}
    assert (made.spacing.source, made.spacing.calibrated) == ("PixelSpacing", True)
    assert measure(image, Shape("length", ((0, 0), (0, 6)))).value("length") == 12


def test_length_in_pixels(opened):
    """Without a spacing lengths are in pixels, and say so; tall pixels count for more."""
    made = measure(opened(), Shape("length", ((0, 0), (3, 4))))
    assert (numbers(made), made.spacing) == ({"length": (5.0, "px")}, None)
    made = measure(opened(PixelAspectRatio=[2, 1]), Shape("length", ((0, 0), (3, 2))))
    assert numbers(made) == {"length": (5.0, "px")}


@pytest.mark.parametrize(
    ("attributes", "source", "calibrated", "length"),
    [
        ({"Modality": "DX", "ImagerPixelSpacing": [0.2, 0.2]}, "ImagerPixelSpacing", False, 1.0),
        (
            {
                "Modality": "MG",
                "ImagerPixelSpacing": [0.2, 0.2],
                "EstimatedRadiographicMagnificationFactor": 1.25,
            },
            "EstimatedRadiographicMagnificationFactor",
            True,
            0.8,
        ),
        (
            {"Modality": "DX", "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.1, 0.1]},
            "PixelSpacing",
            True,
            0.5,
        ),
        ({"Modality": "CR", "PixelSpacing": [0.1, 0.1]}, "PixelSpacing", False, 0.5),
    ],
)
def test_the_spacing_that_was_used_is_told(opened, attributes, source, calibrated, length):
    """Distances at a detector are told from those in the patient and from corrected ones."""
    made = measure(opened(**attributes), Shape("length", ((0, 0), (3, 4))))
    assert numbers(made) == {"length": (pytest.approx(length), "mm")}
    assert (made.spacing.source, made.spacing.calibrated) == (source, calibrated)


def ultrasound(*regions):
    items = []
    for left, top, right, bottom, delta in regions:
        item = Dataset()
        item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
        item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
        item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
        item.PhysicalDeltaX = item.PhysicalDeltaY = delta
        items.append(item)
    return {"Modality": "US", "SequenceOfUltrasoundRegions": Sequence(items)}


def test_ultrasound_regions_have_spacings_of_their_own(opened):
    """Inside one region its spacing counts; across two, or outside of all, pixels do."""
    image = opened(**ultrasound((0, 0, 4, 6, 0.1), (4, 0, 8, 4, 0.02)))
    left = measure(image, Shape("length", ((1, 1), (1, 5))))
    assert numbers(left) == {"length": (pytest.approx(4.0), "mm")}
    assert left.spacing.source == "SequenceOfUltrasoundRegions"
    assert measure(image, Shape("length", ((5, 0), (5, 4)))).value("length") == pytest.approx(0.8)
    for outside in (((1, 1), (5, 1)), ((5, 5), (7, 5))):
        assert measure(image, Shape("length", outside)).spacing is None
    one = opened(**ultrasound((0, 0, 4, 6, 0.1)))
    assert measure(one, Shape("length", ((5, 1), (6, 1)))).spacing is None


def test_angles(opened):
    """At the vertex 0 to 180 degrees, between two lines 0 to 90; tall pixels count."""
    image = opened(PixelSpacing=[2, 1], Modality="MR")
    assert measure(image, Shape("angle", ((4, 0), (0, 0), (4, 2)))).value("angle") == pytest.approx(45)
    assert measure(image, Shape("angle", ((0, 0), (2, 0), (8, 3)))).value("angle") == pytest.approx(135)
    cobb = Shape("angle", ((0, 0), (4, 0), (8, 1), (4, 1 + 2 / math.sqrt(3))))
    assert measure(image, cobb).value("angle") == pytest.approx(30)
    with pytest.raises(MeasureError):
        measure(image, Shape("angle", ((1, 1), (1, 1), (2, 2))))


def test_rectangle(opened):
    """Columns 1 to 3 of rows 2 to 4: mean, deviation, smallest, largest, area and count."""
    image = opened(PixelSpacing=[2, 0.5], Modality="MR")
    made = measure(image, Shape("rectangle", ((4, 5), (1, 2))))
    assert numbers(made) == {
        "area": (9.0, "mm2"),
        "mean": (26.0, "raw"),
        "sd": (pytest.approx(6.582805886043833), "raw"),
        "min": (17.0, "raw"),
        "max": (35.0, "raw"),
        "n": (9.0, "px"),
    }
    part = GRID[2:5, 1:4]
    assert made.value("sd") == pytest.approx(part.std())


def test_ellipse(opened):
    """Of a box of 4 x 4 pixels the corners lie outside: 12 are counted; the area is the ellipse's own.

    11 12, 18 to 21, 26 to 29, 35 36: their squares about 23.5 add up to 715.
    """
    made = measure(opened(), Shape("ellipse", ((2, 1), (6, 5))))
    assert numbers(made) == {
        "area": (pytest.approx(12.566370614359172), "px2"),
        "mean": (23.5, "raw"),
        "sd": (pytest.approx(7.7190241179396075), "raw"),
        "min": (11.0, "raw"),
        "max": (36.0, "raw"),
        "n": (12.0, "px"),
    }


def test_probe(opened):
    """The pixel under the point, in the image's unit; the right-hand edge is the last pixel's."""
    image = opened()
    assert numbers(measure(image, Shape("probe", ((3.9, 2.1),)))) == {"value": (19.0, "raw")}
    assert measure(image, Shape("probe", ((8, 6),))).value("value") == 47


def test_values_are_hounsfield_units_and_padding_is_not_counted(stored):  # noqa: F811 - the fixture
    """Values go through the modality transform; padding is left out, alone it is an error."""
    image = stored(PixelPaddingValue=int(place_values((-20.0, -30.0, 10.0))) + 1024)
    assert value_unit(image) == "HU"
    made = measure(image, Shape("rectangle", ((0, 0), (3, 1))))
    row = place_values([(-20 + 0.5 * n, -30, 10) for n in range(3)])
    assert numbers(made)["n"] == (2.0, "px")
    assert numbers(made)["mean"] == (pytest.approx(row[1:].mean()), "HU")
    with pytest.raises(MeasureError):
        measure(image, Shape("probe", ((0.5, 0.5),)))


def test_planes_are_measured_in_the_patient(stored):  # noqa: F811 - the fixture
    """On a coronal plane lengths have the slices' distance, values the place's, and a place is told."""
    image = stored(count=9)
    plane = PlaneView("coronal", -28.4)
    made = measure(image, Shape("length", ((1, 1), (5, 4))), plane=plane)
    assert made.value("length") == pytest.approx(math.hypot(4 * 0.5, 3 * 2.0))
    probe = measure(image, Shape("probe", ((4.5, 3.5),)), plane=plane)
    assert probe.place_mm == pytest.approx((-18.0, -28.4, 20.0))
    assert probe.value("value") == pytest.approx(place_values(probe.place_mm), abs=1)
    whole = measure(image, Shape("rectangle", ((0, 0), (12, 9))), plane=plane)
    assert whole.value("n") == 108


def test_what_lies_outside_of_a_volume_is_not_counted(stored):  # noqa: F811 - the fixture
    """An oblique plane's corners hold nothing: statistics leave them out."""
    image = stored(cosines=turned(23, axis=2), count=5, shape=(30, 30), spacing=(0.5, 0.5))
    known = geometry_json(image)["planes"]["axial"]
    plane = PlaneView("axial", 14.0)
    made = measure(image, Shape("rectangle", ((0, 0), (known["width"], known["height"]))), plane=plane)
    inside = made.value("n")
    assert 30 * 30 * 0.9 <= inside <= 30 * 30 * 1.05 < known["width"] * known["height"]
    assert made.value("min") > 400 - 4 * 20


def test_a_pet_has_its_units(opened):
    """A unit of DICOM's list is kept; another text is not."""
    assert value_unit(opened(Modality="PT", Units="BQML")) == "BQML"
    assert value_unit(opened(Modality="PT", Units="SMITH")) == "raw"


def test_colors_have_lengths_but_no_values(write):
    """A colour picture can be measured in length only."""
    image = open_image(write(color_dataset(NOISE)))
    assert measure(image, Shape("length", ((0, 0), (3, 4)))).value("length") == 5
    for kind, points in (("probe", ((1, 1),)), ("rectangle", ((0, 0), (2, 2)))):
        with pytest.raises(MeasureError, match="RGB"):
            measure(image, Shape(kind, points))


@given(
    st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(0, 6)] * 2).filter(
        lambda c: c[0] < c[1] and c[2] < c[3]
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_whole_rectangles_are_numpys(corners, swapped):
    """Mean, deviation and extremes of any whole rectangle are those of the array's slice."""
    from viewers.image import FrameDisplay, GreyFrame, Image, ImageFacts
    from viewers.window import CodeMap

    class Source:
        """One frame with values 2 c - 7."""

        def read(self, _index):
            return GreyFrame(GRID.astype(np.uint16), CodeMap(0.0, 2.0, -7.0))

    from viewers.geometry import SizePx

    facts = ImageFacts(
        kind="dicom",
        modality="CT",
        facts={},
        size=SizePx(8, 6),
        is_color=False,
        spacing=None,
        pixel_aspect=1.0,
        inverted_by_default=False,
        stored_codes=(0, 255),
        prefers_stored=False,
        findings=(),
        frames=(FrameDisplay(),),
    )
    left, right, top, bottom = corners
    points = ((right, top), (left, bottom)) if swapped else ((left, top), (right, bottom))
    made = measure(Image(facts, Source(), "x"), Shape("rectangle", points))
    part = GRID[top:bottom, left:right] * 2.0 - 7
    found = [made.value(name) for name in ("mean", "sd", "min", "max", "n")]
    assert found == pytest.approx([part.mean(), part.std(), part.min(), part.max(), part.size])


def test_json_round_trip(stored):  # noqa: F811 - the fixture
    """A measurement survives JSON text."""
    made = measure(stored(), Shape("ellipse", ((1, 1), (5, 6))), 2)
    assert Measurement.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made
    on_plane = measure(stored(), Shape("probe", ((1, 1),)), plane=PlaneView("axial", 12.0))
    assert Measurement.from_json(on_plane.to_json()) == on_plane


GOOD = {"kind": "length", "points": [[0, 0], [1, 1]]}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        GOOD | {"extra": 1},
        GOOD | {"kind": "volume"},
        GOOD | {"points": [[0, 0]]},
        GOOD | {"points": [[0, 0]] * 100},
        GOOD | {"points": [[0, 0], [1]]},
        GOOD | {"points": [[0, 0], ["1", 2]]},
        GOOD | {"points": [[0, 0], [True, 2]]},
        GOOD | {"points": [[0, 0], [float("nan"), 2]]},
        GOOD | {"points": [[0, 0], [10**400, 2]]},
    ],
)
def test_shapes_from_anywhere_are_checked(value):
    """Anything but a known kind with its points is refused."""
    with pytest.raises(MeasureError):
        Shape.from_json(value)


@pytest.mark.parametrize(
    "change",
    [
        {"quantities": [{"name": "smith", "value": 1, "unit": "mm"}]},
        {"quantities": [{"name": "length", "value": float("inf"), "unit": "mm"}]},
        {"spacing": {"row": 0, "column": 1, "source": "", "calibrated": True}},
        {"place_mm": [1, 2]},
        {"plane": {"plane": "x"}},
        {"extra": 1},
    ],
)
def test_stored_measurements_are_checked(opened, change):
    """An edited record is refused."""
    record = measure(opened(), Shape("length", ((0, 0), (1, 1)))).to_json()
    with pytest.raises((MeasureError, InvalidViewError)):
        Measurement.from_json(record | change)


def test_what_lies_outside_is_refused(opened):
    """Points beyond the picture, boxes without a pixel's centre and missing frames."""
    image = opened()
    for shape in (
        Shape("length", ((0, 0), (9, 1))),
        Shape("probe", ((-0.1, 0),)),
        Shape("rectangle", ((1.1, 1.1), (1.4, 1.4))),
        Shape("ellipse", ((2, 2), (2, 4))),
    ):
        with pytest.raises(MeasureError):
            measure(image, shape)
    with pytest.raises(FrameOutOfRangeError):
        measure(image, Shape("probe", ((1, 1),)), 1)
