"""What a file hides stays hidden: black, never measured; what is not shown of a file is told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.viewers.conftest import TEST_FILES
from tests.viewers.phantoms import write_series
from tests.viewers.test_dicom import NOISE, color_dataset, grey_dataset
from viewers.errors import MeasureError
from viewers.intake import open_image
from viewers.measure import Shape, measure
from viewers.shutter import hidden_pixels
from viewers.study import StudyReader
from viewers.view import default_view, render

GRID = np.arange(48).reshape(6, 8) + 100


def shutter(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


RECTANGLE = {
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 2,
    "ShutterRightVerticalEdge": 4,
    "ShutterUpperHorizontalEdge": 3,
    "ShutterLowerHorizontalEdge": 5,
}
CIRCLE = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [3, 4], "RadiusOfCircularShutter": 2}
TRIANGLE = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 1, 6, 6, 1]}


def test_a_rectangle_shows_what_is_between_its_edges():
    """Columns 2 to 4 of rows 3 to 5, counted from 1."""
    hidden = hidden_pixels(shutter(**RECTANGLE), 6, 8)
    assert np.argwhere(~hidden).tolist() == [[row, column] for row in (2, 3, 4) for column in (1, 2, 3)]


def test_a_circle_shows_what_is_within_its_radius():
    """About row 3, column 4, two pixels far."""
    hidden = hidden_pixels(shutter(**CIRCLE), 6, 8)
    away = [(r - 2) ** 2 + (c - 3) ** 2 for r, c in np.argwhere(~hidden)]
    assert (max(away), len(away)) == (4, 13)


def test_a_polygon_shows_what_is_inside():
    """A right triangle from the upper left corner: each row is one pixel shorter."""
    shown = ~hidden_pixels(shutter(**TRIANGLE), 6, 8)
    assert shown.sum(axis=1).tolist() == [5, 4, 3, 2, 1, 0]
    assert (np.diff(shown.astype(int), axis=1) <= 0).all()


def test_several_shapes_show_what_is_inside_all_of_them():
    """A pixel hidden by one shutter is hidden."""
    both = hidden_pixels(
        shutter(**(RECTANGLE | CIRCLE | {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]})), 6, 8
    )
    one, other = (hidden_pixels(shutter(**shape), 6, 8) for shape in (RECTANGLE, CIRCLE))
    assert np.array_equal(both, one | other)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [3], "RadiusOfCircularShutter": 2},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 2, 2]},
        RECTANGLE | {"ShutterRightVerticalEdge": 1},
        CIRCLE | {"RadiusOfCircularShutter": 1000},
    ],
)
def test_a_shutter_that_cannot_be_hides_nothing(attributes):
    """Missing numbers, and shapes that would hide everything or nothing, are no shutter."""
    assert hidden_pixels(shutter(**attributes), 6, 8) is None


@pytest.mark.parametrize("inverted", [False, True])
def test_hidden_pixels_are_black_and_not_measured(write, inverted):
    """Black also when inverted; a probe there is refused, statistics count what is shown."""
    path = write(grey_dataset(GRID, 16, **RECTANGLE))
    image = open_image(path)
    assert "finding.shutter_applied" in {found.key for found in image.findings}
    view = dataclasses.replace(default_view(image), inverted=inverted)
    hidden = hidden_pixels(shutter(**RECTANGLE), 6, 8)
    assert not render(image, view)[hidden].any()
    made = measure(image, Shape("rectangle", ((0, 0), (8, 6))))
    assert (made.value("n"), made.value("mean")) == (9, GRID[~hidden].mean())
    with pytest.raises(MeasureError):
        measure(image, Shape("probe", ((0.5, 0.5),)))
    del_one = open_image(write(grey_dataset(GRID, 16, **(RECTANGLE | {"ShutterLeftVerticalEdge": 3}))))
    assert del_one.digest != image.digest


def test_colors_are_hidden_too(write):
    """Outside of the shutter colour is black."""
    dataset = color_dataset(NOISE)
    for keyword, value in RECTANGLE.items():
        setattr(dataset, keyword, value)
    rgb = open_image(write(dataset)).frame(0).rgb
    hidden = hidden_pixels(shutter(**RECTANGLE), 6, 8)
    assert not rgb[hidden].any()
    assert np.array_equal(rgb[~hidden], NOISE[~hidden])


def test_the_same_pixels_with_another_meaning_are_another_image(write):
    """A different rescale gives different values, and so another digest."""
    digests = {
        open_image(write(grey_dataset(GRID, 16, RescaleIntercept=str(n), RescaleSlope="1"))).digest
        for n in (0, 5)
    }
    assert len(digests) == 2


def test_what_is_not_shown_is_told(write, tmp_path):
    """Overlays and mosaics in the file, presentation states beside it: a finding each, nothing kept."""
    dataset = grey_dataset(GRID, 16)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    for group in (0x6000, 0x6002):
        dataset.add_new((group, 0x0010), "US", 6)
        dataset.add_new((group, 0x0011), "US", 8)
        dataset.add_new((group, 0x3000), "OW", b"\xaa" * 6)
    told = {found.key: found.values for found in open_image(write(dataset)).findings}
    assert told["finding.overlays_left_out"] == {"count": 2}
    assert "finding.mosaic" in told
    write_series(tmp_path / "in", count=3)
    state = pydicom.dcmread(TEST_FILES / "CT_small.dcm")
    state.SOPClassUID = state.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    for keyword in ("PixelData", "Rows", "Columns", "SamplesPerPixel"):
        delattr(state, keyword)
    state.save_as(tmp_path / "in" / "gsps.dcm")
    with StudyReader(tmp_path / "in") as reader:
        for _ in reader:
            pass
        assert [found.key for found in reader.findings] == ["finding.presentation_states"]
