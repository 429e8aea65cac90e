"""NIfTI files as images: slices, time points, colours, either transform of the header, damaged ones."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from viewers.assembly import image_volume
from viewers.errors import OpenError, TooLargeError, UnsupportedImageError
from viewers.intake import open_image
from viewers.limits import Limits
from viewers.nifti import read_nifti
from viewers.sniff import sniff
from viewers.store import load
from viewers.study import read_studies
from viewers.view import default_view, render

CODES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "uint16": 512, "complex64": 32}
AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0.0, -20], [0, 0.0, 3.0, 10], [0, 0, 0, 1]])
"""To RAS+, as the format has it."""


def nifti(values, affine=AFFINE, *, by="sform", order="<", code=None, slope=0.0, intercept=0.0):
    """Write NIfTI-1 of values indexed (x, y, z[, t]), Fortran order, as the standard lays it out."""
    shape = values.shape
    dims = [len(shape), *shape, *([1] * (7 - len(shape)))]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, *dims)
    bits = values.dtype.itemsize * 8
    struct.pack_into(f"{order}hh", header, 70, code or CODES[values.dtype.name], bits if code is None else 24)
    struct.pack_into(f"{order}8f", header, 76, 1.0, *spacing, 1, 1, 1, 1)
    struct.pack_into(f"{order}3f", header, 108, 352.0, slope, intercept)
    header[123] = 2
    if by == "sform":
        struct.pack_into(f"{order}hh", header, 252, 0, 1)
        struct.pack_into(f"{order}12f", header, 280, *affine[:3].ravel())
    else:  # no rotation: diagonal directions, of which the first is turned by qfac and the quaternion
        struct.pack_into(f"{order}hh", header, 252, 1, 0)
        struct.pack_into(f"{order}f", header, 76, -1.0)  # qfac
        # half a turn about y: x and z change sign, and qfac changes z back
        struct.pack_into(f"{order}6f", header, 256, 0.0, 1.0, 0.0, *affine[:3, 3])
    header[344:348] = b"n+1\0"
    data = values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    return bytes(header) + data


@pytest.fixture
def opened(tmp_path):
    def open_bytes(raw, limits=None):
        path = tmp_path / "upload"  # uploads have no name to tell them by
        path.write_bytes(raw)
        return open_image(path, limits)

    return open_bytes


VALUES = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3) - 7


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_slope_of_0_is_no_scaling(opened, tmp_path, order, slope):
    """The intercept counts only beside a slope (nifti1.h)."""
    raw = nifti(VALUES, order=order, slope=slope, intercept=-100.0)
    expected = VALUES * slope - 100 if slope else VALUES
    image = opened(raw)
    step = image.frame(1).code_map.slope
    assert np.abs(shown(image, 1).T - expected[:, :, 1]).max() <= (step / 2 + 1e-3 if slope else 0)
    (tmp_path / "file.nii").write_bytes(raw)
    assert np.allclose(read_nifti(tmp_path / "file.nii").array.T, expected)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_the_sform_goes_before_the_qform(opened, code):
    """Where both are stated and differ, whatever they are aligned to, as in other programs."""
    moved = AFFINE.copy()
    moved[:3, 3] += (5.0, -6.0, 7.0)
    raw = bytearray(nifti(VALUES, by="qform"))
    struct.pack_into("<hh", raw, 252, 1, code)
    struct.pack_into("<12f", raw, 280, *moved[:3].ravel())
    place = opened(bytes(raw)).describes.planes[0].position_mm
    assert place == pytest.approx((-moved[0, 3], -moved[1, 3], moved[2, 3]))
    struct.pack_into("<h", raw, 254, 0)
    place = opened(bytes(raw)).describes.planes[0].position_mm
    assert place == pytest.approx((-AFFINE[0, 3], -AFFINE[1, 3], AFFINE[2, 3]))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_sheared_sform_says_so(opened, order):
    """Directions that are not perpendicular are refused with the angle, not as an unknown file."""
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.25
    with pytest.raises(UnsupportedImageError, match=r"sform, 9\.5 deg of shear"):
        opened(nifti(VALUES, sheared, order=order))
    broken = bytearray(nifti(VALUES, order=order))
    struct.pack_into(f"{order}h", broken, 70, 12345)
    with pytest.raises(UnsupportedImageError) as caught:
        opened(bytes(broken))
    assert "shear" not in str(caught.value)


def shown(image, frame):
    read = image.frame(frame)
    return read.code_map.values()[read.codes]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("by", ["sform", "qform"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_slices_and_places(opened, by, order, packed):
    """Frames are the slices along the last axis; the place of a voxel is the header's, from RAS to LPS."""
    raw = nifti(VALUES, by=by, order=order)
    image = opened(gzip.compress(raw) if packed else raw)
    assert (image.frame_count, image.size.width, image.size.height) == (3, 5, 4)
    assert [shown(image, z).T.tolist() for z in range(3)] == [VALUES[:, :, z].tolist() for z in range(3)]
    volume = image_volume(image)
    values = volume.code_map.values()
    for index in ((0, 0, 0), (4, 0, 0), (0, 3, 0), (0, 0, 2), (2, 1, 1)):
        x, y, z, _ = AFFINE @ [*index, 1]
        column, row, slice_ = (round(value) for value in volume.to_index((-x, -y, z)))
        assert values[volume.array[slice_, row, column]] == VALUES[index]


def test_time_points(opened):
    """Four axes are volumes one after the other, each a volume of its own."""
    values = np.stack([VALUES, VALUES + 100, VALUES + 200], axis=-1)
    image = opened(nifti(values))
    assert image.frame_count == 9
    assert image.describes.passes == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert shown(image, 5).T.tolist() == values[:, :, 2, 1].tolist()
    assert image_volume(image, 7).array.shape == (3, 4, 5)


def test_colours(opened):
    """Three samples of 8 bits are colours."""
    rgb = np.random.default_rng(1).integers(0, 256, (5, 4, 3, 3), np.uint8)
    raw = nifti(np.zeros((5, 4, 3), np.uint8), code=128)[:352]
    image = opened(raw + np.moveaxis(rgb, -1, 0).tobytes(order="F"))
    assert image.is_color
    assert np.array_equal(np.moveaxis(image.frame(2).rgb, 0, 1), rgb[:, :, 2])
    assert render(image, default_view(image)).shape[2] == 3


def test_scaled_and_decimal_values(opened):
    """Slope and intercept of the header are applied; what is no number is drawn as 0."""
    image = opened(nifti(VALUES, slope=0.5, intercept=2.0))
    assert pytest.approx(VALUES[:, :, 1] * 0.5 + 2, abs=1e-3) == shown(image, 1).T
    decimal = VALUES.astype(np.float32) / 3
    decimal[0, 0, 0] = np.nan
    image = opened(nifti(decimal))
    assert shown(image, 0)[0, 0] == pytest.approx(0, abs=1e-3)
    assert pytest.approx(decimal[:, :, 2], abs=1e-3) == shown(image, 2).T


@pytest.mark.parametrize("value", [6e26, -3e38, np.inf, -1e19])
def test_absurd_numbers_are_drawn(opened, value):
    """Huge numbers of damaged files leave a picture that can be drawn, not a window that cannot be."""
    decimal = VALUES.astype(np.float32)
    decimal[1, 1, 0] = value
    image = opened(nifti(decimal))
    assert render(image, default_view(image)).shape[2] == 3


def test_a_single_slice(opened):
    """Two axes are one frame."""
    assert opened(nifti(VALUES[:, :, :1])).frame_count == 1
    assert opened(nifti(VALUES[:, :, 0])).frame_count == 1


def test_in_a_study(tmp_path):
    """Beside other files it is a series of its own, stored with its places."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "T1.nii.gz").write_bytes(gzip.compress(nifti(VALUES)))
    reader, studies = read_studies(folder, key=b"k" * 32)
    with reader:
        series = studies[0].series[0]
        series.stack.check()
        image = load(series.keep(tmp_path / "kept"))
    assert image_volume(image).array.shape == (3, 4, 5)


@pytest.mark.parametrize(
    "raw",
    [
        nifti(VALUES)[:352],
        nifti(VALUES)[:400],
        nifti(VALUES.astype(np.complex64)),
        nifti(VALUES, AFFINE * 0),
        nifti(VALUES, AFFINE * np.nan),
        gzip.compress(nifti(VALUES))[:-20],
    ],
)
def test_damaged_files_are_refused(opened, raw):
    """With an error of ours, or opened with what is there."""
    try:
        image = opened(raw)
    except OpenError:
        return
    assert np.isfinite(shown(image, image.frame_count - 1)).all()


def test_what_is_too_large(opened):
    """Before it is allocated; a bomb is not inflated."""
    huge = bytearray(nifti(VALUES))
    struct.pack_into("<8h", huge, 40, 3, 30000, 30000, 3000, 1, 1, 1, 1)
    with pytest.raises(TooLargeError):
        opened(bytes(huge))
    with pytest.raises(TooLargeError):
        opened(gzip.compress(nifti(VALUES) + bytes(10**6)), Limits(file_bytes=10**5))
    with pytest.raises(UnsupportedImageError):
        opened(nifti(np.zeros((2, 2, 2, 2, 2), np.int16)))


def test_other_gzip_files_are_none():
    """A gzip of anything else is told as what it is."""
    assert sniff(gzip.compress(b"nothing of the kind")) == "GZIP"
    assert sniff(b"\x1f\x8b damaged") == "GZIP"
