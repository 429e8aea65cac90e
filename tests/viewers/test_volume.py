"""Volumes of known geometry: places are where they are, left is left, and what is no volume is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.viewers.phantoms import AXIAL, CORONAL, SAGITTAL, place_values, turned, write_series
from viewers.assembly import volume_of
from viewers.errors import (
    GantryTiltError,
    MixedOrientationError,
    PlaneOutsideError,
    ShiftedSlicesError,
    TooFewSlicesError,
    TooLargeError,
    UnevenSpacingError,
    UnsupportedImageError,
    VolumeError,
)
from viewers.limits import Limits
from viewers.nifti import read_nifti, write_nifti
from viewers.planes import plane_image
from viewers.projection import project
from viewers.stack import Stack, slice_plane
from viewers.store import load, save
from viewers.study import StudyReader
from viewers.view import default_view, render
from viewers.volume import PLANES, Volume

DIRECTIONS = {
    "axial": AXIAL,
    "coronal": CORONAL,
    "sagittal": SAGITTAL,
    "oblique": turned(23, axis=0),
    "twisted": turned(-40, axis=2),
}


@pytest.fixture
def volume(tmp_path):
    """Return a function that makes a series of these directions and reads it as a volume."""

    def make(**options):
        write_series(tmp_path / "in", **options)
        with StudyReader(tmp_path / "in") as reader:
            for _ in reader:
                pass
            return volume_of(reader.studies()[0].series[0])

    return make


def values_at(volume, plane):
    """Return what the phantom has at each pixel of a plane."""
    rows, columns = np.indices(plane.values.shape)
    points = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)], axis=-1) @ plane.affine.T
    index = points @ np.linalg.inv(volume.affine).T
    limits = np.array(volume.array.shape[::-1]) - 1
    inside = ((index[..., :3] >= -1e-6) & (index[..., :3] <= limits + 1e-6)).all(axis=-1)
    return place_values(points[..., :3]), inside


@pytest.mark.parametrize("name", DIRECTIONS)
def test_values_are_where_they_are(volume, name):
    """The value of each voxel is that of its place; index to millimetres and back is the same."""
    made = volume(cosines=DIRECTIONS[name])
    assert made.array.dtype == np.int16
    for index in ((0, 0, 0), (3, 7, 2), (11, 9, 5)):
        place = made.to_mm(index)
        assert made.to_index(place) == pytest.approx(index, abs=1e-9)
        assert abs(int(made.array[index[::-1]]) - int(place_values(place))) <= 1
    assert made.spacing_mm == pytest.approx((2.0, 0.8, 0.5), abs=1e-5)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", DIRECTIONS)
def test_planes_show_the_patient(volume, name, plane):
    """Whatever the scan's direction, each pixel of a plane has the value of its place in the patient."""
    made = volume(cosines=DIRECTIONS[name], count=12)
    for position in made.positions_mm(plane)[[1, 5, -2]] + 0.11:
        cut = made.reslice(plane, float(position))
        expected, inside = values_at(made, cut)
        assert inside.sum() > 5
        assert np.abs(cut.values.astype(int) - expected)[inside].max() <= 3
        assert cut.affine[:3, 2] @ cut.affine[:3, 3] == pytest.approx(position)


def test_left_is_left(volume):
    """On axial and coronal planes the patient's left, brighter here, is on the right-hand side."""
    made = volume(cosines=CORONAL, count=10)
    for plane, right, bottom in (("axial", "L", "P"), ("coronal", "L", "F"), ("sagittal", "P", "F")):
        cut = made.reslice(plane, float(made.positions_mm(plane)[3]))
        assert (cut.marks.right, cut.marks.bottom) == (right, bottom)
        assert (np.diff(cut.values, axis=1) > 0).all()
    assert (np.diff(made.reslice("axial", 5.0).values, axis=0) > 0).all()
    assert (np.diff(made.reslice("coronal", -20.0).values, axis=0) < 0).all()


def test_proportions(volume):
    """Spacings of a straight plane are the scan's; of an oblique one those of its shortest edge."""
    straight = volume()
    assert straight.reslice("axial", 12).spacing_mm == pytest.approx((0.8, 0.5))
    assert straight.reslice("coronal", -28).spacing_mm == pytest.approx((2.0, 0.5))
    assert straight.reslice("sagittal", -18).spacing_mm == pytest.approx((2.0, 0.8))


def test_a_sphere_stays_round():
    """An oblique volume of a ball shows a disc as wide as it is high, in millimetres, in every plane."""
    step = np.diag([0.7, 0.7, 1.4])
    across = np.reshape(turned(30, axis=1), (2, 3))
    affine = np.eye(4)
    affine[:3, :3] = np.stack([*across, np.cross(*across)], axis=1) @ step
    k, j, i = np.mgrid[0:40, 0:80, 0:80]
    index = np.stack([i, j, k, np.ones_like(i)], axis=-1)
    middle = affine @ [40, 40, 20, 1]
    distance = np.linalg.norm(index @ affine.T - middle, axis=-1)
    made = Volume(np.where(distance < 20, 1000, 0).astype(np.int16), affine)
    for plane, axis in zip(PLANES, (2, 1, 0), strict=True):
        cut = made.reslice(plane, float(middle[axis]))
        rows, columns = np.nonzero(cut.values > 500)
        high, wide = np.ptp(rows) * cut.spacing_mm[0], np.ptp(columns) * cut.spacing_mm[1]
        assert high == pytest.approx(40, abs=2)
        assert wide == pytest.approx(40, abs=2)
        assert project(made, plane).values.max() == 1000


def test_projection_is_the_largest_along_the_line(volume):
    """A projection is the maximum of the array along the plane's axis, or of a slab of it."""
    made = volume()
    assert np.array_equal(project(made, "axial").values, made.array.max(axis=0))
    assert np.array_equal(project(made, "axial", "mip", 12, 14.5).values, made.array[1:3].max(axis=0))
    assert np.array_equal(project(made, "coronal").values[::-1], made.array.max(axis=1))
    with pytest.raises(VolumeError):
        project(made, "axial", "mip", 300, 400)


def test_outside_is_refused(volume):
    """A position that misses the volume is an error with the numbers."""
    with pytest.raises(PlaneOutsideError, match=r"axial plane at 500 mm .* from 10 to 20 mm"):
        volume().reslice("axial", 500)


@pytest.mark.parametrize(
    ("options", "error", "values"),
    [
        ({"offsets": [0, 2, 4, 8, 10]}, UnevenSpacingError, ("2.000", "4.000")),
        ({"offsets": [0, 2, 4.3, 6, 8]}, UnevenSpacingError, ("1.700", "2.300")),
        ({"count": 2}, TooFewSlicesError, (2, 3)),
        ({"shear": (0.0, 1.2, 0.0)}, GantryTiltError, ("50.2",)),
    ],
)
def test_what_is_no_volume_is_refused(volume, options, error, values):
    """A missing slice, uneven steps, two slices and a tilted gantry, with the numbers."""
    with pytest.raises(error) as caught:
        volume(**options)
    if values is not None:
        assert set(values) <= set(caught.value.values.values())


@pytest.mark.parametrize(
    ("moved", "shear", "refused"),
    [
        ((3, 4, 5, 6), 0.0, True),
        ((5, 6, 7, 8, 9), 0.0, True),
        ((5, 6, 7, 8, 9), 0.3, True),
        ((), 0.3, False),
        ((), 0.0, False),
    ],
)
def test_slices_moved_in_their_plane_are_refused(moved, shear, refused):
    """Even steps along the normal are not enough: a part that was moved is neither a volume nor a tilt."""
    planes = tuple(
        slice_plane((20.0 * (n in moved) + 0.04 * (-1) ** n, round(shear * 5 * n, 1), 5.0 * n), AXIAL)
        for n in range(10)
    )
    stack = Stack(planes, (1.0, 1.0))
    if refused:
        with pytest.raises(ShiftedSlicesError):
            stack.affine()
    else:
        assert stack.affine()[:3, 2] == pytest.approx((0, 5 * shear, 5), abs=0.02)


def test_steps_that_drift_are_refused():
    """Each step is even within rounding, and the middle still lies half a step and more off."""
    steps = np.cumsum([0.0] + [1.0] * 41 + [1.04] * 40)
    stack = Stack(tuple(slice_plane((0.0, 0.0, float(z)), AXIAL) for z in steps), (1.0, 1.0))
    assert stack.uneven() is None
    with pytest.raises(ShiftedSlicesError, match=r"0\.81 mm"):
        stack.check()


def test_mixed_orientations_are_refused():
    """Slices that are not parallel, or lie nowhere, form no volume."""
    planes = [slice_plane((0, 0, z), AXIAL) for z in range(3)]
    for odd in (None, slice_plane((0, 0, 3), turned(5))):
        with pytest.raises(MixedOrientationError) as caught:
            Stack((*planes, odd), (1.0, 1.0)).check()
        assert caught.value.values == {"found": 1, "count": 4}
    with pytest.raises(MixedOrientationError):
        Stack(tuple(planes), None).check()


def test_a_tilted_gantry_in_degrees():
    """The shear is the angle between the positions' line and the normal."""
    tilt = np.tan(np.radians(12))
    planes = tuple(slice_plane((0, z * tilt, z), AXIAL) for z in range(5))
    assert Stack(planes, (1.0, 1.0)).tilt_degrees() == pytest.approx(12.0)


def test_a_tilted_gantry_is_shown_but_not_written(volume, tmp_path):
    """Planes through sheared slices are right in the patient; NIfTI's directions cannot say the shear."""
    tilt = np.tan(np.radians(15))
    made = volume(count=8, shear=(0.0, tilt, 0.0))
    for plane in PLANES:
        cut = made.reslice(plane, float(np.mean(made.positions_mm(plane))))
        expected, inside = values_at(made, cut)
        assert inside.sum() > 20
        assert np.abs(cut.values.astype(int) - expected)[inside].max() <= 3
    with pytest.raises(GantryTiltError) as caught:
        write_nifti(made, tmp_path / "a.nii")
    assert caught.value.values["found"] == "15.0"


def test_values_that_are_not_whole_are_floats(volume):
    """A slope that is no whole number gives float32; slices may have slopes of their own."""
    made = volume(RescaleSlope="0.5", RescaleIntercept="0.25")
    assert made.array.dtype == np.float32
    stored = place_values(np.asarray(made.to_mm((2, 3, 1)))) + 1024
    assert made.array[1, 3, 2] == pytest.approx(stored * 0.5 + 0.25, abs=1)


def test_nifti_round_trip(volume, tmp_path):
    """A written volume is read with the same values and affine, gzipped or not."""
    made = volume(cosines=turned(23))
    for name in ("a.nii", "a.nii.gz"):
        write_nifti(made, tmp_path / name)
        again = read_nifti(tmp_path / name)
        assert np.array_equal(again.array, made.array)
        assert again.affine == pytest.approx(made.affine, abs=1e-4)
    with pytest.raises(TooLargeError):
        read_nifti(tmp_path / "a.nii", Limits(decoded_bytes=100))
    with pytest.raises(ValueError, match="nii"):
        write_nifti(made, tmp_path / "a.txt")
    (tmp_path / "b.nii").write_bytes(b"no volume")
    with pytest.raises(UnsupportedImageError):
        read_nifti(tmp_path / "b.nii")


@pytest.mark.parametrize("slope", ["1", "0.5"])
def test_a_plane_is_an_image(volume, tmp_path, slope):
    """Planes are drawn, stored and loaded as any image, with the series' windows and right proportions."""
    made = volume(RescaleSlope=slope)
    image = plane_image(made, "coronal")
    assert image.frame_count == 10
    assert image.modality == "CT"
    assert image.pixel_aspect == pytest.approx(4.0)
    assert image.windows(0)[0].key == "file-1"
    frame = image.frame(4)
    cut = made.reslice("coronal", float(made.positions_mm("coronal")[4]))
    assert frame.code_map.values()[frame.codes] == pytest.approx(cut.values, abs=0.05)
    assert render(image, default_view(image, 4)).shape == (24, 12, 3)
    save(image, tmp_path / "kept")
    kept = load(tmp_path / "kept")
    view = default_view(image, 4)
    assert np.array_equal(render(kept, view), render(image, view))
    assert plane_image(made, "axial").digest != image.digest


def test_a_nifti_volume_is_an_image(tmp_path):
    """Without a series there are windows of the pixels only."""
    write_nifti(Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)), tmp_path / "a.nii")
    image = plane_image(read_nifti(tmp_path / "a.nii"), "axial")
    assert (image.modality, image.frame_count) == ("", 3)
    assert render(image, default_view(image, 0)).shape == (4, 5, 3)


@pytest.mark.parametrize("scale", [(1e-5, 1.0, 1.0), (1.0, 1e-5, 1e3), (1e3, 1e3, 1e-6)])
@pytest.mark.parametrize("degrees", [0, 20])
def test_spacings_that_would_fill_the_memory_are_refused(scale, degrees):
    """A file may say anything: planes larger than can be drawn are refused before one is made."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape((*turned(degrees, 1), 0.0, 0.0, 1.0), (3, 3)).T * scale
    with pytest.raises(VolumeError):
        Volume(np.zeros((200, 200, 200), np.int16), affine)


def test_what_is_no_matrix_is_a_mistake():
    """A volume needs three axes and an affine that can be inverted."""
    with pytest.raises(ValueError, match="three axes"):
        Volume(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="invertible"):
        Volume(np.zeros((2, 2, 2)), np.zeros((4, 4)))
