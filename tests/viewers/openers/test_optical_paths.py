"""Of several optical paths and focal planes one is shown, whole, in whatever order their frames stand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.viewers.openers import made
from viewers.openers import open_slide

COLUMNS = -(-made.WIDTH // made.TILE)
TILES = list(made.tiles_of(made.tissue()))


def frame(number, path, depth):
    """Say where a frame is."""
    position, light, group = Dataset(), Dataset(), Dataset()
    position.ColumnPositionInTotalImagePixelMatrix = number % COLUMNS * made.TILE + 1
    position.RowPositionInTotalImagePixelMatrix = number // COLUMNS * made.TILE + 1
    if depth is not None:
        position.ZOffsetInSlideCoordinateSystem = depth
    group.PlanePositionSlideSequence = Sequence([position])
    if path is not None:
        light.OpticalPathIdentifier = path
        group.OpticalPathIdentificationSequence = Sequence([light])
    return group


def shown(tmp_path, frames, listed):
    """Write frames of (tile number, path, depth, pixels) and return what is shown, and the findings."""
    dataset = made.wsm_dataset(made.tissue(), 1, made.EXPLICIT)
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    paths = [Dataset() for _ in listed]
    for item, name in zip(paths, listed, strict=True):
        item.OpticalPathIdentifier = name
    dataset.OpticalPathSequence = Sequence(paths)
    dataset.PerFrameFunctionalGroupsSequence = Sequence([frame(*item[:3]) for item in frames])
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = b"".join(np.ascontiguousarray(item[3]).tobytes() for item in frames)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with open_slide(tmp_path / "a.dcm") as slide:
        found = {item.key: json.loads(json.dumps(item.values)) for item in slide.findings}
        return slide.read_region((0, 0), 0, slide.size), found


@pytest.mark.parametrize("listed", [["A", "B"], ["B", "A"], ["unused", "A"], []])
def test_paths_in_changing_order(listed, tmp_path):
    """The first listed path that has frames is shown at every place; without a list the first frame's."""
    frames = []
    for number, tile in enumerate(TILES):
        pair = [(number, "A", None, tile), (number, "B", None, 255 - tile)]
        frames += pair[::-1] if number % 2 else pair
    rgb, found = shown(tmp_path, frames, listed)
    expected = made.tissue() if listed != ["B", "A"] else 255 - made.tissue()
    assert np.array_equal(rgb, expected)
    assert found["finding.channels_left_out"] == {"count": 1}


def test_planes_in_changing_order(tmp_path):
    """The focal plane of the first frame is shown at every place."""
    frames = []
    for number, tile in enumerate(TILES):
        pair = [(number, "A", 0.001, tile), (number, "A", 0.005, 255 - tile)]
        frames += pair[::-1] if number % 2 else pair
    rgb, found = shown(tmp_path, frames, ["A"])
    assert np.array_equal(rgb, made.tissue())
    assert found["finding.channels_left_out"] == {"count": 1}


def test_one_plane_that_follows_the_tissue(tmp_path):
    """Frames of one plane at different heights are all of it; none is left out."""
    frames = [(number, "A", 0.001 * number, tile) for number, tile in enumerate(TILES)]
    rgb, found = shown(tmp_path, frames, ["A"])
    assert np.array_equal(rgb, made.tissue())
    assert "finding.channels_left_out" not in found


def test_frames_that_name_no_path(tmp_path):
    """Then there is one."""
    rgb, _ = shown(tmp_path, [(number, None, None, tile) for number, tile in enumerate(TILES)], ["A"])
    assert np.array_equal(rgb, made.tissue())
