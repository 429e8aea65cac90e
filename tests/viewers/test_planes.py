"""Planes of stored images: the same pixels as the volume's, in the right place, turned as asked."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.viewers.phantoms import AXIAL, CORONAL, SAGITTAL, place_values, turned, write_series
from tests.viewers.test_dicom import NOISE, color_dataset
from viewers.assembly import image_volume, volume_of
from viewers.browser import browser_frame, browser_plane, geometry_json
from viewers.errors import (
    FrameOutOfRangeError,
    InvalidViewError,
    MixedOrientationError,
    RegionOutOfBoundsError,
    UnevenSpacingError,
    VolumeError,
)
from viewers.geometry import EdgeMarks, Region
from viewers.image import Origin
from viewers.intake import open_image
from viewers.planes import PlaneView, plane_image
from viewers.proportions import squared
from viewers.record import code_map_from_json
from viewers.store import load
from viewers.study import StudyReader
from viewers.view import View, default_view, describe_view, render
from viewers.volume import PLANES
from viewers.window import Window, build_lut

DIRECTIONS = {
    "axial": AXIAL,
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "oblique": turned(23, axis=0),
}


def first_series(folder):
    """Read a folder's first series."""
    with StudyReader(folder, key=b"k" * 32) as reader:
        for _ in reader:
            pass
        return reader.studies()[0].series[0]


@pytest.fixture
def stored(tmp_path):
    """Return a function that stores a series of these directions and opens it again."""

    def make(**options):
        write_series(tmp_path / "in", **options)
        return load(first_series(tmp_path / "in").keep(tmp_path / "kept"))

    return make


def values_of(frame):
    return frame.code_map.values()[frame.codes]


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_view_of_a_plane_is_the_plane(stored, tmp_path, name):
    """What is drawn of a stored image equals the planes of the volume of its files."""
    image = stored(cosines=DIRECTIONS[name], count=8)
    volume = volume_of(first_series(tmp_path / "in"))
    for plane in PLANES:
        planes, positions = plane_image(volume, plane), volume.positions_mm(plane)
        for number in (1, len(positions) // 2):
            view = default_view(image, 0, PlaneView(plane, float(positions[number])))
            expected = render(planes, dataclasses.replace(default_view(planes, number), window=view.window))
            assert np.abs(render(image, view).astype(int) - expected).max() <= (name == "oblique")


def test_codes_are_mapped_not_copied(stored):
    """The volume of a stored image is its file; it is made once."""
    image = stored()
    volume = image_volume(image)
    assert isinstance(volume.array, np.memmap)
    assert image_volume(image, 3) is volume
    with pytest.raises(FrameOutOfRangeError):
        image_volume(image, 6)


@given(st.tuples(*[st.floats(-50, 50)] * 3))
def test_index_to_millimetres_and_back(index):
    """Places of oblique voxels are the same after a round trip."""
    volume = OBLIQUE()
    assert volume.to_index(volume.to_mm(index)) == pytest.approx(index, abs=1e-9)


def OBLIQUE():  # noqa: N802 - a constant that needs no files until it is used
    from viewers.stack import Stack, slice_plane
    from viewers.volume import Volume

    cosines = turned(31, axis=1)
    normal = np.cross(cosines[:3], cosines[3:])
    stack = Stack(tuple(slice_plane(normal * n * 1.7, cosines) for n in range(4)), (0.4, 0.9))
    return Volume(np.zeros((4, 5, 6), np.int16), stack.affine())


@pytest.mark.parametrize("name", DIRECTIONS)
def test_every_pixel_the_page_gets_is_in_its_place(stored, name):
    """Frames and planes come with the place of their pixels; the value there is the phantom's."""
    image = stored(cosines=DIRECTIONS[name], count=9)
    geometry = geometry_json(image)
    json.dumps(geometry, allow_nan=False)
    shown = [browser_frame(image, 4)]
    for plane, known in geometry["planes"].items():
        middle = known["low_mm"] + known["step_mm"] * (known["count"] // 2)
        meta, payload = browser_plane(image, 0, PlaneView(plane, middle))
        assert meta["place"]["origin"][known["axis"]] == pytest.approx(middle)
        assert (meta["width"], meta["height"]) == (known["width"], known["height"])
        assert meta["place"]["column_mm"] == pytest.approx(known["column_mm"])
        shown.append((meta, payload))
    index = np.linalg.inv(np.asarray(geometry["affine"]))
    for meta, payload in shown:
        codes = np.frombuffer(payload, "<u2").reshape(meta["height"], meta["width"])
        values = code_map_from_json(meta["code_map"]).values()[codes]
        rows, columns = np.indices(values.shape)
        place = meta["place"]
        points = (
            np.asarray(place["origin"])
            + columns[..., None] * np.asarray(place["column_mm"])
            + rows[..., None] * np.asarray(place["row_mm"])
        )
        voxels = np.concatenate([points, np.ones((*points.shape[:2], 1))], -1) @ index.T
        inside = ((voxels[..., :3] >= -1e-6) & (voxels[..., :3] <= np.array([11, 9, 8]) + 1e-6)).all(-1)
        assert inside.sum() > 10
        assert np.abs(values - place_values(points))[inside].max() <= 3


def test_the_page_draws_a_plane_as_it_is_rendered(stored):
    """Codes, code map and window of ``browser_plane`` are enough to draw ``render``'s pixels."""
    image = stored(count=5)
    meta, payload = browser_plane(image, 2, PlaneView("coronal", -28.0, "mean", 3.0))
    codes = np.frombuffer(payload, "<u2").reshape(meta["height"], meta["width"])
    chosen = next(window for window in meta["windows"] if window["key"] == meta["default"])
    window = Window(chosen["center"], chosen["width"], chosen["function"])
    grey = build_lut(code_map_from_json(meta["code_map"]), window)[codes]
    view = default_view(image, 2, PlaneView.from_json(meta["plane"]))
    assert meta["pixel_aspect"] == pytest.approx(4.0)
    assert np.array_equal(render(image, view)[:, :, 1], squared(grey, meta["pixel_aspect"]))
    assert meta["marks"] == {"left": "R", "right": "L", "top": "H", "bottom": "F"}


def test_projections(stored, tmp_path):
    """Maximum, minimum and mean of the planes whose places lie in the slab; a thin slab is its plane."""
    image = stored(count=8)
    array = volume_of(first_series(tmp_path / "in")).array
    for projection, expected in (
        ("mip", array[2:5].max(axis=0)),
        ("minip", array[2:5].min(axis=0)),
        ("mean", np.rint(array[2:5].mean(axis=0))),
        ("none", array[3]),
    ):
        from viewers.planes import plane_frame

        frame, _ = plane_frame(image, 0, PlaneView("axial", 16.0, projection, 4.5))
        assert np.array_equal(values_of(frame), expected)
        thin, cut = plane_frame(image, 0, PlaneView("axial", 16.5, projection, 1.0))
        assert np.abs(values_of(thin) - (array[3] + (array[4] - array[3]) * 0.25)).max() <= 1
        assert cut.affine[2, 3] == 16.5


def test_slices_with_slopes_of_their_own(tmp_path):
    """PET: codes are made to mean the same in all slices, within half a step of 1/65534 of the range."""
    for number, slope in enumerate(("0.5", "1.25", "0.75")):
        write_series(
            tmp_path / "in",
            count=1,
            origin=(0, 0, number * 2),
            names=[f"{number}.dcm"],
            RescaleSlope=slope,
            RescaleIntercept="0",
        )
    image = load(first_series(tmp_path / "in").keep(tmp_path / "kept"))
    volume = image_volume(image)
    for number in range(3):
        expected = values_of(image.frame(number))
        found = volume.code_map.values()[volume.array[number]]
        assert np.abs(found - expected).max() <= volume.code_map.slope / 2 + 1e-9


TURNS = list(itertools.product((0, 90, 180, 270), (False, True)))


@pytest.mark.parametrize(("rotation", "flipped"), TURNS)
def test_turning_and_flipping(stored, rotation, flipped):
    """A turned picture is numpy's; the marks go with the pixels: the brighter left side bears an L."""
    image = stored(shape=(12, 12), spacing=(1.0, 1.0), WindowCenter="500", WindowWidth="300")
    view = dataclasses.replace(default_view(image, 0), rotation=rotation, flipped=flipped)
    plain = render(image, default_view(image, 0))
    drawn = render(image, view)
    expected = plain[:, ::-1] if flipped else plain
    for _ in range(rotation // 90):
        expected = np.rot90(expected, -1)
    assert np.array_equal(drawn, expected)
    marks = describe_view(image, view)["marks"]
    edges = {
        "left": drawn[:, 0].mean(),
        "right": drawn[:, -1].mean(),
        "top": drawn[0].mean(),
        "bottom": drawn[-1].mean(),
    }
    left_side = next(edge for edge, letter in marks.items() if letter == "L")
    assert max(edges, key=edges.get) == left_side


@given(st.sampled_from(TURNS), st.tuples(*[st.text("LRAPHF", max_size=2)] * 4))
def test_flipping_twice_and_turning_back(turn, letters):
    """Flipping twice is nothing, and turns add up to nothing."""
    marks = EdgeMarks(*letters)
    rotation, flipped = turn
    assert marks.turned(0, flipped=True).turned(0, flipped=True) == marks
    assert marks.turned(rotation, flipped=False).turned((360 - rotation) % 360, flipped=False) == marks
    once = marks.turned(rotation, flipped=flipped)
    assert sorted(dataclasses.astuple(once)) == sorted(letters)


def test_regions_of_a_plane(stored):
    """A region is of the plane's own pixels, checked against its size, and measured with its spacing."""
    image = stored(count=5)
    plane = PlaneView("sagittal", -18.0)
    view = default_view(image, 0, plane)
    part = dataclasses.replace(view, region=Region(2, 1, 5, 3))
    whole = render(image, view)
    assert describe_view(image, part)["region_mm"] == [5 * 0.8, 3 * 2.0]
    assert describe_view(image, view)["size_px"] == [10, 5]
    assert render(image, part).shape == (round(3 * 2.5), 5, 3)
    assert whole.shape == (round(5 * 2.5), 10, 3)
    with pytest.raises(RegionOutOfBoundsError):
        render(image, dataclasses.replace(view, region=Region(0, 0, 11, 1)))


def test_description_of_a_plane(stored):
    """Plane, position, projection and thickness are told."""
    image = stored()
    view = default_view(image, 0, PlaneView("coronal", -27.5, "mip", 4.0))
    found = describe_view(image, view)
    assert (found["plane"], found["position_mm"], found["projection"], found["thickness_mm"]) == (
        "coronal",
        -27.5,
        "mip",
        4.0,
    )
    assert found["marks"] == {"left": "R", "right": "L", "top": "H", "bottom": "F"}


def test_what_is_no_volume_says_why(stored, tmp_path, write):
    """Uneven slices, a single picture and a colour image: an error with the reason, for the page too."""
    image = stored(offsets=[0, 2, 5, 7])
    with pytest.raises(UnevenSpacingError):
        render(image, default_view(image, 0, PlaneView("axial", 10)))
    told = geometry_json(image)
    assert told["reason"]["key"] == "viewers.uneven_spacing"
    assert (told["affine"], told["planes"], len(told["frames"])) == (None, {}, 4)
    color = open_image(write(color_dataset(NOISE)))
    with pytest.raises(VolumeError):
        image_volume(color)
    alone = open_image(tmp_path / "in" / "1.2.3.1.1-1000.dcm")
    assert geometry_json(alone)["frames"][0]["origin"] == [-20, -30, 10]
    with pytest.raises(VolumeError):
        image_volume(alone)


def test_outside_is_refused(stored):
    """A plane that misses the patient is an error, not a black picture."""
    image = stored()
    with pytest.raises(VolumeError):
        render(image, default_view(image, 0, PlaneView("axial", 500)))


def test_a_stored_series_knows_what_it_belongs_to(stored, tmp_path):
    """Study, series and coordinates are keyed pseudonyms, and do not change what the image is."""
    image = stored(FrameOfReferenceUID="1.2.3.4.5", StudyDescription="Smith")
    series = first_series(tmp_path / "in")
    assert image.describes.origin == series.origin
    assert series.origin.series == series.id
    assert len({*dataclasses.astuple(series.origin), ""}) == 5, "patient too"
    assert "1.2.3" not in repr(image.describes)
    other = image.belonging(Origin())
    assert (other.digest, other.describes.origin.study) == (image.digest, "")


GOOD = View("d", 0, Window(40, 400), plane=PlaneView("axial", 1.0)).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": 45},
        {"rotation": True},
        {"rotation": "90"},
        {"flipped": 1},
        {"plane": "axial"},
        {"plane": {"plane": "axial"}},
        {"plane": GOOD["plane"] | {"plane": "oblique"}},
        {"plane": GOOD["plane"] | {"projection": "sum"}},
        {"plane": GOOD["plane"] | {"position_mm": float("nan")}},
        {"plane": GOOD["plane"] | {"position_mm": 10**400}},
        {"plane": GOOD["plane"] | {"thickness_mm": -1}},
        {"plane": GOOD["plane"] | {"extra": 1}},
        {"rule": {"name": "x", "channels": []}},
        {"rule": {"name": "three_windows", "channels": ["lung", "bone", "smith"]}},
        {"rule": {"name": "three_windows", "channels": ["lung", "bone", 3]}},
        {"rule": {"name": "three_windows", "channels": ["lung"]}},
    ],
)
def test_json_is_strict(change):
    """Entries that cannot be are refused."""
    assert View.from_json(GOOD).plane == PlaneView("axial", 1.0)
    with pytest.raises(InvalidViewError):
        View.from_json(GOOD | change)


def test_views_of_earlier_versions_are_read():
    """A record without the newer entries is the view it was."""
    old = {name: GOOD[name] for name in ("image", "frame", "window", "voi_lut", "inverted", "region")}
    assert View.from_json(old) == View("d", 0, Window(40, 400))


def test_frames_without_places_are_no_volume(stored):
    """A picture says nowhere where it lies."""
    image = stored()
    bare = dataclasses.replace(image.describes, planes=())
    from viewers.image import Image

    with pytest.raises(MixedOrientationError):
        image_volume(Image(bare, image._source, "x"))
